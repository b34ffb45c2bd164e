// How the n-th of several runs is drawn: eight colours, then the same again with dotted lines; marks repeat
// with another period, so that a colour and a mark together are one run's.

export interface Look {
  // The CSS variable's name.
  colour: string;
  dash: number[];
  mark: Mark;
}

export const marks = ["circle", "square", "triangle", "diamond", "cross"] as const;
export type Mark = (typeof marks)[number];

export const n_colours = 8;

export function lookOf(index: number, isHeldOut = false): Look {
  const isRepeated = Math.floor(index / n_colours) % 2 === 1;
  return {
    colour: `--series-${(index % n_colours) + 1}`,
    dash: isHeldOut ? (isRepeated ? [7, 3, 2, 3] : [7, 4]) : isRepeated ? [2, 3] : [],
    mark: marks[index % marks.length] ?? "circle",
  };
}

// A mark as an SVG path about the origin, of about `size` across.
export function markPath(mark: Mark, size: number): string {
  const r = size / 2;
  switch (mark) {
    case "circle":
      return `M${-r},0a${r},${r} 0 1,0 ${size},0a${r},${r} 0 1,0 ${-size},0`;
    case "square":
      return `M${-r * 0.9},${-r * 0.9}h${size * 0.9}v${size * 0.9}h${-size * 0.9}z`;
    case "triangle":
      return `M0,${-r * 1.15}L${r * 1.1},${r * 0.85}L${-r * 1.1},${r * 0.85}z`;
    case "diamond":
      return `M0,${-r * 1.25}L${r * 1.25},0L0,${r * 1.25}L${-r * 1.25},0z`;
    case "cross":
      return `M${-r},${-r * 0.4}h${r * 0.6}v${-r * 0.6}h${r * 0.8}v${r * 0.6}h${r * 0.6}v${r * 0.8}h${-r * 0.6}v${r * 0.6}h${-r * 0.8}v${-r * 0.6}h${-r * 0.6}z`;
  }
}
