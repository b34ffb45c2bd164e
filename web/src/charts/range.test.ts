import { describe, expect, it } from "vitest";

import { rangeOf } from "./range";

const falling = Array.from({ length: 100 }, (_, i) => (i < 5 ? 1000 : 10 - i / 20));

describe("the range of an axis", () => {
  it("has all values with some room, and nothing below 0 for what is never negative", () => {
    expect(rangeOf([[0, 5, 10], [null, 2, null]])).toEqual({ range: [0, 10.8], isCut: false });
    expect(rangeOf([[-10, 0]]).range[0]).toBeLessThan(-10);
  });

  it("keeps a flat line inside, and is something without values", () => {
    expect(rangeOf([[32, 32]]).range).toEqual([0, 64]);
    expect(rangeOf([[0, 0]]).range).toEqual([0, 0.1]);
    expect(rangeOf([[-2, -2]]).range).toEqual([-4, 0]);
    expect(rangeOf([[null]]).range).toEqual([0, 1]);
    expect(rangeOf([]).range).toEqual([0, 1]);
  });

  it("cuts off a beginning that is far outside, and says so", () => {
    const { range, isCut } = rangeOf([falling]);
    expect(isCut).toBe(true);
    expect(range[1]).toBeLessThan(20);
    expect(rangeOf([falling.map((y) => -y)]).range[0]).toBeGreaterThan(-20);
  });

  it("cuts nothing off that is not the beginning, not far, or one of few points", () => {
    expect(rangeOf([[...falling].reverse()]).isCut).toBe(false);
    expect(rangeOf([falling.slice(0, 12)]).isCut).toBe(false);
    expect(rangeOf([Array.from({ length: 100 }, (_, i) => 100 - i)]).isCut).toBe(false);
  });
});
