import { describe, expect, it } from "vitest";

import { ErrorTerm, Operation, Positions_Scope, Unit } from "../../../gen/featurescope/v1/explore_pb.js";
import { decode, encode } from "../../../url/codec";
import { sliderRange, steeringCodec, toRequest, unitsOf, withOperation } from "./steering";

const start = decode(steeringCodec, "");

describe("steering", () => {
  it("says in the request what the panel says", () => {
    const state = decode(steeringCodec, "op=set&val=-3.5&unit=feature&err=dropped&pos=generated&temp=0&seed=9&max=5&prompt=Hi");
    expect(toRequest("m", "s", 12, state)).toMatchObject({
      modelId: "m",
      maxNewTokens: 5,
      sampling: { temperature: 0, seed: 9n },
      withBaseline: true,
      interventions: [
        { saeId: "s", feature: 12, operation: Operation.SET, value: -3.5, unit: Unit.FEATURE, errorTerm: ErrorTerm.DROPPED, positions: { scope: Positions_Scope.GENERATED } },
      ],
    });
  });

  it("sends a conversation in place of the prompt, and keeps it in the address", () => {
    const chat = [
      { role: "system", text: "Be brief." },
      { role: "user", text: "Hello? \n&" },
    ] as const;
    const state = decode(steeringCodec, encode(steeringCodec, { chat: [...chat] }));
    expect(state.chat).toEqual(chat);
    const request = toRequest("m", "s", 0, state);
    expect(request.prompt).toBeUndefined();
    expect(request.messages).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hello? \n&" },
    ]);
  });

  it("takes nothing from an address that holds no conversation", () => {
    for (const raw of ["x", "{}", "[1]", '[["nobody","x"]]', '[["user"]]']) {
      expect(decode(steeringCodec, `chat=${encodeURIComponent(raw)}`).chat).toEqual([]);
    }
  });

  it("sends neither a value nor a unit where the operation takes none", () => {
    const state = { ...start, op: "ablate", val: 7, unit: "max" } as const;
    expect(toRequest("m", "s", 0, state).interventions?.[0]).toMatchObject({ value: 0, unit: Unit.FEATURE });
    const scaled = { ...start, op: "scale", val: 2, unit: "residual" } as const;
    expect(toRequest("m", "s", 0, scaled).interventions?.[0]).toMatchObject({ value: 2, unit: Unit.FEATURE });
  });

  it("never leaves a unit that the operation does not accept", () => {
    for (const op of ["add", "set"] as const) {
      const patched = { ...start, unit: "residual" as const, ...withOperation({ ...start, unit: "residual" }, { op }, 5) };
      expect(unitsOf(op)).toContain(patched.unit);
    }
  });

  it("offers a value that fits a new unit, and keeps the value otherwise", () => {
    expect(withOperation({ ...start, val: 3 }, { unit: "feature" }, 5.678).val).toBe(5.68);
    expect(withOperation({ ...start, val: 3 }, { op: "set" }, 5).val).toBe(3);
  });

  it("spans a slider around the feature's own activations", () => {
    expect(sliderRange("set", "feature", 5)).toMatchObject({ min: 0, max: 20 });
    expect(sliderRange("add", "feature", 5).min).toBe(-20);
    expect(sliderRange("add", "feature", 0).max).toBeGreaterThan(0);
  });

  it("is restored from the address", () => {
    const state = { ...start, op: "scale", val: 2.25, prompt: "A\nB & C", run: true, steer: true } as const;
    expect(decode(steeringCodec, encode(steeringCodec, state))).toEqual(state);
  });
});
