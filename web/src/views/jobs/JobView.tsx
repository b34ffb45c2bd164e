// One job: its state, its curves while it runs and after, and its specification.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, type ReactNode } from "react";
import { Link } from "wouter";

import { jobQuery, presetsQuery } from "../../api/queries";
import { JobState, type Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { isActive, state_texts } from "../../jobs/reducer";
import { useJobs } from "../../jobs/useJobs";
import { formatTime } from "../../lib/format";
import { ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Command, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { isTrainingJob } from "../../training/runs";
import { compareLink, home_link, indexingFormLink, jobs_link, saeLink, trainingFormLink } from "../../url/links";
import { CancelButton } from "./CancelButton";
import { Connection } from "./Connection";
import { Progress, progressText, StateBadge } from "./JobState";
import styles from "./Jobs.module.css";
import { briefOf, specRows, trainingRows } from "./spec";
import { TrainingJob } from "./TrainingJob";

export default function JobView({ id }: { id: string }) {
  const live = useJobs();
  const first = useQuery(jobQuery(id));
  const queries = useQueryClient();
  const job = live.jobs.get(id) ?? first.data;
  const brief = job && briefOf(job);
  usePageTitle(brief ? `${brief.kind} ${brief.subject}` : "Job");

  // What a finished job made is new to the lists.
  const isDone = job?.state === JobState.SUCCEEDED;
  useEffect(() => {
    if (!isDone) return;
    for (const key of ["models", "saes", "sae", "index", "features", "evaluations", "activation caches"]) void queries.invalidateQueries({ queryKey: [key] });
  }, [isDone, queries]);

  if (job === undefined || brief === undefined) {
    return first.isError ? (
      <ErrorNote error={first.error} onRetry={() => void first.refetch()} />
    ) : (
      <Loading what="the job" />
    );
  }
  return (
    <>
      <header className={styles.head}>
        <nav className={styles.path} aria-label="Path">
          <Link href={jobs_link}>Jobs</Link>
        </nav>
        <h1>
          {brief.kind} {brief.subject}
        </h1>
        <StateBadge state={job.state} />
        {isActive(job.state) && <Connection state={live} />}
        <div className={styles.actions}>
          <Next job={job} />
          {isActive(job.state) && <CancelButton id={job.id} what={`${brief.kind} ${brief.subject}`} />}
        </div>
      </header>
      <p className="sr-only" role="status">
        {brief.kind} {brief.subject} is {state_texts[job.state]}
      </p>
      {job.error !== "" && (
        <div className={styles.problem} role="alert">
          <b>{job.state === JobState.PAUSED ? "Waiting" : "Error"}</b> {job.error}
        </div>
      )}
      <div className={styles.bigProgress}>
        <Progress job={job} label="Progress" />
        <span>{progressText(job)}</span>
      </div>
      {isTrainingJob(job) ? (
        <TrainingJob job={job}>
          <Facts job={job} />
        </TrainingJob>
      ) : (
        <div className={styles.columns}>
          <Doing job={job} />
          <Facts job={job} />
        </div>
      )}
    </>
  );
}

function Doing({ job }: { job: Job }) {
  const said: Partial<Record<NonNullable<Job["spec"]["case"]>, [string, ReactNode]>> = {
    indexing: ["Indexing", indexingText(job)],
    importing: ["Download", importText(job)],
    evaluation: ["Evaluation", evaluationText(job)],
    caching: ["Activation cache", cachingText(job)],
  };
  const [title, text] = (job.spec.case && said[job.spec.case]) ?? ["Job", ""];
  return <Card title={title}>{text}</Card>;
}

function evaluationText(job: Job): string {
  if (job.state === JobState.SUCCEEDED) return "The numbers are on the SAE's page.";
  return isActive(job.state) ? "Runs the corpus through the model with and without the SAE. The numbers appear when all of it is measured." : "There are no numbers from this job.";
}

function cachingText(job: Job): string {
  if (job.state === JobState.SUCCEEDED) return "The activations are on disk; training runs can read them.";
  return isActive(job.state) ? "One pass of the model over the corpus. The cache appears when it is complete." : "There is no cache from this job.";
}

function indexingText(job: Job): string {
  if (job.state === JobState.SUCCEEDED) return "The index is complete.";
  return isActive(job.state) ? "One pass over the corpus. The index appears when it is complete." : "There is no index from this job.";
}

function importText(job: Job): string {
  if (job.state === JobState.SUCCEEDED) return "It is downloaded, checked and added.";
  if (job.state === JobState.RUNNING && job.phase === "adding") return "The files are complete; they are read and checked.";
  return isActive(job.state)
    ? "Every file is checked against its hash. An interrupted download continues where it stopped."
    : "Nothing was added. What was downloaded is kept and used when it is pulled again.";
}

function Next({ job }: { job: Job }) {
  if (job.spec.case === "sweep") return <ButtonLink href={compareLink([job.id])}>Compare…</ButtonLink>;
  if (job.spec.case === "training" && job.state !== JobState.SUCCEEDED) return <ButtonLink href={compareLink([job.id])}>Compare…</ButtonLink>;
  if (job.state !== JobState.SUCCEEDED) return null;
  if (job.spec.case === "training") {
    return (
      <>
        <ButtonLink href={compareLink([job.id])}>Compare…</ButtonLink>
        <ButtonLink href={saeLink(job.spec.value.saeId)}>Open the SAE</ButtonLink>
        <ButtonLink look="primary" href={indexingFormLink({ sae: job.spec.value.saeId, corpus: job.spec.value.corpusId })}>
          Index it…
        </ButtonLink>
      </>
    );
  }
  if (job.spec.case === "indexing") {
    return (
      <ButtonLink look="primary" href={saeLink(job.spec.value.saeId, { corpus: job.spec.value.corpusId })}>
        Look at the features
      </ButtonLink>
    );
  }
  if (job.spec.case === "evaluation") {
    return (
      <ButtonLink look="primary" href={saeLink(job.spec.value.saeId)}>
        Look at the numbers
      </ButtonLink>
    );
  }
  if (job.spec.case === "caching") {
    const { modelId, corpusId } = job.spec.value;
    return (
      <ButtonLink look="primary" href={trainingFormLink({ model: modelId, corpus: corpusId, cache_id: job.spec.value.cacheId })}>
        Train on it…
      </ButtonLink>
    );
  }
  if (job.spec.case === "importing") {
    const { what } = job.spec.value;
    if (what.case === "sae") return <ButtonLink look="primary" href={saeLink(what.value.saeId)}>Open the SAE</ButtonLink>;
    if (what.case === "model") return <ButtonLink look="primary" href={`${home_link}?model=${what.value.modelId}`}>Look at the model</ButtonLink>;
  }
  return null;
}

function Facts({ job }: { job: Job }) {
  const times: [string, string][] = [
    ["Job", job.id],
    ["Created", formatTime(job.created)],
    ["Started", formatTime(job.started)],
    ["Finished", formatTime(job.finished)],
    ["Attempt", String(job.attempt)],
  ];
  const isTraining = isTrainingJob(job);
  const { data } = useQuery({ ...presetsQuery, enabled: isTraining });
  const { main, others } = isTraining ? trainingRows(job, data?.defaults) : { main: specRows(job), others: [] };
  return (
    <Card title="Specification">
      <Rows rows={[...main, ...times]} />
      {others.length > 0 && (
        <details className={styles.others}>
          <summary>{others.length} more, as the defaults are</summary>
          <Rows rows={others} />
        </details>
      )}
      {job.checkpointDir !== "" && (
        <div className={styles.checkpoints} data-testid="checkpoints">
          <p>Checkpoints on the server, the best and the last, which SAELens loads:</p>
          <Command text={job.checkpointDir} />
        </div>
      )}
    </Card>
  );
}

function Rows({ rows }: { rows: readonly [string, string][] }) {
  return (
    <dl className={styles.facts}>
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
