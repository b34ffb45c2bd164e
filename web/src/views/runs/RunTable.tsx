// The runs with what differs in their specifications and their latest numbers.
import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";

import { presetsQuery } from "../../api/queries";
import { definitions, isDefined } from "../../lib/definitions";
import { formatNumber } from "../../lib/format";
import { counts } from "../../training/architectures";
import { spec_fields } from "../../training/fields";
import { differences, latest, metricNames, type Run } from "../../training/runs";
import { Card } from "../../ui/Card";
import { DataTable, type Column } from "../../ui/DataTable";
import { Term } from "../../ui/Term";
import table from "../../ui/Table.module.css";
import { saeLink } from "../../url/links";
import { Swatch } from "./RunLegend";
import styles from "./Runs.module.css";

export function RunName({ run, saes }: { run: Run; saes: ReadonlySet<string> }) {
  return (
    <span className={styles.runName}>
      <Swatch index={run.index} />
      {saes.has(run.sae) ? <Link href={saeLink(run.sae)}>{run.sae}</Link> : run.sae}
    </span>
  );
}

const n_first = 3;
const final_metrics = ["explained_variance", "l0", "dead_share", "dense_share", "cosine", "mse", "loss"];

// Whether a field means anything for the run's architecture.
function isCounted(name: string, { spec }: Run): boolean {
  const field = spec_fields.find((f) => f.name === name);
  return field === undefined || counts(field, spec.architecture, spec.sparsityPenalty);
}

function metricColumn(name: string): Column<Run> {
  return {
    title: isDefined(name) ? <Term id={name}>{definitions[name].label}</Term> : name,
    numeric: true,
    cell: (run) => {
      const value = latest(run, name);
      return value === undefined ? "–" : formatNumber(value.value);
    },
  };
}

// Losses of different recipes do not compare; the others do.
export function RunTable({ runs, saes, title = "Latest numbers" }: { runs: readonly Run[]; saes: ReadonlySet<string>; title?: string }) {
  const found = metricNames(runs);
  const metrics = final_metrics.filter((name) => found.has(name));
  const { data } = useQuery(presetsQuery);
  const differing = differences(runs, data?.defaults);
  const hasHeldOut = runs.some((run) => latest(run, "explained_variance")?.isHeldOut);
  const columns: Column<Run>[] = [
    { title: "SAE", heads: true, cell: (run) => <RunName run={run} saes={saes} /> },
    // What one looks for first stays in sight where the table is wider than the page.
    ...metrics.slice(0, n_first).map(metricColumn),
    ...differing.map(
      ({ name, texts }): Column<Run> => ({
        title: <code>{name}</code>,
        cell: (run) => {
          const text = isCounted(name, run) ? (texts[runs.indexOf(run)] ?? "") : "";
          if (text !== "") return text;
          return <span className={table.muted}>{isCounted(name, run) ? "default" : "–"}</span>;
        },
      }),
    ),
    ...metrics.slice(n_first).map(metricColumn),
  ];
  return (
    <Card title={title} note={hasHeldOut ? "of held-out tokens where they were measured" : undefined} flush>
      <div data-testid="runs">
        <DataTable rows={runs} columns={columns} keyOf={(run) => run.key} />
      </div>
    </Card>
  );
}
