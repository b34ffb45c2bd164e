// All jobs, live.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";

import { jobsQuery } from "../../api/queries";
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { isActive, sortedJobs } from "../../jobs/reducer";
import { useJobs } from "../../jobs/useJobs";
import { formatDuration, formatTime } from "../../lib/format";
import { Button, ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { DataTable, type Column } from "../../ui/DataTable";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { useShortcut } from "../../ui/shortcuts";
import { usePageTitle } from "../../ui/usePageTitle";
import { isTrainingJob } from "../../training/runs";
import { addModelLink, addSaeLink, cachingFormLink, compareLink, indexingFormLink, jobLink, trainingFormLink } from "../../url/links";
import { moveInTable } from "../sae/moveInTable";
import { CancelButton } from "./CancelButton";
import { Connection } from "./Connection";
import { Progress, progressText, StateBadge } from "./JobState";
import styles from "./Jobs.module.css";
import { briefOf } from "./spec";

export default function JobsView() {
  usePageTitle("Jobs");
  const live = useJobs();
  const [picked, setPicked] = useState<readonly string[]>([]);
  const list = useQuery(jobsQuery);
  useShortcut("j", () => moveInTable(1));
  useShortcut("k", () => moveInTable(-1));
  const known = new Map((list.data ?? []).map((job) => [job.id, job]));
  for (const [id, job] of live.jobs) known.set(id, job);
  const all = sortedJobs(known.values());
  const isLoading = list.isPending && live.jobs.size === 0;
  return (
    <>
      <header className={styles.head}>
        <h1>Jobs</h1>
        <Connection state={live} />
        <div className={styles.actions}>
          <ButtonLink href={addModelLink({ from: "hub" })}>Pull a model…</ButtonLink>
          <ButtonLink href={addSaeLink({ from: "hub" })}>Pull an SAE…</ButtonLink>
          <ButtonLink href={cachingFormLink()}>Cache activations…</ButtonLink>
          <ButtonLink href={trainingFormLink()}>Train an SAE…</ButtonLink>
          <ButtonLink href={indexingFormLink()}>Index an SAE…</ButtonLink>
        </div>
      </header>
      {list.isError && live.jobs.size === 0 && <ErrorNote error={list.error} onRetry={() => void list.refetch()} />}
      <Card
        title="Jobs of this server"
        note={all.length > 0 ? `${all.filter((j) => isActive(j.state)).length} active` : undefined}
        actions={<Compare picked={picked} onClear={() => setPicked([])} />}
        flush
      >
        {isLoading ? (
          <Loading what="jobs" />
        ) : all.length === 0 ? (
          <Empty
            title="There has been no job yet."
            command="featurescope train --model ID --corpus ID --hook NAME --architecture topk --k 32 --d-sae 4096 --tokens 2000000 --id NEW --wait"
          >
            <p>Train an SAE from the button above, or run:</p>
          </Empty>
        ) : (
          <DataTable rows={all} columns={[pickColumn(picked, setPicked), ...columns]} keyOf={(job) => job.id} attributes={(job) => ({ "data-job": job.id })} />
        )}
      </Card>
    </>
  );
}

function Compare({ picked, onClear }: { picked: readonly string[]; onClear: () => void }) {
  if (picked.length === 0) return <span className={styles.hint}>Tick training jobs to compare them.</span>;
  return (
    <>
      <Button look="quiet" onClick={onClear}>
        Clear
      </Button>
      <ButtonLink look="primary" href={compareLink(picked)}>
        {picked.length === 1 ? "Compare with…" : `Compare ${picked.length} jobs`}
      </ButtonLink>
    </>
  );
}

function pickColumn(picked: readonly string[], setPicked: (ids: readonly string[]) => void): Column<Job> {
  return {
    title: <span className="sr-only">Compare</span>,
    className: styles.pick,
    cell: (job) =>
      isTrainingJob(job) && (
        <input
          type="checkbox"
          aria-label={`Compare ${nameOf(job)}`}
          checked={picked.includes(job.id)}
          onChange={(e) => setPicked(e.target.checked ? [...picked, job.id] : picked.filter((id) => id !== job.id))}
        />
      ),
  };
}

const nameOf = (job: Job) => `${briefOf(job).kind} ${briefOf(job).subject}`;

const columns: Column<Job>[] = [
  {
    title: "Job",
    heads: true,
    cell: (job) => (
      <Link href={jobLink(job.id)} data-row>
        {nameOf(job)}
      </Link>
    ),
  },
  {
    title: "What",
    className: `${table.muted} ${styles.what}`,
    cell: (job) => <span title={briefOf(job).detail}>{briefOf(job).detail}</span>,
  },
  { title: "State", cell: (job) => <StateBadge state={job.state} /> },
  {
    title: "Progress",
    cell: (job) => (
      <div className={styles.cell}>
        <Progress job={job} label={`Progress of ${nameOf(job)}`} />
        <span className={styles.progressText} title={job.error === "" ? undefined : job.error}>
          {job.error !== "" && !isActive(job.state) ? job.error : progressText(job)}
        </span>
      </div>
    ),
  },
  { title: "Created", className: table.muted, cell: (job) => formatTime(job.created) },
  { title: "Took", numeric: true, cell: took },
  {
    title: <span className="sr-only">Actions</span>,
    numeric: true,
    cell: (job) => isActive(job.state) && <CancelButton id={job.id} what={nameOf(job)} />,
  },
];

function took(job: Job): string {
  if (job.started === "" || job.finished === "") return "–";
  return formatDuration((Date.parse(job.finished) - Date.parse(job.started)) / 1000);
}
