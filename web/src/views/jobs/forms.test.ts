import { describe, expect, it } from "vitest";

import { checkId, checkNumber, newKey } from "../../forms/fields";
import { indexing_numbers, toIndexingSpec } from "./forms";

describe("job forms", () => {
  it("send unset what was left empty, so that the server's defaults hold", () => {
    expect(toIndexingSpec({ sae_id: "s", corpus_id: "c" })).toMatchObject({ maxTokens: 0n, bands: 0 });
  });

  it("explain a wrong number at its field", () => {
    const bands = indexing_numbers.find((f) => f.name === "bands");
    if (bands === undefined) throw new Error("no field bands");
    expect(checkNumber({ ...bands, unset: undefined }, "")).toBe("a number is needed");
    expect(checkNumber(bands, "x")).toBe("not a number");
    expect(checkNumber(bands, "1.5")).toBe("not a whole number");
    expect(checkNumber(bands, "0")).toContain("from 1 to");
    expect(checkNumber(bands, "32")).toBeUndefined();
    expect(checkNumber(bands, "")).toBeUndefined();
  });

  it("accept the ids that the server accepts", () => {
    expect(checkId("demo-lm.v2_x")).toBeUndefined();
    for (const wrong of ["", "Demo", "-a", "a b", "ä", "a".repeat(65)]) expect(checkId(wrong)).toBeDefined();
  });

  it("make a new key each time", () => {
    expect(newKey()).toMatch(/^[0-9a-f]{32}$/);
    expect(newKey()).not.toBe(newKey());
  });
});
