// The feature page: statistics, examples, own text, neighbours.
import assert from "node:assert/strict";

import { openFeature, query, readNumber, assertSorted, until, untilQuery } from "./steps.mjs";

const answer = (page) => page.getByTestId("test-answer");

async function theFeatureIsShown({ page, flags, shared, shot }) {
  const feature = await openFeature(page, flags, shared);
  await page.getByRole("heading", { level: 1, name: `#${feature}` }).waitFor();
  for (const name of ["Statistics", "Activations", "Logit effects", "Examples", "Test own text", "Steer"]) {
    await page.getByRole("heading", { name, exact: true }).waitFor();
  }
  const activations = await page.getByTestId("example").locator("b").allTextContents();
  assertSorted(activations.map(readNumber), "the strongest example comes first");
  assert.ok((await page.getByTestId("example").first().locator("[class*=mark]").count()) === 1, "one boxed token");
  const density = page.locator("[data-definition=density]");
  await density.hover();
  await page.getByRole("tooltip").getByText("Share of the corpus").waitFor();
  await page.mouse.move(5, 5);
  await shot("feature");
}

async function tokensTellTheirActivation({ page, flags, shared, shot }) {
  await openFeature(page, flags, shared);
  const marked = page.getByTestId("example").first().locator("[class*=mark]");
  await marked.hover();
  const tip = page.getByTestId("token-tip");
  await tip.getByText("activation").waitFor();
  await shot("feature-tooltip");
  await marked.focus();
  const before = await page.evaluate(() => document.activeElement.getAttribute("data-i"));
  await page.keyboard.press("ArrowLeft");
  const after = await page.evaluate(() => document.activeElement.getAttribute("data-i"));
  assert.equal(Number(after), Number(before) - 1);
  assert.match(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), /^token .+ position \d+$/);
}

async function examplesByBandHaveBoundsAndShare({ page, flags, shared, shot }) {
  await openFeature(page, flags, shared);
  await page.getByRole("radio", { name: "By band" }).click();
  await untilQuery(page, "ex", "bands");
  const bands = page.getByTestId("band");
  await bands.first().waitFor();
  for (const heading of await bands.locator("h3").allTextContents()) assert.match(heading, /Band \d+.+–.+% of activations/);
  await page.getByRole("radio", { name: "Full" }).click();
  await page.getByLabel("Line breaks").check();
  await shot("feature-bands");
  await page.reload();
  await bands.first().waitFor();
  assert.deepEqual([query(page).ex, query(page).ctx, query(page).breaks], ["bands", "full", "1"]);
  assert.ok(await page.getByLabel("Line breaks").isChecked());
}

async function theHistogramIsAlsoATable({ page, flags, shared }) {
  await openFeature(page, flags, shared);
  await page.getByRole("radio", { name: "Table" }).click();
  const shares = await page.getByRole("region", { name: "Histogram of activation as a table" }).locator("td:last-child").allTextContents();
  const sum = shares.map(readNumber).reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(sum - 100) < 2, `shares sum to ${sum} %`);
  await page.reload();
  await page.getByRole("region", { name: "Histogram of activation as a table" }).waitFor();
}

async function ownTextIsComputedLive({ page, flags, shared, shot }) {
  await openFeature(page, flags, shared, "&ctx=full");
  // Cut out of its document a text may read differently to the model: one of the strongest examples must fire.
  const verdict_of = async (i) => {
    if (i > 0) await page.getByRole("button", { name: "Clear" }).click();
    await answer(page).waitFor({ state: "detached" });
    await page.getByTestId("example").nth(i).getByRole("button", { name: /Copy this example/ }).click();
    return answer(page).getByRole("status").innerText();
  };
  const n_examples = Math.min(5, await page.getByTestId("example").count());
  let found = "";
  for (let i = 0; i < n_examples && !found.startsWith("Fires"); i++) found = await verdict_of(i);
  assert.match(found, /^Fires on \d+ of \d+ tokens/);
  const text = query(page).text;
  assert.ok(text.length > 0);
  assert.equal(await page.getByLabel("Text to test this feature on").inputValue(), text.replaceAll("\r\n", "\n"));
  const values = await answer(page).locator("small").allTextContents();
  assert.ok(values.some((value) => /\d/.test(value)), "values stand below active tokens");
  await page.getByText("own text", { exact: true }).waitFor();
  await shot("feature-own-text");
  const verdict = await answer(page).getByRole("status").innerText();
  await page.reload();
  await until("verdict", () => answer(page).getByRole("status").innerText(), (now) => now === verdict);
}

async function staleQuestionsAreCancelled({ page, flags, shared }) {
  await openFeature(page, flags, shared);
  const cancelled = [];
  page.on("requestfailed", (request) => cancelled.push(request.url()));
  let held = 0;
  await page.route("**/ComputeActivations", async (route) => {
    if (held++ === 0) await new Promise((resolve) => setTimeout(resolve, 2500));
    await route.continue().catch(() => {});
  });
  const box = page.getByLabel("Text to test this feature on");
  await box.pressSequentially("one text");
  await until("first question", async () => held, (n) => n === 1);
  await box.pressSequentially(" and more");
  await answer(page).waitFor();
  await until("cancelled questions", async () => cancelled.filter((url) => url.endsWith("ComputeActivations")).length, (n) => n >= 1);
  assert.equal(query(page).text, "one text and more");
}

async function neighboursKeepTheSettings({ page, flags, shared }) {
  const feature = Number(await openFeature(page, flags, shared, "&ctx=short&text=hello"));
  const link = page.getByTitle("Next alive feature");
  const there = (await link.count()) > 0 ? link : page.getByTitle("Previous alive feature");
  const href = new URL(await there.getAttribute("href"), page.url());
  await page.keyboard.press((await link.count()) > 0 ? "j" : "k");
  await page.waitForURL((url) => url.pathname === href.pathname);
  assert.notEqual(Number(href.pathname.split("/").at(-1)), feature);
  assert.deepEqual([query(page).ctx, query(page).text], ["short", "hello"]);
  await page.goBack();
  await page.waitForURL(`**/${feature}?*`);
  await page.keyboard.press("r");
  await page.waitForURL((url) => !url.pathname.endsWith(`/${feature}`));
  await page.getByTestId("example").first().waitFor();
}

export const tests = [
  ["the feature page shows statistics, logits and examples", theFeatureIsShown],
  ["tokens tell their activation to the pointer and to the keyboard", tokensTellTheirActivation],
  ["examples by band have bounds and share, and survive a reload", examplesByBandHaveBoundsAndShare],
  ["the histogram is also a table", theHistogramIsAlsoATable],
  ["own text is computed live, from an example, and survives a reload", ownTextIsComputedLive],
  ["stale questions are cancelled", staleQuestionsAreCancelled],
  ["neighbours and random keep the settings", neighboursKeepTheSettings],
];
