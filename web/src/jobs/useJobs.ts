// The live jobs, and the metrics of one of them: the history, then what the stream adds.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useSyncExternalStore } from "react";

import { metricsQuery } from "../api/queries";
import type { MetricPoint } from "../gen/featurescope/v1/jobs_pb.js";
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
