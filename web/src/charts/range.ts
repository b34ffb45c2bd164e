// The range of a linear axis of values: some room around them, a flat line inside. Where the beginning lies far
// outside of what follows, as before training has begun to work, it is cut off so that the rest can be read.

type Values = ArrayLike<number | null | undefined>;

interface Extent {
  low: number;
  high: number;
}

// Of the points, so many belong to the beginning; with fewer points there is none.
const beginning = 0.15;
const fewest_points = 20;
// Cut off is what is farther away than so many times the extent of the rest.
const far = 3;

function extent(curves: readonly Values[], from: number): Extent | null {
  let low = Infinity;
  let high = -Infinity;
  for (const values of curves) {
    for (let i = from; i < values.length; i++) {
      const value = values[i];
      if (value === null || value === undefined || !Number.isFinite(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return low <= high ? { low, high } : null;
}

function withRoom({ low, high }: Extent): [number, number] {
  if (low === high) return low === 0 ? [0, 0.1] : low > 0 ? [0, 2 * low] : [2 * low, 0];
  const room = 0.08 * (high - low);
  // What is never negative begins at 0 rather than below.
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

export function rangeOf(curves: readonly Values[]): { range: [number, number]; isCut: boolean } {
  const all = extent(curves, 0);
  if (all === null) return { range: [0, 1], isCut: false };
  const n = Math.max(...curves.map((values) => values.length));
  const rest = n < fewest_points ? null : extent(curves, Math.floor(n * beginning));
  if (rest === null || rest.low === rest.high) return { range: withRoom(all), isCut: false };
  const span = rest.high - rest.low;
  const cutsLow = rest.low - all.low > far * span;
  const cutsHigh = all.high - rest.high > far * span;
  const kept = { low: cutsLow ? rest.low - span / 2 : all.low, high: cutsHigh ? rest.high + span / 2 : all.high };
  return { range: withRoom(kept), isCut: cutsLow || cutsHigh };
}
