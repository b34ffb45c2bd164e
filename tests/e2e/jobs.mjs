// Jobs: the live list, a training job with its curves, the forms and their errors, the one stream of a tab.
import assert from "node:assert/strict";

import { query, until } from "./steps.mjs";

const chart = (page, name) => page.getByTestId(`chart-${name}`);
const points = async (page, name) => Number(await chart(page, name).getAttribute("data-points"));
const stream = "featurescope.v1.JobService/WatchJobs";

async function theListIsLive({ page, shot }) {
  await page.goto("/jobs");
  await page.getByRole("heading", { name: "Jobs", exact: true }).waitFor();
  await page.getByRole("status").getByText("live").waitFor();
  await shot("jobs");
}

async function wrongNumbersAreToldAtTheirFields({ page, flags }) {
  await page.goto(`/new/training?model=${flags.model}&corpus=${flags.corpus}`);
  await page.getByLabel("k", { exact: true }).fill("none");
  await page.getByLabel("New SAE's id").fill("Not An Id");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.getByText("not a number").first().waitFor();
  assert.equal(await page.getByLabel("k", { exact: true }).getAttribute("aria-invalid"), "true");
  assert.equal(await page.getByLabel("New SAE's id").getAttribute("aria-invalid"), "true");
  assert.equal(query(page).k, "none");
  await page.getByLabel("New SAE's id").fill("e2e-wrong");
  await page.getByLabel("k", { exact: true }).fill("5000");
  await page.getByLabel("Features (d_sae)").fill("64");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.locator("[aria-invalid=true], [role=alert]").first().waitFor();
  assert.ok(page.url().includes("/new/training"), "a wrong job is not submitted");
}

// Trains for real, looks at the curves while they grow, and cancels.
async function aTrainingJobDrawsItsCurves({ page, flags, shared, shot }) {
  const id = `e2e-${Date.now().toString(36)}`;
  await page.goto(`/new/training?model=${flags.model}&corpus=${flags.corpus}&d_sae=256&k=8&tokens=200000000&batch_size=512&sae_id=${id}`);
  await shot("training-form");
  await page.getByRole("button", { name: "Start training" }).click();
  await page.getByRole("heading", { name: `Training ${id}` }).waitFor();
  shared.job = new URL(page.url()).pathname;
  for (const name of ["loss", "explained_variance", "fvu", "l0", "dead_share", "learning_rate"]) await chart(page, name).locator("canvas").waitFor({ timeout: 90_000 });
  const n = await until("points of the loss curve", () => points(page, "loss"), (found) => found >= 2, 90_000);
  await until("new points of the loss curve", () => points(page, "loss"), (found) => found > n, 60_000);
  await shot("job");
  await page.getByRole("radio", { name: "Log" }).click();
  await page.reload();
  await until("points after a reload", () => points(page, "loss"), (found) => found > n, 30_000);
  assert.ok(await page.getByRole("radio", { name: "Log" }).isChecked());
  await page.getByRole("button", { name: /^Cancel Training/ }).click();
  await page.getByRole("button", { name: "Cancel the job" }).click();
  await page.locator("[data-state=cancelled]").waitFor({ timeout: 60_000 });
}

async function aTabHoldsOneStreamAndGivesItUpWhenHidden({ page }) {
  let open = 0;
  let most = 0;
  page.on("request", (request) => {
    if (request.url().endsWith(stream)) most = Math.max(most, ++open);
  });
  const closed = (request) => {
    if (request.url().endsWith(stream)) open--;
  };
  page.on("requestfailed", closed);
  page.on("requestfinished", closed);
  await page.goto("/jobs");
  await page.getByRole("status").getByText("live").waitFor();
  await page.locator("a[data-row]").first().click();
  await page.getByRole("heading", { name: "Specification" }).waitFor();
  await page.waitForTimeout(500);
  assert.equal(most, 1, "one stream serves the list and the job");
  const setVisibility = (value) =>
    page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, value);
  await setVisibility("hidden");
  await until("open streams of a hidden tab", async () => open, (n) => n === 0);
  await setVisibility("visible");
  await until("open streams of a visible tab", async () => open, (n) => n === 1);
  await page.goto("/");
}

export const tests = [
  ["the list of jobs is live", theListIsLive],
  ["wrong numbers are told at their fields", wrongNumbersAreToldAtTheirFields],
  ["a training job draws its curves and can be cancelled", aTrainingJobDrawsItsCurves],
  ["a tab holds one stream and gives it up when hidden", aTabHoldsOneStreamAndGivesItUpWhenHidden],
];
