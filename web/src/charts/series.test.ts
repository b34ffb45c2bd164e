import { readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { contrast, type Rgb } from "../lib/colour";
import { withoutOverlap } from "./ScatterPlot";
import { lookOf, markPath, marks, n_colours } from "./series";

const tokens = readFileSync(join(process.cwd(), "src/styles/tokens.css"), "utf8");
const read = (name: string, theme: 0 | 1): Rgb => {
  const found = new RegExp(`${name}: light-dark\\((#[0-9a-f]{6}), (#[0-9a-f]{6})\\)`).exec(tokens);
  const hex = found?.[theme + 1];
  if (hex === undefined) throw new Error(`no ${name}`);
  return [1, 3, 5].map((i) => Number.parseInt(hex.slice(i, i + 2), 16)) as unknown as Rgb;
};

// Brettel-style simulation by Machado et al. 2009, severity 1: deuteranopia.
function deuteranope([r, g, b]: Rgb): Rgb {
  return [0.367 * r + 0.861 * g - 0.228 * b, 0.28 * r + 0.673 * g + 0.047 * b, -0.012 * r + 0.043 * g + 0.969 * b];
}
const distance = (a: Rgb, b: Rgb) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

describe("runs in a chart", () => {
  const names = Array.from({ length: n_colours }, (_, i) => `--series-${i + 1}`);

  it.each([0, 1] as const)("are seen on the surface of theme %i", (theme) => {
    for (const name of names) expect(contrast(read(name, theme), read("--surface", theme)), name).toBeGreaterThanOrEqual(3);
  });

  it.each([0, 1] as const)("keep their colours apart for those who do not see green, theme %i", (theme) => {
    for (const [i, a] of names.entries()) {
      for (const b of names.slice(i + 1)) expect(distance(deuteranope(read(a, theme)), deuteranope(read(b, theme))), `${a} ${b}`).toBeGreaterThan(30);
    }
  });

  it("look different from each other, and from their own held-out curve", () => {
    const looks = Array.from({ length: 40 }, (_, i) => `${lookOf(i).colour} ${lookOf(i).mark}`);
    expect(new Set(looks).size).toBe(40);
    const lines = Array.from({ length: 16 }, (_, i) => [`${lookOf(i).colour} ${lookOf(i).dash}`, `${lookOf(i, true).colour} ${lookOf(i, true).dash}`]).flat();
    expect(new Set(lines).size).toBe(32);
  });

  it("have a mark each", () => {
    expect(new Set(marks.map((mark) => markPath(mark, 10))).size).toBe(marks.length);
  });
});

describe("labels in a scatter plot", () => {
  it("are left out where they would lie on another", () => {
    const at = (key: string, x: number, y: number) => ({ key, x, y, width: 50 });
    expect(withoutOverlap([at("a", 0, 0), at("b", 30, 5), at("c", 60, 5), at("d", 30, 20)])).toEqual(["a", "c", "d"]);
  });
});
