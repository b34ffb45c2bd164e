// Several training jobs together: curves by metric over the tokens, what differs in their specifications,
// their latest numbers, and the trade of all their SAEs.
import { useQuery } from "@tanstack/react-query";
import { useId, useMemo } from "react";
import { Link } from "wouter";

import { jobsQuery, saesQuery } from "../../api/queries";
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { sortedJobs } from "../../jobs/reducer";
import { useJobMetrics, useJobs, type JobMetrics } from "../../jobs/useJobs";
import { isTrainingJob, latest, runsOf } from "../../training/runs";
import { splitList } from "../../training/sweep";
import { Button } from "../../ui/Button";
import { Choice } from "../../ui/Choice";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { textParam } from "../../url/codec";
import { jobLink, jobs_link } from "../../url/links";
import { useUrlState } from "../../url/useUrlState";
import { StateBadge } from "../jobs/JobState";
import jobs_styles from "../jobs/Jobs.module.css";
import { briefOf } from "../jobs/spec";
import { CurveGrid } from "./CurveGrid";
import { ParetoCard } from "./ParetoCard";
import { RunLegend } from "./RunLegend";
import styles from "./Runs.module.css";
import { RunTable } from "./RunTable";
import { useRunsView } from "./state";

const codec = { jobs: textParam() };

// As many as can be told apart.
const most_jobs = 16;

export default function CompareView() {
  usePageTitle("Compare training runs");
  const [{ jobs }, set] = useUrlState(codec);
  const ids = useMemo(() => [...new Set(splitList(jobs))].slice(0, most_jobs), [jobs]);
  const found = useJobMetrics(ids);
  const setIds = (next: readonly string[]) => set({ jobs: next.join(",") });
  return (
    <>
      <header className={jobs_styles.head}>
        <nav className={jobs_styles.path} aria-label="Path">
          <Link href={jobs_link}>Jobs</Link>
        </nav>
        <h1>Compare training runs</h1>
        <div className={jobs_styles.actions}>
          <AddJob ids={ids} onAdd={(id) => setIds([...ids, id])} />
        </div>
      </header>
      {ids.length === 0 ? (
        <Empty title="No run is chosen.">
          <p>
            Choose training jobs above, or tick them in the <Link href={jobs_link}>list of jobs</Link>.
          </p>
        </Empty>
      ) : (
        <>
          <ul className={styles.jobs} aria-label="Jobs that are compared">
            {found.map((one) => (
              <JobChip key={one.id} one={one} onRemove={() => setIds(ids.filter((id) => id !== one.id))} />
            ))}
          </ul>
          <Comparison found={found} />
        </>
      )}
    </>
  );
}

function JobChip({ one: { id, job, error }, onRemove }: { one: JobMetrics; onRemove: () => void }) {
  const brief = job && briefOf(job);
  const name = brief === undefined ? id : brief.subject;
  return (
    <li>
      <Link href={jobLink(id)}>{name}</Link>
      {job !== undefined && <StateBadge state={job.state} />}
      <Button look="quiet" aria-label={`Remove ${name} from the comparison`} onClick={onRemove}>
        ✕
      </Button>
      {error !== null && error !== undefined && <ErrorNote error={error} />}
      {job !== undefined && !isTrainingJob(job) && <span>is not a training job</span>}
    </li>
  );
}

function Comparison({ found }: { found: readonly JobMetrics[] }) {
  const saes = useQuery(saesQuery);
  const known = useMemo(() => new Set((saes.data ?? []).map((sae) => sae.id)), [saes.data]);
  const runs = runsOf(found.flatMap(({ job, points }) => (job === undefined ? [] : [{ job, points }])));
  const view = useRunsView();
  if (runs.length === 0) return found.some(({ job, error }) => job === undefined && !error) ? <Loading what="the runs" /> : null;
  const hasHeldOut = runs.some((run) => latest(run, "mse")?.isHeldOut);
  return (
    <div className={styles.stack}>
      <div>
        <RunLegend runs={runs} view={view} hasHeldOut={hasHeldOut} />
        <div className={styles.beside}>
          <ParetoCard runs={runs} view={view} saes={known} />
          <RunTable runs={runs} saes={known} title="What differs, and what came of it" />
        </div>
      </div>
      <section aria-label="Curves">
        <div className={styles.head}>
          <h2>Curves over the tokens trained on</h2>
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
        <CurveGrid runs={runs} view={view} />
      </section>
    </div>
  );
}

function AddJob({ ids, onAdd }: { ids: readonly string[]; onAdd: (id: string) => void }) {
  const live = useJobs();
  const list = useQuery(jobsQuery);
  const label = useId();
  const known = new Map((list.data ?? []).map((job) => [job.id, job]));
  for (const [id, job] of live.jobs) known.set(id, job);
  const free = sortedJobs(known.values()).filter((job: Job) => isTrainingJob(job) && !ids.includes(job.id));
  return (
    <span className={styles.picker}>
      <label htmlFor={label}>Add</label>
      <select id={label} value="" disabled={free.length === 0 || ids.length >= most_jobs} onChange={(e) => onAdd(e.target.value)}>
        <option value="">{free.length === 0 ? "no other training job" : "a training job…"}</option>
        {free.map((job) => (
          <option key={job.id} value={job.id}>
            {`${briefOf(job).subject}: ${briefOf(job).detail}`}
          </option>
        ))}
      </select>
    </span>
  );
}
