// A generation as its stream arrives: two texts side by side, and at the end the proof of the edits.
import { Branch, type EditProof, GenerateFinished_Reason, type GenerateResponse, type GeneratedToken } from "../gen/featurescope/v1/explore_pb.js";
import type { Token } from "../gen/featurescope/v1/catalog_pb.js";

export interface BranchState {
  tokens: GeneratedToken[];
  // Set when the branch is complete.
  reason: GenerateFinished_Reason | null;
}

export interface Generation {
  status: "idle" | "running" | "finished" | "stopped" | "failed";
  prompt: Token[];
  steered: BranchState;
  baseline: BranchState;
  proofs: EditProof[];
  error: unknown;
}

export type GenerationAction =
  | { type: "start" }
  | { type: "event"; event: GenerateResponse }
  | { type: "end" }
  | { type: "stop" }
  | { type: "fail"; error: unknown };

const empty_branch: BranchState = { tokens: [], reason: null };

export const no_generation: Generation = {
  status: "idle",
  prompt: [],
  steered: empty_branch,
  baseline: empty_branch,
  proofs: [],
  error: null,
};

export function reduceGeneration(state: Generation, action: GenerationAction): Generation {
  switch (action.type) {
    case "start":
      return { ...no_generation, status: "running" };
    case "event":
      return state.status === "running" ? reduceEvent(state, action.event) : state;
    case "end":
      return state.status === "running" ? { ...state, status: "finished" } : state;
    case "stop":
      return state.status === "running" ? { ...state, status: "stopped" } : state;
    case "fail":
      return { ...state, status: "failed", error: action.error };
  }
}

function branchName(branch: Branch): "steered" | "baseline" {
  return branch === Branch.BASELINE ? "baseline" : "steered";
}

function reduceEvent(state: Generation, { event }: GenerateResponse): Generation {
  switch (event.case) {
    case "started":
      return { ...state, prompt: event.value.prompt };
    case "token": {
      const name = branchName(event.value.branch);
      return { ...state, [name]: { ...state[name], tokens: [...state[name].tokens, event.value] } };
    }
    case "finished": {
      const name = branchName(event.value.branch);
      const proofs = name === "steered" ? event.value.proofs : state.proofs;
      return { ...state, proofs, [name]: { ...state[name], reason: event.value.reason } };
    }
    default:
      return state;
  }
}

// How many tokens the two texts have in common at their beginning.
export function commonTokens(state: Generation): number {
  const n = Math.min(state.steered.tokens.length, state.baseline.tokens.length);
  for (let i = 0; i < n; i++) {
    if (state.steered.tokens[i]?.token?.id !== state.baseline.tokens[i]?.token?.id) return i;
  }
  return n;
}

export const reason_texts: Record<GenerateFinished_Reason, string> = {
  [GenerateFinished_Reason.LENGTH]: "length reached",
  [GenerateFinished_Reason.END_OF_TEXT]: "end of text",
  [GenerateFinished_Reason.STOP_STRING]: "stop string",
  [GenerateFinished_Reason.CONTEXT_FULL]: "context full",
};

export interface ProofRow {
  position: number;
  token: Token | undefined;
  before: number;
  after: number;
  change: number;
}

// A proof position by position, with the token that stands there.
export function proofRows(proof: EditProof, state: Generation): ProofRow[] {
  return proof.positions.map((position, i) => ({
    position,
    token: state.prompt[position] ?? state.steered.tokens[position - state.prompt.length]?.token,
    before: proof.activationBefore[i] ?? 0,
    after: proof.activationAfter[i] ?? 0,
    change: proof.relativeChange[i] ?? 0,
  }));
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
