// The curves of a training job: loss, FVU, L0 and dead share over the tokens seen.
import { MetricChart } from "../../charts/MetricChart";
import { useMetrics } from "../../jobs/useJobs";
import type { DefinitionId } from "../../lib/definitions";
import { formatCount, formatNumber } from "../../lib/format";
import { Choice } from "../../ui/Choice";
import { ErrorNote } from "../../ui/ErrorNote";
import { choiceParam } from "../../url/codec";
import { useUrlState } from "../../url/useUrlState";
import styles from "./Jobs.module.css";

const codec = { y: choiceParam(["linear", "log"], "linear") };

const curves: { name: DefinitionId & string; canLog: boolean }[] = [
  { name: "loss", canLog: true },
  { name: "fvu", canLog: true },
  { name: "l0", canLog: true },
  { name: "dead_share", canLog: false },
];

export function Curves({ job }: { job: string }) {
  const [{ y }, set] = useUrlState(codec);
  const { points, error } = useMetrics(job);
  const tokens = points.map((point) => Number(point.tokens));
  const last = points.at(-1);
  return (
    <section aria-label="Curves">
      <div className={styles.curvesHead}>
        <p>
          {last === undefined
            ? "No metrics yet."
            : `Step ${formatCount(last.step)} · ${formatCount(last.tokens)} tokens` +
              (last.values["learning_rate"] === undefined ? "" : ` · learning rate ${formatNumber(last.values["learning_rate"])}`)}
        </p>
        <Choice
          label="Scale of the values"
          value={y}
          options={[
            ["linear", "Linear"],
            ["log", "Log"],
          ]}
          onChange={(next) => set({ y: next })}
        />
      </div>
      {error !== null && error !== undefined && <ErrorNote error={error} />}
      <div className={styles.charts}>
        {curves.map(({ name, canLog }) => (
          <MetricChart
            key={name}
            id={name}
            x={tokens}
            y={points.map((point) => point.values[name] ?? null)}
            isLog={canLog && y === "log"}
          />
        ))}
      </div>
    </section>
  );
}
