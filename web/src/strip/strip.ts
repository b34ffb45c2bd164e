// What a heat strip shows of an example: which tokens, which one is the strongest, and how a token is told.
import type { Token } from "../gen/featurescope/v1/catalog_pb.js";
import type { Example } from "../gen/featurescope/v1/features_pb.js";
import { formatActivation } from "../lib/format";
import { quoted } from "../lib/token";

export type Context = "short" | "medium" | "full";

// Tokens on each side of the strongest one.
const context_tokens: Record<Context, number> = { short: 8, medium: 20, full: Infinity };

export interface Slice {
  tokens: Token[];
  acts: number[];
  // Position in the corpus' context of the first token shown.
  first: number;
  // Index of the strongest token within the slice; -1 for an empty slice.
  mark: number;
  cut_before: boolean;
  cut_after: boolean;
}

export function strongestIndex(acts: readonly number[]): number {
  let best = -1;
  acts.forEach((act, i) => {
    if (act > 0 && (best < 0 || act > (acts[best] ?? 0))) best = i;
  });
  return best;
}

export function sliceExample(example: Example, context: Context): Slice {
  const n = example.tokens.length;
  const center = Math.min(Math.max(example.position - example.windowStart, 0), Math.max(n - 1, 0));
  const side = context_tokens[context];
  const begin = Math.max(0, center - side);
  const end = Math.min(n, center + side + 1);
  return {
    tokens: example.tokens.slice(begin, end),
    acts: example.acts.slice(begin, end),
    first: example.windowStart + begin,
    mark: n === 0 ? -1 : center - begin,
    cut_before: example.windowStart + begin > 0,
    cut_after: end < n,
  };
}

// The token as a screen reader says it.
export function tokenLabel(token: Token, act: number, position: number): string {
  const activation = act > 0 ? `activation ${formatActivation(act)}` : "not active";
  return `token ${quoted(token)}, ${activation}, position ${position}`;
}

// Where an arrow key leads within a strip of n tokens; null for another key.
export function rove(key: string, from: number, n: number): number | null {
  switch (key) {
    case "ArrowRight":
      return Math.min(n - 1, from + 1);
    case "ArrowLeft":
      return Math.max(0, from - 1);
    case "Home":
      return 0;
    case "End":
      return n - 1;
    default:
      return null;
  }
}
