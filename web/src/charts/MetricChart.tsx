// A metric over the tokens trained on, drawn by uPlot; the charts of a page share their cursor.
import "uplot/dist/uPlot.min.css";

import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";

import { definitions, type DefinitionId } from "../lib/definitions";
import { formatNumber, formatShort, formatTick } from "../lib/format";
import { Term } from "../ui/Term";
import { useSeenTheme } from "../ui/theme";
import styles from "./MetricChart.module.css";

const height = 190;
const cursors = uPlot.sync("metrics");

interface Props {
  id: DefinitionId;
  x: number[];
  y: (number | null)[];
  isLog: boolean;
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

// Some room around the values; a flat line lies inside the plot, at 0 on its floor.
function linearRange(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  if (low === high) return low === 0 ? [0, 0.1] : low > 0 ? [0, 2 * low] : [2 * low, 0];
  const [from, to] = uPlot.rangeNum(low, high, 0.1, true);
  return [from ?? low, to ?? high];
}

function optionsFor(host: HTMLElement, isLog: boolean, onCursor: (index: number | null) => void): uPlot.Options {
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
    cursor: { sync: { key: cursors.key }, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: isLog ? { distr: 3 } : { range: (_, low, high) => linearRange(low, high) } },
    axes: [
      { ...axis, size: 26, space: 64, values: (_, ticks) => ticks.map((tick) => formatTick(tick)) },
      { ...axis, size: 50, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : formatTick(tick))) },
    ],
    series: [{}, { stroke: colour(host, "--heat-line"), width: 1.6, points: { show: false } }],
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)] },
  };
}

export function MetricChart({ id, x, y, isLog }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = useRef<uPlot.AlignedData>([x, y]);
  const [cursor, setCursor] = useState<number | null>(null);
  const theme = useSeenTheme();
  const canLog = isLog && y.every((value) => value === null || value > 0);
  data.current = [x, y];

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const chart = new uPlot(optionsFor(element, canLog, setCursor), data.current, element);
    plot.current = chart;
    const resize = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [theme, canLog]);

  useEffect(() => plot.current?.setData([x, y]), [x, y]);

  const at = cursor ?? y.findLastIndex((value) => value !== null);
  const value = y[at];
  const told = value === null || value === undefined ? "no value yet" : formatNumber(value);
  return (
    <figure className={styles.chart} data-testid={`chart-${id}`} data-points={y.filter((v) => v !== null).length}>
      <figcaption>
        <Term id={id} />
        <span>
          {value === null || value === undefined ? "–" : formatNumber(value)}
          {cursor !== null && <small> at {formatShort(x[cursor] ?? 0)}</small>}
        </span>
      </figcaption>
      <div ref={host} role="img" aria-label={`${definitions[id].label} over tokens, ${y.length} points, latest ${told}`} />
    </figure>
  );
}
