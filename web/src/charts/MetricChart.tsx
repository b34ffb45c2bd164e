// A metric over the tokens trained on, as one curve or several, drawn by uPlot; the charts of a page share
// their cursor. What is off the screen is not redrawn.
import "uplot/dist/uPlot.min.css";

import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";

import { definitions, isDefined } from "../lib/definitions";
import { formatNumber, formatShort, formatTick } from "../lib/format";
import { Term } from "../ui/Term";
import { useSeenTheme } from "../ui/theme";
import styles from "./MetricChart.module.css";
import { rangeOf } from "./range";

const height = 170;
const cursors = uPlot.sync("metrics");

export interface Curve {
  label: string;
  // The CSS variable of its colour.
  colour: string;
  dash: number[];
  y: (number | null)[];
  // Its name beside its value under the cursor; null: not listed there.
  tip: string | null;
}

interface Props {
  // The metric's name.
  id: string;
  x: number[];
  curves: Curve[];
  isLog: boolean;
  // The label of the run that stands out; null: all do.
  focus: string | null;
}

function colour(element: Element, name: string): string {
  // A canvas cannot resolve light-dark(): let a property of the element do it.
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.appendChild(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

interface Cursor {
  index: number;
  left: number;
}

function optionsFor(host: HTMLElement, curves: readonly Curve[], isLog: boolean, onCursor: (cursor: Cursor | null) => void): uPlot.Options {
  const ink = colour(host, "--ink-3");
  const axis: uPlot.Axis = {
    stroke: ink,
    font: "10.5px 'Inter Variable', sans-serif",
    grid: { stroke: colour(host, "--line"), width: 1 },
    ticks: { stroke: colour(host, "--line-strong"), width: 1, size: 4 },
  };
  return {
    width: host.clientWidth,
    height,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    focus: { alpha: 0.18 },
    cursor: { sync: { key: cursors.key }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: false }, y: isLog ? { distr: 3 } : { range: (plot) => rangeOf(plot.data.slice(1)).range } },
    axes: [
      { ...axis, size: 26, space: 64, values: (_, ticks) => ticks.map((tick) => formatTick(tick)) },
      { ...axis, size: 50, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : formatTick(tick))) },
    ],
    series: [
      {},
      ...curves.map((curve) => ({ stroke: colour(host, curve.colour), dash: curve.dash, width: 1.6, spanGaps: true, points: { show: false } })),
    ],
    hooks: {
      setCursor: [
        (plot) => {
          const { idx, left } = plot.cursor;
          onCursor(idx === null || idx === undefined ? null : { index: idx, left: left ?? 0 });
        },
      ],
    },
  };
}

// The value at a place, or the one before where nothing was measured there.
function valueAt(y: readonly (number | null)[], index: number): number | null {
  for (let i = Math.min(index, y.length - 1); i >= 0; i--) {
    const value = y[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

const numberText = (value: number | null) => (value === null ? "–" : formatNumber(value));

export function MetricChart({ id, x, curves, isLog, focus }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const isSeen = useRef(true);
  const [cursor, setCursor] = useState<Cursor | null>(null);
  const [isOver, setOver] = useState(false);
  const theme = useSeenTheme();
  const canLog = isLog && curves.every(({ y }) => y.every((value) => value === null || value > 0));
  const looks = JSON.stringify(curves.map(({ label, colour, dash }) => [label, colour, dash]));
  const latest = useRef({ curves, data: [x, ...curves.map(({ y }) => y)] as uPlot.AlignedData });
  latest.current = { curves, data: [x, ...curves.map(({ y }) => y)] };

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const chart = new uPlot(optionsFor(element, latest.current.curves, canLog, setCursor), latest.current.data, element);
    plot.current = chart;
    const resize = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    resize.observe(element);
    const seen = new IntersectionObserver(([entry]) => {
      const isNow = entry?.isIntersecting ?? true;
      if (isNow && !isSeen.current) chart.setData(latest.current.data);
      isSeen.current = isNow;
    });
    seen.observe(element);
    return () => {
      resize.disconnect();
      seen.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [theme, canLog, looks]);

  useEffect(() => {
    if (isSeen.current) plot.current?.setData([x, ...curves.map(({ y }) => y)]);
  }, [x, curves]);

  useEffect(() => {
    const found = focus === null ? -1 : latest.current.curves.findIndex(({ label }) => label === focus);
    plot.current?.setSeries(found < 0 ? null : found + 1, { focus: found >= 0 });
  }, [focus, looks, theme, canLog]);

  const isCut = !canLog && rangeOf(curves.map(({ y }) => y)).isCut;
  const index = cursor?.index ?? x.length - 1;
  const values = curves.map(({ label, y }) => `${label} ${numberText(valueAt(y, x.length - 1))}`);
  const label = isDefined(id) ? definitions[id].label : id;
  const isFew = curves.length <= 2;
  return (
    <figure
      className={styles.chart}
      data-testid={`chart-${id}`}
      data-points={Math.max(0, ...curves.map(({ y }) => y.filter((v) => v !== null).length))}
      onPointerEnter={() => setOver(true)}
      onPointerLeave={() => setOver(false)}
    >
      <figcaption>
        {isDefined(id) ? <Term id={id} /> : <span>{id}</span>}
        <span className={styles.values}>
          {isFew &&
            curves.map((curve) => (
              <span key={curve.label} title={curve.label}>
                <i className={styles.dot} style={{ background: `var(${curve.colour})` }} />
                {numberText(valueAt(curve.y, index))}
              </span>
            ))}
          {cursor === null && isCut && <small title="The scale is that of what came after the beginning.">beginning cut off</small>}
          {cursor !== null && <small>at {formatShort(x[index] ?? 0)}</small>}
        </span>
      </figcaption>
      <div className={styles.host}>
        <div ref={host} role="img" aria-label={`${label} over tokens, ${x.length} points; latest: ${values.slice(0, 16).join(", ")}`} />
        {!isFew && isOver && cursor !== null && <Tip curves={curves} cursor={cursor} isLeft={cursor.left > (host.current?.clientWidth ?? 0) / 2} />}
      </div>
    </figure>
  );
}

// The curves' values under the cursor, largest first.
function Tip({ curves, cursor, isLeft }: { curves: readonly Curve[]; cursor: Cursor; isLeft: boolean }) {
  const rows = curves
    .map((curve) => ({ curve, value: valueAt(curve.y, cursor.index) }))
    .filter((row): row is { curve: Curve; value: number } => row.value !== null && row.curve.tip !== null)
    .sort((a, b) => b.value - a.value)
    .slice(0, 12);
  const side = isLeft ? { left: 56 } : { right: 8 };
  return (
    <table className={styles.tip} style={side} aria-hidden="true">
      <tbody>
        {rows.map(({ curve, value }) => (
          <tr key={curve.label}>
            <td style={{ color: `var(${curve.colour})` }}>{curve.dash.length > 0 ? "┅" : "━"}</td>
            <td>{curve.tip}</td>
            <td>{formatNumber(value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
