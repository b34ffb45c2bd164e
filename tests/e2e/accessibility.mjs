// axe-core on every view, in light and dark: no serious and no critical violation.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { strongFeature } from "./steps.mjs";
import { openSweep } from "./training.mjs";

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
  sweep: async ({ page, shared }) => `/jobs/${await aSweep(page, shared)}`,
  "sweep-table": async ({ page, shared }) => `/jobs/${await aSweep(page, shared)}?pareto=table&y=log`,
  compare: async ({ page }) => `/compare?jobs=${await trainingJobs(page)}`,
  evaluation: async ({ page, flags }) => `/sae/${flags.sae}?corpus=${flags.corpus}&eval=${await evaluationOf(page, flags)}`,
  "training-form": async () => "/new/training?k=16,32",
  "training-recipe-form": async () => "/new/training?preset=gemma-scope&architecture=jumprelu,standard&d_sae=1024&tokens=100000",
  "caching-form": async () => "/new/caching",
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

async function aSweep(page, shared) {
  await openSweep(page, shared);
  return shared.sweep;
}

async function trainingJobs(page) {
  await page.goto("/jobs");
  const boxes = page.getByRole("checkbox", { name: /^Compare Training/ });
  await boxes.first().waitFor();
  const links = await page.locator("tr", { has: boxes }).locator("a[data-row]").evaluateAll((all) => all.map((a) => a.getAttribute("href").split("/").at(-1)));
  return links.slice(0, 3).join(",");
}

async function evaluationOf(page, flags) {
  await page.goto(`/sae/${flags.sae}?corpus=${flags.corpus}`);
  await page.getByRole("button", { name: /^Details\s+of the evaluation/ }).first().click();
  return new URL(page.url()).searchParams.get("eval");
}

// What tells that a view has what it is looked at for.
const ready = {
  sae: "table[aria-label='Features'] tbody tr",
  feature: "[data-testid=test-answer]",
  "feature-bands": "[data-testid=band]",
  steering: "[data-testid=proof]",
  text: "[aria-label^='Show feature']",
  job: "dl",
  sweep: "[data-testid=pareto] svg path",
  "sweep-table": "[data-testid=pareto] tbody tr",
  compare: "[data-testid=pareto] svg path",
  evaluation: "[data-testid=evaluation]",
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
