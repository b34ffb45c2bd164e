// Examples grouped by their activation band, the highest band first.
import type { Example } from "../../gen/featurescope/v1/features_pb.js";

export interface Band {
  band: number;
  low: number;
  high: number;
  share: number;
  examples: Example[];
}

export function byBand(examples: readonly Example[]): Band[] {
  const bands = new Map<number, Band>();
  for (const example of examples) {
    const known = bands.get(example.band);
    if (known) {
      known.examples.push(example);
      continue;
    }
    bands.set(example.band, {
      band: example.band,
      low: example.bandLow,
      high: example.bandHigh,
      share: example.bandShare,
      examples: [example],
    });
  }
  return [...bands.values()].sort((a, b) => a.band - b.band);
}
