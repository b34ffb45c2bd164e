// What the curves say is going wrong, with the numbers found and what to try.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";

import { adviceQuery } from "../../api/queries";
import type { Advice } from "../../gen/featurescope/v1/training_pb.js";
import type { Run } from "../../training/runs";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Swatch } from "./RunLegend";
import styles from "./Runs.module.css";

const again_ms = 10_000;

export function AdviceCard({ job, isActive, runs }: { job: string; isActive: boolean; runs: readonly Run[] }) {
  const { data, error } = useQuery({ ...adviceQuery(job), refetchInterval: isActive ? again_ms : false });
  const queries = useQueryClient();
  useEffect(() => {
    if (!isActive) void queries.invalidateQueries({ queryKey: adviceQuery(job).queryKey });
  }, [isActive, job, queries]);
  return (
    <Card title="Advice" note={data && data.length > 0 ? data.length : undefined}>
      <div className={styles.advice} data-testid="advice">
        {error ? <ErrorNote error={error} /> : data === undefined ? <p className={styles.waiting}>Reading the curves…</p> : <AdviceList advice={data} runs={runs} />}
      </div>
    </Card>
  );
}

// "l0_high" is "L0 high".
export function ruleText(rule: string): string {
  const text = rule.replaceAll("_", " ").replace(/\bl(\d)\b/g, "L$1");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function AdviceList({ advice, runs }: { advice: readonly Advice[]; runs: readonly Run[] }) {
  if (runs.every((run) => run.points.length === 0)) return <p className={styles.waiting}>There are no curves yet.</p>;
  if (advice.length === 0) return <p className={styles.waiting}>The curves show nothing that is going wrong.</p>;
  return (
    <ul>
      {advice.map((item) => {
        const run = runs.length > 1 ? runs.find(({ sae }) => sae === item.saeId) : undefined;
        return (
          <li key={`${item.saeId} ${item.rule}`} data-rule={item.rule}>
            <h3>
              <span aria-hidden="true">▲</span> {ruleText(item.rule)}
            </h3>
            {run !== undefined && (
              <p className={styles.runName}>
                <Swatch index={run.index} /> {run.sae}
              </p>
            )}
            <p>{item.evidence}.</p>
            <p className={styles.suggestion}>{sentence(item.suggestion)}</p>
          </li>
        );
      })}
    </ul>
  );
}

function sentence(text: string): string {
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
}
