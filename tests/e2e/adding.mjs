// Adding models, SAEs and corpora from the browser, what was recognised, and the check.
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

import { until } from "./steps.mjs";

const demo = fileURLToPath(new URL("../../deploy/demo", import.meta.url));
const golden = fileURLToPath(new URL("../golden", import.meta.url));
const now = () => Date.now().toString(36);

async function aModelIsAddedFromAPath({ page, shot }) {
  const id = `e2e-model-${now()}`;
  await page.goto("/");
  await page.getByRole("link", { name: "Add a model…" }).click();
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByText("a path is needed").waitFor();
  await page.getByLabel("Directory").fill(demo);
  await page.getByLabel("New model's id").fill(id);
  await shot("model-form");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByRole("button", { name: id, exact: true }).waitFor({ timeout: 120_000 });
  assert.equal(new URL(page.url()).searchParams.get("model"), id);
}

async function anSaeThatSaysTooLittleAsksForIt({ page, flags }) {
  await page.goto("/new/sae");
  await page.getByLabel("Directory or file").fill(`${golden}/sae/seed/format2`);
  await page.getByLabel("New SAE's id").fill(`e2e-sae-${now()}`);
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByText("which model the SAE was trained on").waitFor();
  await page.getByLabel("Model", { exact: true }).selectOption(flags.model);
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByText("at which hook point").waitFor();
}

async function anSaeShowsWhatItWasRecognisedAs({ page, flags, shot }) {
  const id = `e2e-sae-${now()}`;
  await page.goto(`/new/sae?model=${flags.model}`);
  await page.getByLabel("Directory or file").fill(`${golden}/sae/gemma_scope/gemma_scope/params.npz`);
  await page.getByLabel("New SAE's id").fill(id);
  await page.getByText("More settings").click();
  await page.getByLabel("Accept an SAE of another width").check();
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByRole("heading", { name: id }).waitFor();
  const recognised = page.locator("section", { has: page.getByRole("heading", { name: "Recognised" }) });
  await recognised.getByText("Gemma Scope").waitFor();
  await recognised.getByText("jumprelu").waitFor();
  await shot("sae-recognised");
}

async function theCheckSaysThatATrainedSaeFits({ page, flags, shot }) {
  await page.goto(`/sae/${flags.sae}?corpus=${flags.corpus}`);
  await page.getByRole("button", { name: "Check", exact: true }).click();
  const verdict = page.locator("[data-verdict]");
  await verdict.waitFor({ timeout: 120_000 });
  // The demo's SAE is small and trained for a minute: it reads its own hook, well or not so well.
  assert.notEqual(await verdict.getAttribute("data-verdict"), "does not fit");
  await verdict.scrollIntoViewIfNeeded();
  await shot("check");
}

async function aCorpusIsTokenisedWithProgress({ page, flags }) {
  const id = `e2e-corpus-${now()}`;
  await page.goto(`/new/corpus?model=${flags.model}`);
  await page.getByLabel("Files and directories").fill(`${demo}/corpus.jsonl`);
  await page.getByLabel("New corpus' id").fill(id);
  await page.getByLabel("Held out").fill("0.1");
  await page.getByRole("button", { name: "Tokenise" }).click();
  await page.getByRole("rowheader", { name: id }).waitFor({ timeout: 120_000 });
  await page.locator("tr", { hasText: id }).getByText("held out").waitFor();
}

// There is no hub where the tests run: what matters is that the job says so and goes away when told to.
async function aPullIsAJobThatCanBeCancelled({ page }) {
  const id = `e2e-pull-${now()}`;
  await page.goto("/jobs");
  await page.getByRole("link", { name: "Pull a model…" }).click();
  await page.getByLabel("Repository").fill("featurescope-tests/no-such-model");
  await page.getByLabel("New model's id").fill(id);
  await page.getByRole("button", { name: "Download it" }).click();
  await page.getByRole("heading", { name: `Pulling ${id}` }).waitFor();
  const cancel = page.getByRole("button", { name: /^Cancel Pulling/ });
  const state = page.locator("[data-state]").first();
  await until("a state", () => state.getAttribute("data-state"), (found) => found !== "queued", 60_000);
  if (await cancel.isVisible()) {
    await cancel.click();
    await page.getByRole("button", { name: "Cancel the job" }).click();
  }
  await until("the end", () => state.getAttribute("data-state"), (found) => ["cancelled", "failed"].includes(found), 60_000);
}

export const tests = [
  ["a model is added from a path", aModelIsAddedFromAPath],
  ["an SAE that says too little asks for it", anSaeThatSaysTooLittleAsksForIt],
  ["an SAE shows what it was recognised as", anSaeShowsWhatItWasRecognisedAs],
  ["the check says that a trained SAE fits", theCheckSaysThatATrainedSaeFits],
  ["a corpus is tokenised with progress", aCorpusIsTokenisedWithProgress],
  ["a pull is a job that can be cancelled", aPullIsAJobThatCanBeCancelled],
];
