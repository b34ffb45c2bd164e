// The front of a trade between two numbers, e.g. few active features (less is better) against much explained
// variance (more is better).

export interface Point {
  x: number;
  y: number;
}

// The points that no other one beats or equals in both, from the left to the right: y rises along them.
export function paretoFront<P extends Point>(points: readonly P[]): P[] {
  const sorted = points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)).sort((a, b) => a.x - b.x || b.y - a.y);
  const front: P[] = [];
  for (const point of sorted) {
    const last = front.at(-1);
    if (last === undefined || point.y > last.y) front.push(point);
  }
  return front;
}

// Round steps over a range: at most `most` + 1 of them, of 1, 2 or 5 times a power of ten.
export function ticksOf(low: number, high: number, most: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

// The same for a logarithmic axis: 1, 2 and 5 times the powers of ten within it.
export function logTicksOf(low: number, high: number): number[] {
  if (!(low > 0) || !(high >= low)) return [];
  const ticks: number[] = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (const factor of [1, 2, 5]) {
      const value = Number((factor * 10 ** e).toPrecision(6));
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  }
  return ticks;
}
