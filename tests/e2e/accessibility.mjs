// axe-core on every view, in light and dark: no serious and no critical violation.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { strongFeature } from "./steps.mjs";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const own_text = encodeURIComponent("“My dear Watson,” said Holmes, and the king went home.");

const views = {
  home: async () => "/",
  sae: async ({ flags }) => `/sae/${flags.sae}?corpus=${flags.corpus}&sort=density&dir=desc`,
  feature: async ({ flags, feature }) => `/f/${flags.sae}/${feature}?corpus=${flags.corpus}&text=${own_text}`,
  "feature-bands": async ({ flags, feature }) => `/f/${flags.sae}/${feature}?corpus=${flags.corpus}&ex=bands&hist=table`,
  steering: async ({ flags, feature }) => `/f/${flags.sae}/${feature}?corpus=${flags.corpus}&steer=1&run=1&max=12`,
  text: async ({ flags }) => `/text?sae=${flags.sae}&text=${own_text}`,
  jobs: async () => "/jobs",
  job: async ({ page, shared }) => shared.job ?? (await anyJob(page)),
  "training-form": async () => "/new/training",
  "indexing-form": async () => "/new/indexing",
  "model-form": async () => "/new/model",
  "sae-form": async () => "/new/sae",
  "sae-form-hub": async () => "/new/sae?from=hub",
  "corpus-form": async () => "/new/corpus",
  check: async ({ flags }) => `/sae/${flags.sae}?corpus=${flags.corpus}`,
  help: async () => "/",
};

async function anyJob(page) {
  await page.goto("/jobs");
  return page.locator("a[data-row]").first().getAttribute("href");
}

// What tells that a view has what it is looked at for.
const ready = {
  sae: "table[aria-label='Features'] tbody tr",
  feature: "[data-testid=test-answer]",
  "feature-bands": "[data-testid=band]",
  steering: "[data-testid=proof]",
  text: "[aria-label^='Show feature']",
  job: "dl",
  home: "dl",
  jobs: "[data-connection=live]",
  help: "h1",
  check: "[data-testid=check]",
};

function check(view, theme) {
  return async ({ page, flags, shared, shot }) => {
    const feature = await strongFeature(page, flags, shared);
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.goto(await views[view]({ page, flags, shared, feature }));
    await page.locator(ready[view] ?? "form").first().waitFor();
    if (view === "help") await page.keyboard.press("?");
    if (view === "check") {
      await page.getByRole("button", { name: "Check", exact: true }).click();
      await page.locator("[data-verdict]").waitFor({ timeout: 60_000 });
    }
    if (view.includes("-form")) for (const more of await page.locator("summary").all()) await more.click();
    await page.waitForTimeout(300);
    await page.evaluate(axe);
    const found = await page.evaluate(() =>
      window.axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
        violations
          .filter(({ impact }) => impact === "serious" || impact === "critical")
          .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((n) => `${n.target.join(" ")} (${n.any[0]?.message ?? n.failureSummary})`).join("; ")}`),
      ),
    );
    await shot(`${view}-${theme}`);
    if (found.length > 0) throw new Error(found.join("\n"));
  };
}

export const tests = ["light", "dark"].flatMap((theme) =>
  Object.keys(views).map((view) => [`${view} is accessible in ${theme}`, check(view, theme)]),
);
