// Points of two numbers with the front of the best of them, as an SVG; each point is a link, and a mark and
// a colour of its own. Few active features lie on the left, much explained variance above.
import { useId, useLayoutEffect, useRef, useState } from "react";
import { Link } from "wouter";

import { formatNumber, formatTick } from "../lib/format";
import { logTicksOf, paretoFront, ticksOf, type Point } from "../training/pareto";
import { lookOf, markPath } from "./series";
import styles from "./ScatterPlot.module.css";

export interface Dot extends Point {
  key: string;
  // Beside the mark, and in full.
  label: string;
  name: string;
  // Where it leads; undefined: nowhere yet.
  href: string | undefined;
  index: number;
}

interface Props {
  dots: readonly Dot[];
  x_title: string;
  y_title: string;
  focus: string | null;
  onFocus: (key: string | null) => void;
}

const height = 300;
const margin = { left: 52, right: 16, top: 12, bottom: 38 };

function padded(low: number, high: number, share: number): [number, number] {
  const room = high > low ? (high - low) * share : Math.max(Math.abs(high), 0.01) * share;
  return [low - room, high + room];
}

export function ScatterPlot({ dots, x_title, y_title, focus, onFocus }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(640);
  const title = useId();
  // Before the first paint, so that nothing jumps.
  useLayoutEffect(() => {
    const element = host.current;
    if (element === null) return;
    const measure = () => setWidth(Math.max(240, element.clientWidth));
    measure();
    const resize = new ResizeObserver(measure);
    resize.observe(element);
    return () => resize.disconnect();
  }, []);

  const xs = dots.map((dot) => dot.x);
  const ys = dots.map((dot) => dot.y);
  const isLog = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 8;
  const scale = isLog ? Math.log : (value: number) => value;
  const [x_low, x_high] = padded(scale(Math.min(...xs)), scale(Math.max(...xs)), 0.08);
  const [y_low, y_high] = padded(Math.min(...ys), Math.max(...ys), 0.12);
  const toX = (value: number) => margin.left + ((scale(value) - x_low) / (x_high - x_low)) * (width - margin.left - margin.right);
  const toY = (value: number) => height - margin.bottom - ((value - y_low) / (y_high - y_low)) * (height - margin.top - margin.bottom);
  const x_ticks = isLog ? logTicksOf(Math.exp(x_low), Math.exp(x_high)) : ticksOf(x_low, x_high, 6);
  const front = paretoFront(dots);
  const isRight = (dot: Dot) => toX(dot.x) > width - 130;
  const labelled = new Set(
    withoutOverlap(front.map((dot) => ({ key: dot.key, x: toX(dot.x) + (isRight(dot) ? -label_width(dot) : 0), y: toY(dot.y) + (isRight(dot) ? -21 : 0), width: label_width(dot) }))),
  );
  return (
    <div ref={host}>
      <svg className={styles.plot} width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="group" aria-labelledby={title}>
        <title id={title}>{`${y_title} over ${x_title}: ${dots.length} SAEs, ${front.length} on the front`}</title>
        {ticksOf(y_low, y_high, 5).map((tick) => (
          <g key={tick}>
            <line className={styles.grid} x1={margin.left} x2={width - margin.right} y1={toY(tick)} y2={toY(tick)} />
            <text className={styles.tick} x={margin.left - 8} y={toY(tick) + 3.5} textAnchor="end">
              {formatTick(tick)}
            </text>
          </g>
        ))}
        {x_ticks.map((tick) => (
          <g key={tick}>
            <line className={styles.grid} x1={toX(tick)} x2={toX(tick)} y1={margin.top} y2={height - margin.bottom} />
            <text className={styles.tick} x={toX(tick)} y={height - margin.bottom + 15} textAnchor="middle">
              {formatTick(tick)}
            </text>
          </g>
        ))}
        <text className={styles.title} x={width - margin.right} y={height - 6} textAnchor="end">
          {x_title} →
        </text>
        <text className={styles.title} x={margin.left + 6} y={margin.top + 8}>
          ↑ {y_title}
        </text>
        <polyline className={styles.front} points={front.map((dot) => `${toX(dot.x)},${toY(dot.y)}`).join(" ")} data-front={front.length} />
        {dots.map((dot) => (
          <Mark key={dot.key} dot={dot} at={[toX(dot.x), toY(dot.y)]} isLabelled={focus === null ? labelled.has(dot.key) : focus === dot.key} isFaint={focus !== null && focus !== dot.key} onFocus={onFocus} isRight={isRight(dot)} />
        ))}
      </svg>
    </div>
  );
}

// About the pixels that a label takes.
const label_width = (dot: Dot) => 9 + 6 * dot.label.length;
const label_height = 13;

// The keys of the boxes that lie on none of those before them.
export function withoutOverlap(boxes: readonly { key: string; x: number; y: number; width: number }[]): string[] {
  const kept: (typeof boxes)[number][] = [];
  for (const box of boxes) {
    const isFree = kept.every((other) => Math.abs(box.y - other.y) >= label_height || box.x >= other.x + other.width || other.x >= box.x + box.width);
    if (isFree) kept.push(box);
  }
  return kept.map(({ key }) => key);
}

interface MarkProps {
  dot: Dot;
  at: [number, number];
  isFaint: boolean;
  // The front's have their names beside them where there is room, or only the one that stands out.
  isLabelled: boolean;
  isRight: boolean;
  onFocus: (key: string | null) => void;
}

function Mark({ dot, at: [x, y], isFaint, isLabelled, isRight, onFocus }: MarkProps) {
  const { colour, mark } = lookOf(dot.index);
  const told = `${dot.name}: L0 ${formatNumber(dot.x)}, explained variance ${formatNumber(dot.y)}`;
  const events = { onPointerEnter: () => onFocus(dot.key), onPointerLeave: () => onFocus(null), onFocus: () => onFocus(dot.key), onBlur: () => onFocus(null) };
  const drawn = (
    <g transform={`translate(${x},${y})`} opacity={isFaint ? 0.25 : 1}>
      <circle className={styles.hit} r={13} />
      <path d={markPath(mark, 11)} fill={`var(${colour})`} className={styles.mark} />
      {isLabelled && (
        <text className={styles.label} aria-hidden="true" x={isRight ? -9 : 9} y={isRight ? -7 : 14} textAnchor={isRight ? "end" : "start"}>
          {dot.label}
        </text>
      )}
    </g>
  );
  if (dot.href === undefined) {
    return (
      <g {...events}>
        <title>{told}</title>
        {drawn}
      </g>
    );
  }
  return (
    <Link href={dot.href} className={styles.link} {...events}>
      <title>{told}</title>
      {drawn}
    </Link>
  );
}
