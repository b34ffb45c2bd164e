// Few active features against much explained variance: the runs as points, with the front of the best, or
// the same numbers as a table.
import { ScatterPlot, type Dot } from "../../charts/ScatterPlot";
import { formatNumber } from "../../lib/format";
import { paretoFront } from "../../training/pareto";
import { latest, shortNames, type Run } from "../../training/runs";
import { Card } from "../../ui/Card";
import { Choice } from "../../ui/Choice";
import { DataTable } from "../../ui/DataTable";
import { saeLink } from "../../url/links";
import { RunName } from "./RunTable";
import styles from "./Runs.module.css";
import type { RunsView } from "./state";

interface Props {
  runs: readonly Run[];
  view: RunsView;
  // The SAEs that exist by now.
  saes: ReadonlySet<string>;
}

type RunDot = Dot & { run: Run; isHeldOut: boolean };

export function dotsOf(runs: readonly Run[], saes: ReadonlySet<string>): RunDot[] {
  const names = shortNames(runs.map((run) => run.sae));
  return runs.flatMap((run, i) => {
    const x = latest(run, "l0");
    const y = latest(run, "explained_variance");
    if (x === undefined || y === undefined) return [];
    const href = saes.has(run.sae) ? saeLink(run.sae) : undefined;
    return [{ key: run.key, label: names[i] ?? run.sae, name: run.sae, href, index: run.index, x: x.value, y: y.value, run, isHeldOut: y.isHeldOut }];
  });
}

export function ParetoCard({ runs, view, saes }: Props) {
  const dots = dotsOf(
    runs.filter((run) => !view.isHidden(run.key)),
    saes,
  );
  const front = new Set(paretoFront(dots).map((dot) => dot.key));
  const isHeldOut = dots.length > 0 && dots.every((dot) => dot.isHeldOut);
  return (
    <Card
      title="L0 and explained variance"
      note={isHeldOut ? "held-out tokens; dashed: the front" : "dashed: the front"}
      actions={
        <Choice
          label="L0 and explained variance: how to show them"
          value={view.pareto}
          options={[
            ["plot", "Plot"],
            ["table", "Table"],
          ]}
          onChange={view.setPareto}
        />
      }
      flush={view.pareto === "table"}
    >
      <div className={styles.pareto} data-testid="pareto" data-shown={view.pareto}>
        {dots.length === 0 ? (
          <p className={styles.waiting}>No values yet.</p>
        ) : view.pareto === "plot" ? (
          <ScatterPlot dots={dots} x_title="L0" y_title="explained variance" focus={view.focus} onFocus={view.setFocus} />
        ) : (
          <DataTable
            rows={[...dots].sort((a, b) => a.x - b.x)}
            keyOf={(dot) => dot.key}
            columns={[
              { title: "SAE", heads: true, cell: (dot) => <RunName run={dot.run} saes={saes} /> },
              { title: "L0", numeric: true, cell: (dot) => formatNumber(dot.x) },
              { title: "Explained variance", numeric: true, cell: (dot) => formatNumber(dot.y) },
              { title: "On the front", cell: (dot) => (front.has(dot.key) ? "yes" : "") },
            ]}
          />
        )}
      </div>
    </Card>
  );
}
