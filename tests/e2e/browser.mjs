// A headless Chromium of its own: empty profile, no network but the server's, and a record of what pages complain of.
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const switches = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export async function openBrowser(flags) {
  const profile = mkdtempSync(join(tmpdir(), "featurescope-e2e-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: flags.chromium,
    args: switches,
    headless: true,
    viewport: { width: 1440, height: 900 },
    baseURL: flags.url,
    reducedMotion: "reduce",
  });
  context.setDefaultTimeout(20_000);
  let problems = [];
  return {
    async newPage() {
      const page = await context.newPage();
      await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("console", (message) => {
        // A test that provokes an HTTP error says so itself; scripts and policies must never complain.
        if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(message.text());
      });
      return page;
    },
    takeProblems() {
      const taken = problems;
      problems = [];
      return taken;
    },
    async shot(page, view) {
      if (flags.screenshots) await page.screenshot({ path: join(flags.screenshots, `${view}.png`) }).catch(() => {});
    },
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
