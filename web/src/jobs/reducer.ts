// The jobs as the WatchJobs stream tells them: the state of each, and the metrics that came since.
import { JobState, type Job, type MetricPoint, type WatchJobsResponse } from "../gen/featurescope/v1/jobs_pb.js";

export interface JobsState {
  // "live" from the stream's first message to its end.
  connection: "closed" | "connecting" | "live" | "waiting";
  // Why the last stream ended, while waiting for the next.
  error: unknown;
  // Counts the streams: a new one means that metrics may have been missed.
  generation: number;
  jobs: ReadonlyMap<string, Job>;
  metrics: ReadonlyMap<string, readonly MetricPoint[]>;
}

export type JobsAction =
  | { type: "connect" }
  | { type: "event"; event: WatchJobsResponse }
  | { type: "lost"; error: unknown }
  | { type: "close" };

export const no_jobs: JobsState = {
  connection: "closed",
  error: null,
  generation: 0,
  jobs: new Map(),
  metrics: new Map(),
};

export function reduceJobs(state: JobsState, action: JobsAction): JobsState {
  switch (action.type) {
    case "connect":
      // What came over the last stream is in the history now, which is read again.
      return { ...state, connection: "connecting", generation: state.generation + 1, metrics: new Map() };
    case "event":
      return reduceEvent({ ...state, connection: "live", error: null }, action.event);
    case "lost":
      return { ...state, connection: "waiting", error: action.error };
    case "close":
      return { ...state, connection: "closed", error: null };
  }
}

function reduceEvent(state: JobsState, { event }: WatchJobsResponse): JobsState {
  switch (event.case) {
    case "job":
      return { ...state, jobs: new Map(state.jobs).set(event.value.id, event.value) };
    case "metrics": {
      const { jobId, points } = event.value;
      const merged = thinned(mergePoints(state.metrics.get(jobId) ?? [], points));
      return { ...state, metrics: new Map(state.metrics).set(jobId, merged) };
    }
    default:
      return state; // A tick: only the sign of life.
  }
}

// Points in the order of their steps, each step once; what comes later replaces what was there, because a
// job that continues from a checkpoint repeats steps.
export function mergePoints(known: readonly MetricPoint[], more: readonly MetricPoint[]): readonly MetricPoint[] {
  if (more.length === 0) return known;
  const first = more[0];
  const last = known.at(-1);
  if (last === undefined) return more;
  if (first !== undefined && first.step > last.step) return [...known, ...more];
  const by_step = new Map<bigint, MetricPoint>();
  for (const point of [...known, ...more]) by_step.set(point.step, point);
  return [...by_step.values()].sort((a, b) => (a.step < b.step ? -1 : 1));
}

const most_points = 4000;

// Half of the older points once there are too many to draw; the few that measured held-out tokens stay.
export function thinned(points: readonly MetricPoint[]): readonly MetricPoint[] {
  if (points.length <= most_points) return points;
  const half = points.length / 2;
  return points.filter((point, i) => i > half || i % 2 === 0 || hasHeldOut(point));
}

function hasHeldOut({ values }: MetricPoint): boolean {
  for (const name in values) if (name.includes("heldout_")) return true;
  return false;
}

export function isActive(state: JobState): boolean {
  return state === JobState.QUEUED || state === JobState.RUNNING || state === JobState.PAUSED;
}

// The newest first.
export function sortedJobs(jobs: Iterable<Job>): Job[] {
  return [...jobs].sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : a.id < b.id ? 1 : -1));
}

export const state_texts: Record<JobState, string> = {
  [JobState.JOB_STATE_UNSPECIFIED]: "unknown",
  [JobState.QUEUED]: "queued",
  [JobState.RUNNING]: "running",
  [JobState.SUCCEEDED]: "succeeded",
  [JobState.FAILED]: "failed",
  [JobState.CANCELLED]: "cancelled",
  [JobState.PAUSED]: "paused",
};
