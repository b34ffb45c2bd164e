// Training: recipes, all settings, plans, sweeps with their front, comparing runs, caches, and evaluations.
import assert from "node:assert/strict";

import { query, until, untilQuery } from "./steps.mjs";

const now = () => Date.now().toString(36);
const plan = (page) => page.getByTestId("plan");
const planState = (page, state) => until("the plan", () => plan(page).getAttribute("data-plan"), (found) => found === state, 30_000);
const form = (flags, more) => `/new/training?model=${flags.model}&corpus=${flags.corpus}${more}`;
// Large enough for a curve, small enough for seconds.
const small = "&tokens=40960&batch_size=512&lr_warmup_steps=4";

async function aRecipeFillsTheForm({ page, flags, shot }) {
  await page.goto(form(flags, ""));
  await page.getByLabel("Recipe").waitFor();
  const recipes = await page.getByLabel("Recipe").locator("option").allTextContents();
  assert.ok(recipes.some((text) => text.startsWith("gemma-scope")), `recipes: ${recipes.join()}`);
  await page.getByLabel("Recipe").selectOption("gemma-scope");
  await untilQuery(page, "preset", "gemma-scope");
  await page.getByTestId("preset").getByText("arXiv:2408.05147").waitFor();
  assert.equal(await page.getByLabel("Architecture").inputValue(), "jumprelu");
  assert.equal(await page.getByLabel("k", { exact: true }).count(), 0, "JumpReLU has no k");
  assert.match(await page.getByLabel("Learning rate").getAttribute("placeholder"), /default: 0.00007/);
  await page.getByLabel("Tokens", { exact: true }).fill("1000000");
  await page.getByLabel("Features (d_sae)").fill("1024");
  await planState(page, "ready");
  await shot("training-recipe");
  await page.reload();
  await page.getByTestId("preset").waitFor();
  assert.equal(await page.getByLabel("Features (d_sae)").inputValue(), "1024");
}

async function everySettingCanBeFound({ page, flags, shot }) {
  await page.goto(form(flags, "&d_sae=512&k=16"));
  await page.getByText("All settings").click();
  await page.getByLabel("Find a setting").fill("cosine");
  const schedule = page.getByLabel("lr_schedule");
  await schedule.selectOption("cosine");
  await untilQuery(page, "lr_schedule", "cosine");
  assert.equal(await page.getByLabel("auxk_coefficient").count(), 0, "what is not searched for is away");
  await page.getByLabel("Find a setting").fill("");
  await page.getByLabel("auxk_coefficient").waitFor();
  assert.equal(await page.getByLabel("bandwidth").count(), 0, "what belongs to another architecture is away");
  await planState(page, "ready");
  await until("the default of adam_beta1", () => page.getByLabel("adam_beta1").getAttribute("placeholder"), (text) => text === "default: 0.9");
  await shot("training-all-settings");
}

async function thePlanRefusesWhatCannotWork({ page, flags }) {
  await page.goto(form(flags, "&d_sae=64&k=5000"));
  await planState(page, "refused");
  assert.equal(await page.getByLabel("k", { exact: true }).getAttribute("aria-invalid"), "true");
  await page.getByLabel("k", { exact: true }).fill("8");
  await planState(page, "ready");
  assert.match(await plan(page).innerText(), /Steps\s*\d/);
}

async function listsMakeASweep({ page, flags, shared, shot }) {
  const id = `e2e-sweep-${now()}`;
  await page.goto(form(flags, `${small}&d_sae=64,128&sae_id=${id}`));
  await page.getByLabel("k", { exact: true }).fill("4, 8");
  await page.getByRole("heading", { name: "Train a sweep of SAEs" }).waitFor();
  const members = page.getByTestId("members").locator("li");
  await until("SAEs of the sweep", () => members.count(), (n) => n === 4);
  await page.getByTestId("members").getByText(`${id}-d128-k8`).waitFor();
  await planState(page, "ready");
  await shot("training-sweep");
  await page.getByRole("button", { name: "Start training 4 SAEs" }).click();
  await page.getByRole("heading", { name: "Training 4 SAEs" }).waitFor();
  shared.sweep = new URL(page.url()).pathname.split("/").at(-1);
  await page.getByTestId("chart-explained_variance").locator("canvas").waitFor({ timeout: 120_000 });
  assert.equal(await page.getByTestId("legend").getByRole("button").count(), 4);
  await until("points of the front", () => page.getByTestId("pareto").locator("svg path").count(), (n) => n === 4, 60_000);
  await page.getByTestId("advice").waitFor();
}

async function membersAreSwitchedOffAndTheAddressKnows({ page, shared, flags }) {
  await openSweep(page, shared, flags);
  const [first] = await page.getByTestId("legend").getByRole("button").all();
  await first.click();
  assert.equal(await first.getAttribute("aria-pressed"), "false");
  const n = await page.getByTestId("legend").getByRole("button").count();
  await until("points of the front", () => page.getByTestId("pareto").locator("svg path").count(), (found) => found === n - 1);
  assert.ok(query(page).hide, "the address says which is off");
  await page.reload();
  await page.getByTestId("legend").locator("[aria-pressed=false]").waitFor();
}

