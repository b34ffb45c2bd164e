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
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { useShortcut } from "../../ui/shortcuts";
import { usePageTitle } from "../../ui/usePageTitle";
import { indexingFormLink, jobLink, trainingFormLink } from "../../url/links";
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
          <ButtonLink href={trainingFormLink()}>Train an SAE…</ButtonLink>
          <ButtonLink href={indexingFormLink()}>Index an SAE…</ButtonLink>
        </div>
      </header>
      {list.isError && live.jobs.size === 0 && <ErrorNote error={list.error} onRetry={() => void list.refetch()} />}
      <Card title="Training and indexing" note={all.length > 0 ? `${all.filter((j) => isActive(j.state)).length} active` : undefined} flush>
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
          <JobTable all={all} />
        )}
      </Card>
    </>
  );
}

function JobTable({ all }: { all: Job[] }) {
  return (
    <table className={table.table}>
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">What</th>
          <th scope="col">State</th>
          <th scope="col">Progress</th>
          <th scope="col">Created</th>
          <th scope="col" className="num">
            Took
          </th>
          <th scope="col">
            <span className="sr-only">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {all.map((job) => {
          const brief = briefOf(job);
          return (
            <tr key={job.id} data-job={job.id}>
              <th scope="row">
                <Link href={jobLink(job.id)} data-row>
                  {brief.kind} {brief.subject}
                </Link>
              </th>
              <td className={table.muted}>{brief.detail}</td>
              <td>
                <StateBadge state={job.state} />
              </td>
              <td>
                <div className={styles.cell}>
                  <Progress job={job} label={`Progress of ${brief.kind} ${brief.subject}`} />
                  <span className={styles.progressText} title={job.error === "" ? undefined : job.error}>
                    {job.error !== "" && !isActive(job.state) ? job.error : progressText(job)}
                  </span>
                </div>
              </td>
              <td className={table.muted}>{formatTime(job.created)}</td>
              <td className="num">{took(job)}</td>
              <td className="num">{isActive(job.state) && <CancelButton id={job.id} what={`${brief.kind} ${brief.subject}`} />}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function took(job: Job): string {
  if (job.started === "" || job.finished === "") return "–";
  return formatDuration((Date.parse(job.finished) - Date.parse(job.started)) / 1000);
}
