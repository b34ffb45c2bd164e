import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { JobSchema, JobState, MetricPointSchema, WatchJobsResponseSchema, type MetricPoint } from "../gen/featurescope/v1/jobs_pb.js";
import { isActive, mergePoints, no_jobs, reduceJobs, sortedJobs, thinned, type JobsState } from "./reducer";
import { pauseBefore } from "./watch";

const point = (step: number, loss: number): MetricPoint =>
  create(MetricPointSchema, { step: BigInt(step), tokens: BigInt(step * 10), values: { loss } });

const jobEvent = (id: string, state: JobState, progress = 0) => ({
  type: "event" as const,
  event: create(WatchJobsResponseSchema, { event: { case: "job", value: create(JobSchema, { id, state, progress }) } }),
});

const metricsEvent = (jobId: string, points: MetricPoint[]) => ({
  type: "event" as const,
  event: create(WatchJobsResponseSchema, { event: { case: "metrics", value: { jobId, points } } }),
});

const tick = { type: "event" as const, event: create(WatchJobsResponseSchema, { event: { case: "tick", value: {} } }) };

function after(...actions: Parameters<typeof reduceJobs>[1][]): JobsState {
  return actions.reduce(reduceJobs, no_jobs);
}

describe("WatchJobs stream", () => {
  it("is live from the first message on, a tick included", () => {
    expect(after({ type: "connect" }).connection).toBe("connecting");
    expect(after({ type: "connect" }, tick).connection).toBe("live");
  });

  it("keeps the latest state of each job", () => {
    const state = after({ type: "connect" }, jobEvent("a", JobState.QUEUED), jobEvent("b", JobState.QUEUED), jobEvent("a", JobState.RUNNING, 0.5));
    expect(state.jobs.size).toBe(2);
    expect(state.jobs.get("a")).toMatchObject({ state: JobState.RUNNING, progress: 0.5 });
  });

  it("keeps the jobs over a lost connection and says why it was lost", () => {
    const error = new Error("gone");
    const state = after({ type: "connect" }, jobEvent("a", JobState.RUNNING), { type: "lost", error });
    expect(state).toMatchObject({ connection: "waiting", error });
    expect(state.jobs.has("a")).toBe(true);
    expect(reduceJobs(reduceJobs(state, { type: "connect" }), tick).error).toBeNull();
  });

  it("drops streamed metrics with a new stream, whose history holds them", () => {
    const state = after({ type: "connect" }, metricsEvent("a", [point(1, 3)]), { type: "lost", error: null }, { type: "connect" });
    expect(state.metrics.size).toBe(0);
    expect(state.generation).toBe(2);
  });

  it("appends metrics in order", () => {
    const state = after({ type: "connect" }, metricsEvent("a", [point(1, 3)]), metricsEvent("a", [point(2, 2), point(3, 1)]));
    expect(state.metrics.get("a")?.map((p) => Number(p.step))).toEqual([1, 2, 3]);
  });

  it("keeps what was measured on held-out tokens when points are thinned", () => {
    const points = Array.from({ length: 4100 }, (_, i) => {
      const plain = point(i, 1);
      return i % 101 === 1 ? { ...plain, values: { loss: 1, "a/heldout_fvu": 0.2 } } : plain;
    });
    const kept = thinned(points);
    expect(kept.length).toBeLessThan(points.length);
    const heldOut = (all: readonly MetricPoint[]) => all.filter((p) => p.values["a/heldout_fvu"] !== undefined).length;
    expect(heldOut(kept)).toBe(heldOut(points));
  });

  it("does not change its input", () => {
    const before = after({ type: "connect" }, jobEvent("a", JobState.QUEUED));
    reduceJobs(before, jobEvent("a", JobState.RUNNING));
    expect(before.jobs.get("a")?.state).toBe(JobState.QUEUED);
  });
});

describe("metric points", () => {
  it("replaces the steps that a continued job repeats", () => {
    const merged = mergePoints([point(1, 9), point(2, 8), point(3, 7)], [point(2, 80), point(4, 6)]);
    expect(merged.map((p) => [Number(p.step), p.values["loss"]])).toEqual([[1, 9], [2, 80], [3, 7], [4, 6]]);
  });

  it("stays drawable however long a job runs", () => {
    const many = Array.from({ length: 4001 }, (_, i) => point(i, i));
    const fewer = thinned(many);
    expect(fewer.length).toBeLessThan(3100);
    expect(fewer.at(-1)?.step).toBe(4000n);
    expect(fewer[0]?.step).toBe(0n);
  });
});

describe("jobs", () => {
  it("are listed the newest first", () => {
    const jobs = ["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z"].map((created, i) => create(JobSchema, { id: String(i), created }));
    expect(sortedJobs(jobs).map((job) => job.id)).toEqual(["1", "2", "0"]);
  });

  it("are active until they end", () => {
    expect([JobState.QUEUED, JobState.RUNNING, JobState.PAUSED].every(isActive)).toBe(true);
    expect([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED].some(isActive)).toBe(false);
  });

  it("are watched again after growing pauses with an upper limit", () => {
    expect(pauseBefore(0, 0.5)).toBe(500);
    expect(pauseBefore(3, 0.5)).toBe(4000);
    expect(pauseBefore(50, 0.5)).toBe(15000);
    expect(pauseBefore(50, 0)).toBeLessThan(pauseBefore(50, 1));
  });
});
