// All jobs, live.
import { useQuery, queryOptions } from "@tanstack/react-query";
import { Link } from "wouter";

import { jobs as client, read_timeout_ms } from "../../api/client";
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { isActive, sortedJobs } from "../../jobs/reducer";
import { useJobs } from "../../jobs/useJobs";
import { formatDuration, formatTime } from "../../lib/format";
import { ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { DataTable, type Column } from "../../ui/DataTable";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { useShortcut } from "../../ui/shortcuts";
import { usePageTitle } from "../../ui/usePageTitle";
import { addModelLink, addSaeLink, indexingFormLink, jobLink, trainingFormLink } from "../../url/links";
import { moveInTable } from "../sae/moveInTable";
import { CancelButton } from "./CancelButton";
import { Connection } from "./Connection";
import { Progress, progressText, StateBadge } from "./JobState";
import styles from "./Jobs.module.css";
import { briefOf } from "./spec";

const listQuery = queryOptions({
  queryKey: ["jobs"],
  queryFn: async ({ signal }) => (await client.listJobs({}, { signal, timeoutMs: read_timeout_ms })).jobs,
});

export default function JobsView() {
  usePageTitle("Jobs");
  const live = useJobs();
  const list = useQuery(listQuery);
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
          <ButtonLink href={trainingFormLink()}>Train an SAE…</ButtonLink>
          <ButtonLink href={indexingFormLink()}>Index an SAE…</ButtonLink>
        </div>
      </header>
      {list.isError && live.jobs.size === 0 && <ErrorNote error={list.error} onRetry={() => void list.refetch()} />}
      <Card title="Training, indexing and downloads" note={all.length > 0 ? `${all.filter((j) => isActive(j.state)).length} active` : undefined} flush>
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
          <DataTable rows={all} columns={columns} keyOf={(job) => job.id} attributes={(job) => ({ "data-job": job.id })} />
        )}
      </Card>
    </>
  );
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
  { title: "What", className: table.muted, cell: (job) => briefOf(job).detail },
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
