import { describe, expect, it } from "vitest";

import {
  choiceParam,
  decode,
  encode,
  flagParam,
  intParam,
  numberParam,
  optionalNumberParam,
  optionalTextParam,
  textParam,
} from "./codec";

const codec = {
  text: textParam(),
  ctx: choiceParam(["short", "medium", "full"], "medium"),
  breaks: flagParam(),
  alive: flagParam(true),
  val: numberParam(1, { min: -5, max: 5 }),
  page: intParam(1, { min: 1 }),
  dmin: optionalNumberParam({ min: 0, max: 1 }),
  name: optionalTextParam(),
};

const state = {
  text: "a & b = “c”\n+ d%",
  ctx: "full",
  breaks: true,
  alive: false,
  val: -2.5,
  page: 7,
  dmin: 0.001,
  name: "",
} as const;

describe("url codec", () => {
  it("restores every value it wrote", () => {
    expect(decode(codec, encode(codec, state))).toEqual(state);
  });

  it("writes no defaults", () => {
    expect(encode(codec, decode(codec, ""))).toBe("");
  });

  it("takes the default for anything it cannot read or that is out of range", () => {
    const defaults = decode(codec, "");
    const hostile = "ctx=wide&breaks=yes&alive=2&val=99&page=0&dmin=NaN";
    expect(decode(codec, hostile)).toEqual(defaults);
    expect(decode(codec, "page=1.5&val=1e999&dmin=&val=").page).toBe(1);
  });

  it("tells an empty text from an absent one where that matters", () => {
    expect(decode(codec, "name=").name).toBe("");
    expect(decode(codec, "").name).toBeUndefined();
  });

  it("leaves the keys of other panels alone", () => {
    const query = encode(codec, { ctx: "short" }, "?steer=1&ctx=full&op=set");
    expect(new URLSearchParams(query).get("steer")).toBe("1");
    expect(new URLSearchParams(query).get("op")).toBe("set");
    expect(new URLSearchParams(query).get("ctx")).toBe("short");
  });

  it("removes a key whose value went back to its default", () => {
    expect(encode(codec, { ctx: "medium", dmin: undefined }, "ctx=full&dmin=0.5&steer=1")).toBe("steer=1");
  });
});
