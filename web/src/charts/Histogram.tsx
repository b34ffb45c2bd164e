// A histogram as an SVG, or the same numbers as a table.
import { useId } from "react";

import { formatCount, formatNumber, formatShare, formatTick } from "../lib/format";
import { linearTicks, logTicks, place, toBins, trimmed, type Bin, type Counts } from "./bins";
import styles from "./Histogram.module.css";

export interface Marker {
  value: number;
  label: string;
}

interface Props {
  histogram: Counts | undefined;
  // What is counted, e.g. "tokens", and over what, e.g. "activation".
  counted: string;
  quantity: string;
  // "log": bins of log-spaced values; "exponent": the values are exponents of ten themselves.
  axis: "log" | "exponent";
  markers?: readonly Marker[];
  asTable: boolean;
  // Units of the drawing across, about the pixels it gets, so that its text keeps its size.
  width?: number;
}

const height = 120;
const top = 14;
const bottom = 18;

function tickText(value: number, axis: Props["axis"]): string {
  return axis === "exponent" ? `10${superscript(value)}` : formatTick(value);
}

function superscript(value: number): string {
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  return [...String(value)].map((c) => (c === "-" ? "⁻" : (digits[Number(c)] ?? c))).join("");
}

export function Histogram(props: Props) {
  const bins = trimmed(toBins(props.histogram));
  if (bins.length === 0) return <p className={styles.none}>No positive values to count.</p>;
  return props.asTable ? <HistogramTable bins={bins} {...props} /> : <Bars bins={bins} {...props} />;
}

function Bars({ bins, axis, counted, quantity, markers = [], width = 344 }: Props & { bins: Bin[] }) {
  const title = useId();
  const largest = Math.max(...bins.map((bin) => bin.count));
  const plot = height - top - bottom;
  const step = width / bins.length;
  const ticks = axis === "log" ? logTicks(bins) : linearTicks(bins);
  const scale = axis === "log" ? Math.log : (x: number) => x;
  return (
    <svg className={styles.plot} viewBox={`0 0 ${width} ${height}`} role="img" aria-labelledby={title}>
      <title id={title}>{`Histogram of ${quantity}: ${bins.length} bins, most ${counted} in one bin ${formatCount(largest)}`}</title>
      <line className={styles.axis} x1={0} x2={width} y1={height - bottom + 0.5} y2={height - bottom + 0.5} />
      {bins.map((bin, i) => {
        const h = bin.count === 0 ? 0 : Math.max(1, (bin.count / largest) * plot);
        return (
          <g key={i} className={styles.bin}>
            <title>{`${formatNumber(bin.low)} to ${formatNumber(bin.high)}: ${formatCount(bin.count)} ${counted} (${formatShare(bin.share)})`}</title>
            <rect className={styles.hit} x={i * step} y={0} width={step} height={height - bottom} />
            <rect className={styles.bar} x={i * step + 0.5} y={height - bottom - h} width={Math.max(0.5, step - 1)} height={h} />
          </g>
        );
      })}
      {ticks.map(({ value, at }) => (
        <g key={value}>
          <line className={styles.axis} x1={at * width} x2={at * width} y1={height - bottom} y2={height - bottom + 4} />
          <text className={styles.tick} x={at * width} y={height - 3} textAnchor={at < 0.04 ? "start" : at > 0.96 ? "end" : "middle"}>
            {tickText(value, axis)}
          </text>
        </g>
      ))}
      {markers.map(({ value, label }) => {
        const at = place(bins, value, scale);
        if (at === null) return null;
        return (
          <g key={label}>
            <line className={styles.marker} x1={at * width} x2={at * width} y1={top - 2} y2={height - bottom} />
            <text className={styles.markerText} x={at * width} y={9} textAnchor={at < 0.15 ? "start" : at > 0.85 ? "end" : "middle"}>
              {label}
            </text>
          </g>
        );
      })}
    </svg>
  );
}

export function HistogramTable({ bins, axis, counted, quantity }: Pick<Props, "axis" | "counted" | "quantity"> & { bins: Bin[] }) {
  const edge = (value: number) => (axis === "exponent" ? formatNumber(10 ** value) : formatNumber(value));
  return (
    <div className={styles.scroll} tabIndex={0} role="region" aria-label={`Histogram of ${quantity} as a table`}>
      <table className={styles.table}>
        <thead>
          <tr>
            <th scope="col">{quantity}</th>
            <th scope="col" className="num">
              {counted}
            </th>
            <th scope="col" className="num">
              share
            </th>
          </tr>
        </thead>
        <tbody>
          {bins.map((bin) => (
            <tr key={bin.low}>
              <th scope="row">{`${edge(bin.low)} – ${edge(bin.high)}`}</th>
              <td className="num">{formatCount(bin.count)}</td>
              <td className="num">{formatShare(bin.share)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
