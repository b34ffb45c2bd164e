// Reading CSR rows as they come from the server.
import type { SparseRows } from "../gen/featurescope/v1/explore_pb.js";

export interface Entry {
  feature: number;
  value: number;
}

// The entries of one row, in ascending order of the feature.
export function row(acts: SparseRows | undefined, index: number): Entry[] {
  if (acts === undefined) return [];
  const begin = acts.rowOffsets[index] ?? 0;
  const end = acts.rowOffsets[index + 1] ?? begin;
  const entries: Entry[] = [];
  for (let i = begin; i < end; i++) {
    entries.push({ feature: acts.indices[i] ?? 0, value: acts.values[i] ?? 0 });
  }
  return entries;
}

// One feature's activation at every row, 0 where it does not fire.
export function column(acts: SparseRows | undefined, feature: number, n_rows: number): number[] {
  const values = new Array<number>(n_rows).fill(0);
  if (acts === undefined) return values;
  for (let r = 0; r < n_rows; r++) {
    const begin = acts.rowOffsets[r] ?? 0;
    const end = acts.rowOffsets[r + 1] ?? begin;
    for (let i = begin; i < end; i++) {
      if (acts.indices[i] === feature) values[r] = acts.values[i] ?? 0;
    }
  }
  return values;
}

// The k strongest entries of a row.
export function strongest(entries: readonly Entry[], k: number): Entry[] {
  return [...entries].sort((a, b) => b.value - a.value || a.feature - b.feature).slice(0, k);
}
