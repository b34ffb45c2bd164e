// Small steps that several tests take.
import assert from "node:assert/strict";

// Waits until `read` gives a value that `good` accepts; the last value is in the message.
export async function until(what, read, good, timeout_ms = 15_000) {
  const end = Date.now() + timeout_ms;
  let last;
  for (;;) {
    last = await read();
    if (good(last)) return last;
    if (Date.now() > end) throw new Error(`${what}: still ${JSON.stringify(last)} after ${timeout_ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function query(page) {
  return Object.fromEntries(new URL(page.url()).searchParams);
}

export async function untilQuery(page, key, value) {
  await until(`?${key}`, () => query(page)[key], (found) => found === value);
}

export const rows = (page) => page.locator("table[aria-label='Features'] tbody tr");

export async function rowIds(page) {
  return rows(page).locator("th a").allTextContents();
}

export async function openTable(page, flags, search = "") {
  await page.goto(`/sae/${flags.sae}?corpus=${flags.corpus}${search}`);
  await rows(page).first().waitFor();
}

export async function pagerText(page) {
  return page.locator("nav[aria-label='Pages'] > span").innerText();
}

// The number of features that pass the filter, from "1–50 of 1 024".
export async function total(page) {
  const text = await pagerText(page);
  return Number(text.split(" of ")[1]?.replace(/\D/g, "") ?? "0");
}

// A feature that fires on something, and what: the strongest of the table.
export async function strongFeature(page, flags, shared) {
  if (shared.feature === undefined) {
    await openTable(page, flags, "&sort=max&dir=desc&dmax=0.05");
    const row = rows(page).first();
    shared.feature = await row.locator("th a").innerText();
  }
  return shared.feature;
}

export async function openFeature(page, flags, shared, search = "") {
  const feature = await strongFeature(page, flags, shared);
  await page.goto(`/f/${flags.sae}/${feature}?corpus=${flags.corpus}${search}`);
  await page.getByTestId("example").first().waitFor();
  return feature;
}

export function assertSorted(values, message) {
  for (let i = 1; i < values.length; i++) assert.ok(values[i - 1] >= values[i], `${message}: ${values[i - 1]} before ${values[i]}`);
}

// A number as the app writes it: thin spaces, a real minus sign.
export function readNumber(text) {
  return Number(text.replace(/[\u202f%\s]/g, "").replaceAll("−", "-"));
}
