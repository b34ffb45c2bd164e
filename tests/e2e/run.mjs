// Walks the web app in a real browser against a running server.
//
//   node tests/e2e/run.mjs --url http://127.0.0.1:8080 [--model demo-lm] [--sae demo-topk] [--corpus demo-corpus]
//                          [--screenshots DIR] [--chromium /usr/bin/chromium] [--only TEXT]
//
// The server must have that SAE indexed over that corpus. Needs web/node_modules (npm ci). The last line is
// "N passed, N failed"; the exit status is 0 only if nothing failed. --screenshots keeps a screenshot of each view.
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";

import { openBrowser } from "./browser.mjs";
import { tests as accessibility } from "./accessibility.mjs";
import { tests as adding } from "./adding.mjs";
import { tests as catalog } from "./catalog.mjs";
import { tests as feature } from "./feature.mjs";
import { tests as jobs } from "./jobs.mjs";
import { tests as steering } from "./steering.mjs";
import { tests as text } from "./text.mjs";
import { tests as training } from "./training.mjs";

const { values: flags } = parseArgs({
  options: {
    url: { type: "string" },
    model: { type: "string", default: "demo-lm" },
    sae: { type: "string", default: "demo-topk" },
    corpus: { type: "string", default: "demo-corpus" },
    screenshots: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    only: { type: "string", default: "" },
  },
});
if (!flags.url) {
  console.error("--url is needed, e.g. --url http://127.0.0.1:8080");
  process.exit(2);
}
if (flags.screenshots) mkdirSync(flags.screenshots, { recursive: true });

const all = [...catalog, ...feature, ...text, ...steering, ...jobs, ...training, ...accessibility, ...adding];
const browser = await openBrowser(flags);
let passed = 0;
let failed = 0;
const shared = {};
for (const [name, run] of all) {
  if (!name.includes(flags.only)) continue;
  const page = await browser.newPage();
  const began = Date.now();
  try {
    await run({ page, browser, flags, shared, shot: (view) => browser.shot(page, view) });
    const problems = browser.takeProblems();
    if (problems.length > 0) throw new Error(`the page complained: ${problems.join(" | ")}`);
    passed++;
    console.log(`ok      ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed++;
    browser.takeProblems();
    console.log(`FAILED  ${name}: ${error.message.split("\n").slice(0, 6).join("\n        ")}`);
    await browser.shot(page, `failed-${failed}`);
  }
  await page.close();
}
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
