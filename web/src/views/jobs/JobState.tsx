// The state of a job: a word with a sign, and a progress bar.
import { JobState, type Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { isActive, state_texts } from "../../jobs/reducer";
import { formatBytes, formatDuration, formatShort } from "../../lib/format";
import styles from "./Jobs.module.css";

const signs: Partial<Record<JobState, string>> = {
  [JobState.RUNNING]: "●",
  [JobState.QUEUED]: "○",
  [JobState.SUCCEEDED]: "✓",
  [JobState.FAILED]: "✕",
  [JobState.CANCELLED]: "–",
  [JobState.PAUSED]: "‖",
};

export function StateBadge({ state }: { state: JobState }) {
  return (
    <span className={styles.state} data-state={state_texts[state]}>
      <span aria-hidden="true">{signs[state] ?? "?"}</span> {state_texts[state]}
    </span>
  );
}

export function Progress({ job, label }: { job: Job; label: string }) {
  const share = Math.min(1, Math.max(0, job.progress));
  return (
    <span
      className={styles.progress}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(share * 100)}
      data-active={isActive(job.state)}
    >
      <span style={{ width: `${share * 100}%` }} />
    </span>
  );
}

// e.g. "training · 41 % · 5.20 k tokens/s · 3 min 20 s left", of downloads "… · 1.2 GiB of 3.4 GiB · file 2 of 5".
export function progressText(job: Job): string {
  const parts = [`${Math.floor(Math.min(1, job.progress) * 100)} %`];
  if (job.phase !== "" && isActive(job.state)) parts.unshift(job.phase);
  const { transfer } = job;
  if (transfer !== undefined && transfer.bytesTotal > 0n) {
    parts.push(`${formatBytes(transfer.bytesDone)} of ${formatBytes(transfer.bytesTotal)}`);
    parts.push(`file ${Math.min(transfer.filesDone + 1, transfer.filesTotal)} of ${transfer.filesTotal}`);
  }
  if (job.state === JobState.RUNNING) {
    if (transfer !== undefined && transfer.bytesPerSecond > 0) parts.push(`${formatBytes(transfer.bytesPerSecond)}/s`);
    if (job.tokensPerSecond > 0) parts.push(`${formatShort(job.tokensPerSecond)} tokens/s`);
    if (job.etaSeconds > 0) parts.push(`${formatDuration(job.etaSeconds)} left`);
  }
  return parts.join(" · ");
}
