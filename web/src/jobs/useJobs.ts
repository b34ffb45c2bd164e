// The live jobs, and the metrics of one of them or several: the history, then what the stream adds.
import { keepPreviousData, useQueries, useQuery } from "@tanstack/react-query";
import { useMemo, useRef, useSyncExternalStore } from "react";

import { jobQuery, metricsQuery } from "../api/queries";
import type { Job, MetricPoint } from "../gen/featurescope/v1/jobs_pb.js";
import { mergePoints, type JobsState } from "./reducer";
import { snapshot, subscribe } from "./watch";

export function useJobs(): JobsState {
  return useSyncExternalStore(subscribe, snapshot);
}

export function useMetrics(job: string): { points: readonly MetricPoint[]; error: unknown } {
  const { metrics, generation } = useJobs();
  // Each new stream reads the history again: points may have come while there was none.
  const history = useQuery({ ...metricsQuery(job, generation), placeholderData: keepPreviousData });
  const live = metrics.get(job);
  const points = useMemo(() => mergePoints(history.data ?? [], live ?? []), [history.data, live]);
  return { points, error: history.error };
}

// What an earlier stream's history of this job said, until it is read again.
function ofSameJob(id: string) {
  return (previous: MetricPoint[] | undefined, query: { queryKey: readonly unknown[] } | undefined) =>
    query?.queryKey[1] === id ? previous : undefined;
}

export interface JobMetrics {
  id: string;
  // Undefined until it is known.
  job: Job | undefined;
  points: readonly MetricPoint[];
  error: unknown;
}

export function useJobMetrics(ids: readonly string[]): JobMetrics[] {
  const { jobs, metrics, generation } = useJobs();
  const known = useQueries({ queries: ids.map((id) => jobQuery(id)) });
  const histories = useQueries({ queries: ids.map((id) => ({ ...metricsQuery(id, generation), placeholderData: ofSameJob(id) })) });
  const merged = useRef(new Map<string, { from: unknown; and: unknown; points: readonly MetricPoint[] }>());
  return ids.map((id, i) => {
    const history = histories[i]?.data;
    const live = metrics.get(id);
    let found = merged.current.get(id);
    if (found === undefined || found.from !== history || found.and !== live) {
      found = { from: history, and: live, points: mergePoints(history ?? [], live ?? []) };
      merged.current.set(id, found);
    }
    return { id, job: jobs.get(id) ?? known[i]?.data, points: found.points, error: known[i]?.error ?? histories[i]?.error ?? null };
  });
}
