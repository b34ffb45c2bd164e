// A training or a sweep: its curves and the trade of its SAEs, with advice and specification beside them.
import { useQuery } from "@tanstack/react-query";
import { useMemo, type ReactNode } from "react";

import { saesQuery } from "../../api/queries";
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { isActive } from "../../jobs/reducer";
import { useMetrics } from "../../jobs/useJobs";
import { formatCount } from "../../lib/format";
import { latest, runsOf } from "../../training/runs";
import { Choice } from "../../ui/Choice";
import { ErrorNote } from "../../ui/ErrorNote";
import { AdviceCard } from "../runs/AdviceCard";
import { CurveGrid } from "../runs/CurveGrid";
import { ParetoCard } from "../runs/ParetoCard";
import { RunLegend } from "../runs/RunLegend";
import runs_styles from "../runs/Runs.module.css";
import { RunTable } from "../runs/RunTable";
import { useRunsView } from "../runs/state";
import styles from "./Jobs.module.css";

export function TrainingJob({ job, children }: { job: Job; children: ReactNode }) {
  const { points, error } = useMetrics(job.id);
  const saes = useQuery(saesQuery);
  const known = useMemo(() => new Set((saes.data ?? []).map((sae) => sae.id)), [saes.data]);
  const runs = useMemo(() => runsOf([{ job, points }]), [job, points]);
  const view = useRunsView();
  const last = points.at(-1);
  const hasHeldOut = runs.some((run) => latest(run, "mse")?.isHeldOut);
  return (
    <div className={styles.columns}>
      <div className={runs_styles.stack}>
        {runs.length > 1 && (
          <div>
            <RunLegend runs={runs} view={view} hasHeldOut={hasHeldOut} />
            <ParetoCard runs={runs} view={view} saes={known} />
          </div>
        )}
        <section aria-label="Curves">
          <div className={runs_styles.head}>
            <p>{last === undefined ? "No metrics yet." : `Step ${formatCount(last.step)} · ${formatCount(last.tokens)} tokens`}</p>
            {runs.length === 1 && <RunLegend runs={runs} view={view} hasHeldOut={hasHeldOut} />}
            <Choice
              label="Scale of the values"
              value={view.y}
              options={[
                ["linear", "Linear"],
                ["log", "Log"],
              ]}
              onChange={view.setY}
            />
          </div>
          {error !== null && error !== undefined && <ErrorNote error={error} />}
          <CurveGrid runs={runs} view={view} />
        </section>
        {runs.length > 1 && <RunTable runs={runs} saes={known} />}
      </div>
      <div className={runs_styles.stack}>
        <AdviceCard job={job.id} isActive={isActive(job.state)} runs={runs} />
        {children}
      </div>
    </div>
  );
}
