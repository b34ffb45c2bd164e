import { describe, expect, it } from "vitest";

import { contrast, heat_steps, heatColour, heatStep, luminance } from "./colour";

const themes = ["light", "dark"] as const;
const steps = Array.from({ length: heat_steps }, (_, i) => i);

describe("heat scale", () => {
  it.each(themes)("keeps text readable on every step (%s)", (theme) => {
    for (const step of steps) {
      const { fill, ink } = heatColour(theme, step);
      expect(contrast(fill, ink), `step ${step}`).toBeGreaterThanOrEqual(4.5);
    }
  });

  it.each(themes)("moves away from the surface with every step (%s)", (theme) => {
    const distances = steps.map((step) => Math.abs(luminance(heatColour(theme, step).fill) - luminance(heatColour(theme, 0).fill)));
    for (let i = 1; i < distances.length; i++) expect(distances[i]).toBeGreaterThan(distances[i - 1] ?? 0);
  });

  it("gives no colour to no activation, and a visible one to the weakest", () => {
    expect(heatStep(0, 5)).toBe(0);
    expect(heatStep(-1, 5)).toBe(0);
    expect(heatStep(Number.NaN, 5)).toBe(0);
    expect(heatStep(1, 0)).toBe(0);
    expect(heatStep(1e-9, 5)).toBeGreaterThan(1);
  });

  it("saturates at the maximum", () => {
    expect(heatStep(5, 5)).toBe(heat_steps - 1);
    expect(heatStep(50, 5)).toBe(heat_steps - 1);
  });

  it("knows the contrast of black and white", () => {
    expect(contrast([0, 0, 0], [255, 255, 255])).toBeCloseTo(21, 6);
  });
});