async function theFrontIsATableToo({ page, shared, flags, shot }) {
  await openSweep(page, shared, flags);
  const state = page.locator("[data-state]").first();
  await until("the end of the sweep", () => state.getAttribute("data-state"), (found) => ["succeeded", "running"].includes(found), 120_000);
  await shot("sweep");
  await page.getByRole("radio", { name: "Table" }).click();
  await page.getByTestId("pareto").getByRole("columnheader", { name: "On the front" }).waitFor();
  const rows = page.getByTestId("pareto").locator("tbody tr");
  const l0s = await rows.locator("td:nth-child(2)").allTextContents();
  assert.deepEqual([...l0s].map(Number), [...l0s].map(Number).sort((a, b) => a - b), "by L0");
  assert.ok((await rows.getByText("yes").count()) >= 1);
}

async function runsAreCompared({ page, flags, shot }) {
  await page.goto("/jobs");
  const boxes = page.getByRole("checkbox", { name: /^Compare Training/ });
  await boxes.nth(1).waitFor();
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByRole("link", { name: "Compare 2 jobs" }).click();
  await page.getByRole("heading", { name: "Compare training runs" }).waitFor();
  assert.equal(query(page).jobs.split(",").length, 2);
  await page.getByTestId("runs").waitFor();
  await page.getByTestId("legend").waitFor();
  await page.getByTestId("chart-explained_variance").locator("canvas").waitFor();
  await page.getByTestId("runs").getByRole("columnheader", { name: "Explained variance" }).waitFor();
  await until("points of the scatter", () => page.getByTestId("pareto").locator("svg path").count(), (n) => n >= 1);
  await shot("compare");
  await page.getByRole("button", { name: /^Remove .* from the comparison/ }).first().click();
  await until("?jobs", () => query(page).jobs.split(",").length, (n) => n === 1);
}

async function anSaeIsEvaluated({ page, flags, shot }) {
  await page.goto(`/sae/${flags.sae}?corpus=${flags.corpus}`);
  const card = page.getByTestId("evaluations");
  const details = card.getByRole("button", { name: /^Details\s+of the evaluation/ });
  const none = card.getByText("Not evaluated yet");
  await details.or(none).first().waitFor();
  const before = await details.count();
  await page.getByRole("button", { name: "Evaluate…" }).click();
  const asked = page.getByRole("form", { name: "New evaluation" });
  await asked.getByLabel("Tokens", { exact: true }).fill("many");
  await asked.getByRole("button", { name: "Start" }).click();
  await asked.getByText("not a whole number").waitFor();
  await asked.getByLabel("Tokens", { exact: true }).fill("2048");
  await asked.getByRole("button", { name: "Start" }).click();
  await until("evaluations", () => details.count(), (n) => n === before + 1, 120_000);
  await details.first().click();
  const shown = page.getByTestId("evaluation");
  await shown.getByText("CE loss recovered", { exact: true }).waitFor();
  await shown.getByText("(ce_zero - ce_sae) / (ce_zero - ce_clean)").waitFor();
  assert.equal(await shown.locator("svg").count(), 3);
  await shot("evaluation");
  await shown.getByRole("radio", { name: "Tables" }).click();
  assert.equal(await shown.locator("table").count(), 3);
  assert.ok(query(page).eval);
}

async function activationsAreCachedForTraining({ page, flags, shot }) {
  const id = `e2e-acts-${now()}`;
  await page.goto(`/new/caching?model=${flags.model}&corpus=${flags.corpus}`);
  await page.getByLabel("New cache's id").fill(id);
  await shot("caching");
  await page.getByRole("button", { name: "Start caching" }).click();
  await page.getByRole("heading", { name: `Caching ${id}` }).waitFor();
  const cancel = page.getByRole("button", { name: /^Cancel Caching/ });
  const state = page.locator("[data-state]").first();
  await until("a state", () => state.getAttribute("data-state"), (found) => found !== "queued", 60_000);
  if (await cancel.isVisible()) {
    await cancel.click();
    await page.getByRole("button", { name: "Cancel the job" }).click();
  }
  await until("the end", () => state.getAttribute("data-state"), (found) => ["cancelled", "succeeded"].includes(found), 120_000);
}

// The sweep of this run of the tests, or any there is.
export async function openSweep(page, shared) {
  if (shared.sweep === undefined) {
    await page.goto("/jobs");
    const link = page.getByRole("link", { name: /^Training \d+ SAEs/ }).first();
    await link.waitFor();
    shared.sweep = (await link.getAttribute("href")).split("/").at(-1);
  }
  await page.goto(`/jobs/${shared.sweep}`);
  await page.getByTestId("pareto").locator("svg path").first().waitFor({ timeout: 60_000 });
}

export const tests = [
  ["a recipe fills the form", aRecipeFillsTheForm],
  ["every setting can be found", everySettingCanBeFound],
  ["the plan refuses what cannot work", thePlanRefusesWhatCannotWork],
  ["lists make a sweep", listsMakeASweep],
  ["members are switched off and the address knows", membersAreSwitchedOffAndTheAddressKnows],
  ["the front is a table, too", theFrontIsATableToo],
  ["runs are compared", runsAreCompared],
  ["an SAE is evaluated", anSaeIsEvaluated],
  ["activations are cached for training", activationsAreCachedForTraining],
];
