// The text page: which features fire on a text.
import assert from "node:assert/strict";

import { query, untilQuery } from "./steps.mjs";

const sample = "“My dear Watson,” said Holmes, and the king of Spain went home in 1887.";

async function aTextShowsItsFeatures({ page, flags, shot }) {
  await page.goto(`/text?sae=${flags.sae}`);
  await page.getByLabel("Text", { exact: true }).fill(sample);
  await page.getByText("Strongest over the text").waitFor();
  const shown = page.getByRole("button", { name: /^Show feature/ });
  await shown.first().waitFor();
  assert.equal(query(page).text, sample);
  await shown.nth(1).click();
  const feature = query(page).feature;
  await page.getByRole("heading", { name: `Feature ${feature} on the text` }).waitFor();
  await page.getByRole("radio", { name: "mean" }).click();
  await untilQuery(page, "score", "mean");
  await shot("text");
  await page.reload();
  await page.getByRole("heading", { name: `Feature ${feature} on the text` }).waitFor();
  assert.equal(await page.getByLabel("Text", { exact: true }).inputValue(), sample);
  assert.ok(await page.getByRole("radio", { name: "mean" }).isChecked());
}

async function tokensLeadToFeatures({ page, flags }) {
  await page.goto(`/text?sae=${flags.sae}&text=${encodeURIComponent(sample)}&token=2`);
  const list = page.getByRole("region", { name: "Strongest features at each token" });
  await list.locator("tr[data-selected=true]").waitFor();
  const chip = list.getByRole("link").first();
  const feature = (await chip.innerText()).split(" ")[0];
  await chip.click();
  await page.waitForURL((url) => url.pathname === `/f/${flags.sae}/${feature}`);
  await page.getByTestId("test-answer").getByText(/Fires on/).waitFor();
  assert.equal(query(page).text, sample);
}

async function anOverlongTextIsExplained({ page, flags }) {
  await page.goto(`/text?sae=${flags.sae}&text=${encodeURIComponent("word ".repeat(1500))}`);
  const alert = page.getByRole("alert").first();
  await alert.waitFor();
  assert.match(await alert.innerText(), /\d/);
}

export const tests = [
  ["a text shows its features and survives a reload", aTextShowsItsFeatures],
  ["tokens of a text lead to feature pages", tokensLeadToFeatures],
  ["an over-long text is explained", anOverlongTextIsExplained],
];
