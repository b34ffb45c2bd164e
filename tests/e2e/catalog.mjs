// Home and the feature table: finding one's way, sorting, filtering, paging, deep links.
import assert from "node:assert/strict";

import { assertSorted, openTable, pagerText, query, readNumber, rowIds, rows, total, until, untilQuery } from "./steps.mjs";

async function homeLeadsToTheSae({ page, flags, shot }) {
  await page.goto("/");
  await page.getByRole("heading", { name: "Models and sparse autoencoders" }).waitFor();
  await page.getByRole("cell", { name: flags.model }).or(page.getByRole("rowheader", { name: flags.model })).first().waitFor();
  await page.getByText("Memory").waitFor();
  await shot("home");
  await page.getByRole("link", { name: flags.sae, exact: true }).click();
  await rows(page).first().waitFor();
  assert.equal(new URL(page.url()).pathname, `/sae/${flags.sae}`);
  await page.goBack();
  await page.getByRole("heading", { name: "Models and sparse autoencoders" }).waitFor();
}

async function theTableIsSortedByTheServer({ page, flags, shot }) {
  await openTable(page, flags);
  const before = await rowIds(page);
  await page.getByRole("columnheader", { name: "Density" }).getByRole("button").click();
  await untilQuery(page, "sort", "density");
  await page.locator("th[aria-sort=descending]").waitFor();
  const densities = () => rows(page).locator("td:nth-child(4)").allTextContents();
  await until("rows", () => rowIds(page), (ids) => ids.join() !== before.join());
  assertSorted((await densities()).map(readNumber), "densities fall");
  await shot("sae");
  await page.getByRole("columnheader", { name: "Density" }).getByRole("button").click();
  await page.locator("th[aria-sort=ascending]").waitFor();
  assert.equal(query(page).dir, undefined);
  await page.goBack();
  await page.locator("th[aria-sort=descending]").waitFor();
}

async function filtersNarrowTheTableAndStayInTheAddress({ page, flags }) {
  await openTable(page, flags, "&sort=density&dir=desc");
  const everything = await total(page);
  await page.getByLabel("Density, at most").fill("0.01");
  await untilQuery(page, "dmax", "0.01");
  await until("total", () => total(page), (n) => n < everything);
  const densities = await rows(page).locator("td:nth-child(4)").allTextContents();
  for (const density of densities.map(readNumber)) assert.ok(density <= 1.0001, `${density} % is above the bound`);
  await page.getByLabel("Only features that ever fired").uncheck();
  await untilQuery(page, "alive", "0");
  await page.getByRole("button", { name: "Clear" }).click();
  await until("total", () => total(page), (n) => n === everything);
  assert.equal(query(page).dmax, undefined);
}

async function tokensAreFoundByTheirText({ page, flags }) {
  await openTable(page, flags, "&sort=max&dir=desc");
  const everything = await total(page);
  const token = (await rows(page).first().locator("td:nth-child(2)").innerText()).replaceAll("·", "").trim();
  await page.keyboard.press("/");
  await page.keyboard.type(token);
  await untilQuery(page, "tok", token);
  const found = await until("total", () => total(page), (n) => n > 0 && n < everything);
  await page.reload();
  await rows(page).first().waitFor();
  assert.equal(await page.getByLabel("Token text").inputValue(), token);
  assert.equal(await total(page), found);
}

async function pagesGoForwardAndBack({ page, flags }) {
  await openTable(page, flags, "&size=25&alive=0");
  const first = await rowIds(page);
  assert.equal(first.length, 25);
  await page.getByRole("button", { name: "Next" }).click();
  await until("page", () => pagerText(page), (text) => text.startsWith("26–50"));
  const second = await until("rows", () => rowIds(page), (ids) => ids.join() !== first.join());
  assert.equal(new Set([...first, ...second]).size, 50);
  await page.reload();
  await until("rows", () => rowIds(page), (ids) => ids.join() === second.join());
  await page.goBack();
  await until("rows", () => rowIds(page), (ids) => ids.join() === first.join());
  await page.goForward();
  await until("rows", () => rowIds(page), (ids) => ids.join() === second.join());
  await page.getByRole("button", { name: "First" }).click();
  await until("rows", () => rowIds(page), (ids) => ids.join() === first.join());
  await page.getByRole("button", { name: "Next" }).click();
  await until("rows", () => rowIds(page), (ids) => ids.join() === second.join());
  await page.getByRole("button", { name: "Previous" }).click();
  await until("rows", () => rowIds(page), (ids) => ids.join() === first.join());
}

async function keysMoveThroughTheTable({ page, flags }) {
  await openTable(page, flags);
  const ids = await rowIds(page);
  for (const key of ["j", "j", "j", "k"]) await page.keyboard.press(key);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), ids[1]);
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/f/${flags.sae}/${ids[1]}*`);
}

async function theDialogJumpsToAFeature({ page, flags }) {
  await openTable(page, flags);
  await page.keyboard.press("g");
  await page.getByLabel("Feature", { exact: true }).fill("999999999");
  await page.keyboard.press("Enter");
  await page.getByText("a whole number from 0 to").waitFor();
  await page.getByLabel("Feature", { exact: true }).fill("3");
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/f/${flags.sae}/3*`);
}

async function shortcutsAreOffWhileTypingAndCanBeSwitchedOff({ page, flags }) {
  await openTable(page, flags);
  await page.getByLabel("Token text").focus();
  await page.keyboard.type("g?");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.getByLabel("Single-key shortcuts are on").uncheck();
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  await page.keyboard.press("g");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  await page.getByRole("button", { name: "Keyboard shortcuts and help" }).click();
  await page.getByLabel("Single-key shortcuts are on").check();
}

async function unknownIdsAreToldInTheServersWords({ page, flags }) {
  await page.goto("/sae/no-such-sae");
  await page.getByRole("alert").getByText("no-such-sae").waitFor();
  await page.goto(`/f/${flags.sae}/99999999`);
  await page.getByText("has no such feature").waitFor();
  await page.goto("/nowhere");
  await page.getByText("no page at this address").waitFor();
}

export const tests = [
  ["home leads to the SAE and back", homeLeadsToTheSae],
  ["the feature table is sorted by the server", theTableIsSortedByTheServer],
  ["filters narrow the table and stay in the address", filtersNarrowTheTableAndStayInTheAddress],
  ["tokens are found by their text", tokensAreFoundByTheirText],
  ["pages go forward and back", pagesGoForwardAndBack],
  ["j, k and Enter move through the table", keysMoveThroughTheTable],
  ["g jumps to a feature", theDialogJumpsToAFeature],
  ["shortcuts are off while typing and can be switched off", shortcutsAreOffWhileTypingAndCanBeSwitchedOff],
  ["unknown ids are told in the server's words", unknownIdsAreToldInTheServersWords],
];
