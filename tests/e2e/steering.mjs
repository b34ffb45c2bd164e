// The steering panel: both texts stream in, with the proof; a link shows the same again.
import assert from "node:assert/strict";

import { openFeature, query, until, untilQuery } from "./steps.mjs";

const limit_ms = 60_000;
const panes = (page) => page.getByTestId("generation");
const pane = (page, name) => page.getByRole("region", { name, exact: true });
const tokens = (page, name) => pane(page, name).locator("[data-i]").allTextContents();

async function untilFinished(page) {
  await until("generation", () => panes(page).getAttribute("data-status"), (status) => status !== "running", limit_ms);
  const alert = page.locator("#steer [role=alert]");
  if ((await alert.count()) > 0) throw new Error(await alert.innerText());
  assert.equal(await panes(page).getAttribute("data-status"), "finished");
}

async function generate(page) {
  await page.getByRole("button", { name: "Generate" }).click();
  await panes(page).waitFor();
  await untilFinished(page);
}

async function steeringFinishesWithAProof({ page, flags, shared, shot }) {
  await openFeature(page, flags, shared);
  await page.keyboard.press("s");
  await page.getByLabel("Prompt").fill("The king");
  await page.getByLabel("Value, as a number").fill("2");
  await page.getByLabel("New tokens").fill("24");
  await generate(page);
  for (const name of ["Default", "Steered"]) {
    const n = (await tokens(page, name)).length;
    assert.ok(n > 0 && n <= 24, `${name} has ${n} tokens`);
  }
  const proof = page.getByTestId("proof");
  await proof.getByText("Positions edited").waitFor();
  assert.ok((await proof.locator("tbody tr").count()) > 0, "the proof lists positions");
  await pane(page, "Steered").locator("[data-i]").first().hover();
  await page.getByTestId("token-tip").getByText("log-probability").waitFor();
  await page.mouse.move(5, 5);
  await page.locator("#steer").scrollIntoViewIfNeeded();
  await shot("steering");
}

async function aLinkShowsTheSameTextAgain({ page, flags, shared }) {
  await openFeature(page, flags, shared, "&steer=1&op=add&val=1.5&max=16&seed=7&temp=0.8&prompt=Once");
  await generate(page);
  const first = [await tokens(page, "Default"), await tokens(page, "Steered")];
  assert.equal(query(page).run, "1");
  await page.reload();
  await panes(page).waitFor();
  await untilFinished(page);
  assert.deepEqual([await tokens(page, "Default"), await tokens(page, "Steered")], first);
  assert.equal(await page.getByLabel("Value, as a number").inputValue(), "1.5");
  assert.equal(await page.getByLabel("Seed").inputValue(), "7");
}

async function everyOperationRuns({ page, flags, shared }) {
  await openFeature(page, flags, shared, "&steer=1&max=6&prompt=It");
  for (const operation of ["Set", "Scale", "Ablate", "Add"]) {
    await page.getByRole("radio", { name: operation, exact: true }).click();
    await untilQuery(page, "op", operation === "Add" ? undefined : operation.toLowerCase());
    assert.equal(await page.getByLabel("Unit").count(), operation === "Set" || operation === "Add" ? 1 : 0);
    await generate(page);
  }
  for (const unit of ["residual", "p99", "feature"]) {
    await page.getByLabel("Unit").selectOption(unit);
    await untilQuery(page, "unit", unit);
    await generate(page);
  }
  await page.getByRole("radio", { name: "Dropped" }).click();
  await untilQuery(page, "err", "dropped");
  await generate(page);
}

async function stopStops({ page, flags, shared }) {
  await openFeature(page, flags, shared, "&steer=1&max=200&prompt=It");
  await page.getByRole("button", { name: "Generate" }).click();
  await pane(page, "Steered").locator("[data-i]").first().waitFor();
  await page.getByRole("button", { name: "Stop" }).click({ timeout: 3000 }).catch(() => {});
  await until("generation", () => panes(page).getAttribute("data-status"), (status) => ["stopped", "finished"].includes(status));
  const n = (await tokens(page, "Steered")).length;
  await page.waitForTimeout(400);
  assert.equal((await tokens(page, "Steered")).length, n, "no token comes after the stop");
  await generate(page);
}

export const tests = [
  ["steering streams both texts and ends with a proof", steeringFinishesWithAProof],
  ["a link shows the same generation again", aLinkShowsTheSameTextAgain],
  ["every operation, unit and error term runs", everyOperationRuns],
  ["stop stops, and another run is possible", stopStops],
];
