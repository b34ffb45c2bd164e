import { describe, expect, it } from "vitest";

import { FeatureOrder } from "../../gen/featurescope/v1/features_pb.js";
import { decode, encode } from "../../url/codec";
import { ariaSort, listingCodec, sortedBy, toListing } from "./listing";
import { listingKey, pageRange, PageTrail } from "./trail";

const start = decode(listingCodec, "");
const index = { sae: "demo-topk", corpus: "demo-corpus" };

describe("feature listing", () => {
  it("asks the server for what the address says", () => {
    const state = decode(listingCodec, "sort=density&dir=desc&dmin=0.001&tok=king&alive=0&size=25&after=abc&page=3");
    expect(toListing(index, state)).toMatchObject({
      order: FeatureOrder.ORDER_DENSITY,
      descending: true,
      min_density: 0.001,
      max_density: undefined,
      token_text: "king",
      alive_only: false,
      page_size: 25,
      page_token: "abc",
    });
  });

  it("sorts by the largest first, then turns round", () => {
    const once = { ...start, ...sortedBy(start, "max") };
    expect([once.sort, once.dir]).toEqual(["max", "desc"]);
    const twice = { ...once, ...sortedBy(once, "max") };
    expect(twice.dir).toBe("asc");
    expect(ariaSort(twice, "max")).toBe("ascending");
    expect(ariaSort(twice, "mean")).toBe("none");
  });

  it("goes back to the first page when the order changes, because the token is no longer good", () => {
    const deep = { ...start, after: "abc", page: 4 };
    expect(encode(listingCodec, sortedBy(deep, "mean"), "after=abc&page=4")).toBe("sort=mean&dir=desc");
  });
});

describe("page trail", () => {
  const key = listingKey(toListing(index, start));

  it("leads back through the pages that were passed", () => {
    const trail = new PageTrail();
    trail.remember(key, 2, "two");
    trail.remember(key, 3, "three");
    expect(trail.tokenOf(key, 2)).toBe("two");
    expect(trail.tokenOf(key, 1)).toBe("");
  });

  it("knows no way back from a deep link but to the first page", () => {
    const trail = new PageTrail();
    trail.remember(key, 5, "five");
    expect(trail.tokenOf(key, 4)).toBeUndefined();
    expect(trail.tokenOf(key, 0)).toBe("");
  });

  it("does not mix listings, but a page is no other listing", () => {
    const trail = new PageTrail();
    trail.remember(key, 2, "two");
    expect(trail.tokenOf(listingKey(toListing(index, { ...start, sort: "max" })), 2)).toBeUndefined();
    expect(trail.tokenOf(listingKey(toListing(index, { ...start, after: "two", page: 2 })), 2)).toBe("two");
  });

  it("counts rows from one", () => {
    expect(pageRange(1, 50, 50, 120)).toEqual([1, 50]);
    expect(pageRange(3, 50, 20, 120)).toEqual([101, 120]);
    expect(pageRange(1, 50, 0, 0)).toEqual([0, 0]);
  });
});
