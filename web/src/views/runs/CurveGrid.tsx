// A chart for every metric that the runs report: the tokens trained on and the held-out ones together.
import { useDeferredValue, useMemo } from "react";

import { MetricChart, type Curve } from "../../charts/MetricChart";
import { lookOf } from "../../charts/series";
import { aligned, held_out, metricNames, shortNames, valuesOf, type Run } from "../../training/runs";
import styles from "./Runs.module.css";
import type { RunsView } from "./state";

// What one looks at first; metrics that are not named here come last.
const order = [
  ...["loss", "explained_variance", "l0", "dead_share", "mse", "fvu", "cosine", "reconstruction_bias", "explained_variance_legacy"],
  ...["l1", "dense_share", "l1_loss", "l0_loss", "auxk_loss", "gate_mse", "threshold", "k", "resampled"],
  ...["learning_rate", "grad_norm", "tokens_per_second"],
];
// Shares and what can be negative stay linear.
const linear = new Set(["explained_variance", "explained_variance_legacy", "dead_share", "dense_share", "cosine", "reconstruction_bias", "resampled", "k"]);

export function shownMetrics(found: ReadonlySet<string>): string[] {
  return [...order.filter((name) => found.has(name)), ...[...found].filter((name) => !order.includes(name)).sort()];
}

export function CurveGrid({ runs, view }: { runs: readonly Run[]; view: RunsView }) {
  const shown = useDeferredValue(runs);
  const metrics = useMemo(() => shownMetrics(metricNames(shown)), [shown]);
  const visible = shown.filter((run) => !view.isHidden(run.key));
  const focus = visible.find((run) => run.key === view.focus)?.sae ?? null;
  return (
    <div className={styles.charts}>
      {metrics.map((metric) => (
        <RunsChart key={metric} metric={metric} runs={visible} isSingle={runs.length === 1} isLog={view.y === "log" && !linear.has(metric)} focus={focus} />
      ))}
    </div>
  );
}

interface ChartProps {
  metric: string;
  runs: readonly Run[];
  isSingle: boolean;
  isLog: boolean;
  focus: string | null;
}

function RunsChart({ metric, runs, isSingle, isLog, focus }: ChartProps) {
  const same = runs.map((run) => `${run.key}:${run.points.length}:${run.points.at(-1)?.step}`).join(" ");
  // The runs are new objects at every step of any job; the curves are those of `same`.
  const { x, curves } = useMemo(() => curvesOf(runs, metric, isSingle), [same, metric, isSingle]);
  return <MetricChart id={metric} x={x} curves={curves} isLog={isLog} focus={focus} />;
}

// With more runs than that, only the curves of what is trained on are told under the cursor.
const few_runs = 4;

export function curvesOf(runs: readonly Run[], metric: string, isSingle: boolean): { x: number[]; curves: Curve[] } {
  const parts = runs.flatMap((run) =>
    [metric, held_out + metric].map((name) => ({ run, isHeldOut: name !== metric, values: valuesOf(run, name) })),
  );
  const present = parts.filter(({ values }) => values.some((value) => value !== null));
  const { x, ys } = aligned(present);
  const names = shortNames(runs.map((run) => run.sae));
  const curves = present.map(({ run, isHeldOut }, i): Curve => {
    // Of a single run, the pair is told apart by colour, too.
    const { colour, dash } = lookOf(isSingle ? Number(isHeldOut) : run.index, isHeldOut);
    const label = isSingle ? (isHeldOut ? "held out" : "trained on") : isHeldOut ? `${run.sae}, held out` : run.sae;
    const name = names[runs.indexOf(run)] ?? run.sae;
    const tip = isHeldOut ? (runs.length > few_runs ? null : `${name}, held out`) : name;
    return { label, colour, dash, y: ys[i] ?? [], tip };
  });
  return { x, curves };
}
