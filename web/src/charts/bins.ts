// A server histogram as bars and as rows of a table.

// Of an index or of an evaluation: bin i counts what lies between edges i and i + 1.
export interface Counts {
  edges: number[];
  counts: bigint[];
}

export interface Bin {
  low: number;
  high: number;
  count: number;
  // Of all counted values.
  share: number;
}

export function toBins(histogram: Counts | undefined): Bin[] {
  if (histogram === undefined) return [];
  const counts = histogram.counts.map(Number);
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count, i) => ({
    low: histogram.edges[i] ?? 0,
    high: histogram.edges[i + 1] ?? 0,
    count,
    share: total === 0 ? 0 : count / total,
  }));
}

// The bins from the first to the last that holds anything; the empty ends say nothing.
export function trimmed(bins: readonly Bin[]): Bin[] {
  const first = bins.findIndex((bin) => bin.count > 0);
  if (first < 0) return [];
  const last = bins.findLastIndex((bin) => bin.count > 0);
  return bins.slice(first, last + 1);
}

// Where a value lies among the bins: 0 at the first one's lower edge, 1 at the last one's upper edge.
// Within a bin, `scale` places it.
export function place(bins: readonly Bin[], value: number, scale: (x: number) => number): number | null {
  const first = bins[0];
  const last = bins.at(-1);
  if (first === undefined || last === undefined) return null;
  if (value <= first.low) return 0;
  if (value >= last.high) return 1;
  const i = bins.findIndex((bin) => value < bin.high);
  const bin = bins[i];
  if (bin === undefined) return null;
  const span = scale(bin.high) - scale(bin.low);
  // A bin that begins with 0 has no logarithmic middle.
  const within = span > 0 && Number.isFinite(span) ? (scale(value) - scale(bin.low)) / span : 0;
  return (i + Math.min(1, Math.max(0, within))) / bins.length;
}

// Round values on the axis, at least `min_gap` (0 to 1) apart: powers of ten, then 2 and 5 times them.
export function logTicks(bins: readonly Bin[], min_gap = 0.14): { value: number; at: number }[] {
  const first = bins[0];
  const last = bins.at(-1);
  if (first === undefined || last === undefined) return [];
  const lowest = first.low > 0 ? first.low : first.high;
  if (!(lowest > 0)) return [];
  const from = Math.floor(Math.log10(lowest));
  const to = Math.ceil(Math.log10(last.high));
  const chosen: { value: number; at: number }[] = [];
  for (const factor of [1, 3, 2, 5]) {
    for (let e = from; e <= to; e++) {
      const value = factor * 10 ** e;
      if (value < lowest || value > last.high) continue;
      const at = place(bins, value, Math.log);
      if (at !== null && chosen.every((tick) => Math.abs(tick.at - at) >= min_gap)) chosen.push({ value, at });
    }
  }
  return chosen.sort((a, b) => a.at - b.at);
}

export function linearTicks(bins: readonly Bin[]): { value: number; at: number }[] {
  const first = bins[0];
  const last = bins.at(-1);
  if (first === undefined || last === undefined) return [];
  const ticks: { value: number; at: number }[] = [];
  for (let value = Math.ceil(first.low); value <= Math.floor(last.high); value++) {
    const at = place(bins, value, (x) => x);
    if (at !== null) ticks.push({ value, at });
  }
  return ticks;
}
