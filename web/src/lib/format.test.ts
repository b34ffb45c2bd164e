import { describe, expect, it } from "vitest";

import {
  formatActivation,
  formatBytes,
  formatCount,
  formatDuration,
  formatNumber,
  formatShare,
  formatShort,
  formatTick,
  formatTime,
} from "./format";

describe("number formats", () => {
  it.each([
    [0, "0"],
    [1, "1.00"],
    [0.12345, "0.123"],
    [0.00099999, "0.00100"],
    [9.999, "10.0"],
    [12.34, "12.3"],
    [123.4, "123"],
    [99.95, "100"],
    [12345.6, "12\u202f346"],
    [-0.5, "−0.500"],
    [0.00001234, "1.23e−5"],
    [4.2e12, "4.20e12"],
    [Number.NaN, "–"],
    [Infinity, "∞"],
    [-Infinity, "−∞"],
  ])("shows %d with three significant digits", (value, text) => {
    expect(formatNumber(value)).toBe(text);
  });

  it("groups thousands, also of 64-bit integers", () => {
    expect(formatCount(1234567n)).toBe("1\u202f234\u202f567");
    expect(formatCount(999)).toBe("999");
  });

  it("shortens large numbers", () => {
    expect(formatShort(999)).toBe("999");
    expect(formatShort(634112n)).toBe("634\u202fk");
    expect(formatShort(6901760n)).toBe("6.90\u202fM");
  });

  it.each([
    [0, "0\u202f%"],
    [1, "100\u202f%"],
    [0.5, "50.0\u202f%"],
    [0.0123, "1.2\u202f%"],
    [0.000041, "0.0041\u202f%"],
    [Number.NaN, "–"],
  ])("shows the share %d as per cent", (share, text) => {
    expect(formatShare(share)).toBe(text);
  });

  it("shows activations with two decimals above one", () => {
    expect(formatActivation(3.14159)).toBe("3.14");
    expect(formatActivation(0.0314159)).toBe("0.0314");
    expect(formatActivation(0)).toBe("0");
  });

  it.each([
    [3, "3.0\u202fs"],
    [59.6, "1\u202fmin 00\u202fs"],
    [125, "2\u202fmin 05\u202fs"],
    [12000, "3\u202fh 20\u202fmin"],
    [187200, "2\u202fd 4\u202fh"],
    [-1, "–"],
    [Number.NaN, "–"],
  ])("shows %d seconds for people", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  it("keeps axis values short", () => {
    expect(formatTick(0.2)).toBe("0.2");
    expect(formatTick(1500000)).toBe("1.5\u202fM");
    expect(formatTick(-50)).toBe("−50");
    expect(formatTick(0.30000000000000004)).toBe("0.3");
  });

  it("shows sizes and times, and a dash for what is missing", () => {
    expect(formatBytes(8589934592n)).toBe("8.00\u202fGiB");
    expect(formatBytes(512)).toBe("512\u202fB");
    expect(formatTime("")).toBe("–");
    expect(formatTime("2026-11-22T14:03:12Z")).toMatch(/^2026-11-2\d \d\d:\d\d:12$/);
  });
});
