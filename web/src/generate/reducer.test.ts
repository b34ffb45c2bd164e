import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { Branch, EditProofSchema, GenerateFinished_Reason, GenerateResponseSchema } from "../gen/featurescope/v1/explore_pb.js";
import { makeToken } from "../testing";
import { commonTokens, mean, no_generation, proofRows, reduceGeneration, type Generation, type GenerationAction } from "./reducer";

const started: GenerationAction = {
  type: "event",
  event: create(GenerateResponseSchema, { event: { case: "started", value: { prompt: [makeToken("It"), makeToken(" was")] } } }),
};

const token = (branch: Branch, text: string): GenerationAction => ({
  type: "event",
  event: create(GenerateResponseSchema, { event: { case: "token", value: { branch, token: makeToken(text, { id: text.charCodeAt(1) }), logprob: -1 } } }),
});

const proof = create(EditProofSchema, { saeId: "s", feature: 7, positions: [1, 2], activationBefore: [0, 1], activationAfter: [5, 6], relativeChange: [0.2, 0.4] });

const finished = (branch: Branch): GenerationAction => ({
  type: "event",
  event: create(GenerateResponseSchema, {
    event: { case: "finished", value: { branch, reason: GenerateFinished_Reason.STOP_STRING, proofs: branch === Branch.STEERED ? [proof] : [] } },
  }),
});

function after(...actions: GenerationAction[]): Generation {
  return actions.reduce(reduceGeneration, no_generation);
}

const both = [{ type: "start" } as const, started, token(Branch.STEERED, " a"), token(Branch.BASELINE, " a"), token(Branch.BASELINE, " b"), token(Branch.STEERED, " c")];

describe("generation stream", () => {
  it("keeps the two texts apart", () => {
    const state = after(...both);
    expect(state.steered.tokens.map((t) => t.token?.display)).toEqual([" a", " c"]);
    expect(state.baseline.tokens.map((t) => t.token?.display)).toEqual([" a", " b"]);
    expect(state.status).toBe("running");
  });

  it("finishes each text by itself, and the whole when the stream ends", () => {
    const state = after(...both, finished(Branch.BASELINE));
    expect(state.baseline.reason).toBe(GenerateFinished_Reason.STOP_STRING);
    expect(state.steered.reason).toBeNull();
    expect(reduceGeneration(state, { type: "end" }).status).toBe("finished");
  });

  it("takes the proof from the steered text, whichever ends last", () => {
    expect(after(...both, finished(Branch.STEERED), finished(Branch.BASELINE)).proofs).toHaveLength(1);
    expect(after(...both, finished(Branch.BASELINE), finished(Branch.STEERED)).proofs).toHaveLength(1);
  });

  it("ignores what arrives after a stop", () => {
    const stopped = after(...both, { type: "stop" });
    expect(reduceGeneration(stopped, token(Branch.STEERED, " d"))).toBe(stopped);
    expect(reduceGeneration(stopped, { type: "end" }).status).toBe("stopped");
  });

  it("starts anew, and keeps what came before an error", () => {
    expect(after(...both, { type: "start" }).steered.tokens).toHaveLength(0);
    const failed = after(...both, { type: "fail", error: new Error("x") });
    expect(failed.status).toBe("failed");
    expect(failed.steered.tokens).toHaveLength(2);
  });

  it("finds where the texts part", () => {
    expect(commonTokens(after(...both))).toBe(1);
    expect(commonTokens(no_generation)).toBe(0);
  });

  it("names the token at each edited position, in the prompt and after it", () => {
    const rows = proofRows(proof, after(...both));
    expect(rows.map((row) => row.token?.display)).toEqual([" was", " a"]);
    expect(rows[1]).toMatchObject({ position: 2, before: 1, after: 6 });
    expect(rows[1]?.change).toBeCloseTo(0.4);
    expect(mean([])).toBe(0);
  });
});
