// Mock of JobService: a training job that runs for ever, some finished ones, and what is submitted.
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { IndexingSpecSchema, JobService, JobState } from "../src/gen/featurescope/v1/jobs_pb.js";
import { TrainingSpecSchema } from "../src/gen/featurescope/v1/training_pb.js";
import { corpus, model, random, sae } from "./world.mjs";

const begun = Date.now();
const total_steps = 1200;
const ago = (s) => new Date(begun - s * 1000).toISOString();
const training = (id, more = {}) => ({ case: "training", value: create(TrainingSpecSchema, { saeId: id, modelId: model, corpusId: corpus, hookName: "blocks.2.hook_resid_post", architecture: "topk", dSae: 4096, k: 32, tokens: 2_000_000n, batchSize: 4096, seed: 0n, ...more }) });
const indexing = (id) => ({ case: "indexing", value: create(IndexingSpecSchema, { saeId: id, corpusId: corpus }) });

const jobs = new Map(
  [
    { id: "01JDEMO4", state: JobState.RUNNING, created: ago(300), started: ago(290), attempt: 1, spec: training("demo-topk-wide", { dSae: 8192 }), phase: "training" },
    { id: "01JDEMO5", state: JobState.QUEUED, created: ago(40), attempt: 0, spec: indexing("demo-standard-l4") },
    { id: "01JDEMO3", state: JobState.FAILED, created: ago(4000), started: ago(3990), finished: ago(3950), attempt: 1, progress: 0.12, error: "checkpoint jobs/01JDEMO3/step_00000600: no space left on device (needs 67 MiB, 12 MiB free)", spec: training("demo-standard-l4b", { architecture: "standard", k: 0 }) },
    { id: "01JDEMO2", state: JobState.SUCCEEDED, created: ago(7000), started: ago(6999), finished: ago(6915), attempt: 1, progress: 1, spec: indexing(sae) },
    { id: "01JDEMO1", state: JobState.SUCCEEDED, created: ago(9000), started: ago(8999), finished: ago(8600), attempt: 2, progress: 1, spec: training(sae, { dSae: 1024 }) },
  ].map((job) => [job.id, job]),
);

function stepNow() {
  return 300 + Math.floor((Date.now() - begun) / 400);
}

function point(step) {
  const r = random(`m${step}`);
  const t = step / total_steps;
  const fvu = 0.11 + 0.89 * Math.exp(-9 * t) + 0.012 * (r() - 0.5);
  return { step: BigInt(step), tokens: BigInt(step * 4096), values: { loss: 210 * fvu + 3 * r(), fvu, l0: 32, dead_share: Math.max(0, 0.34 * Math.exp(-4 * t) - 0.01 + 0.01 * r()), learning_rate: 4e-4, mse: 200 * fvu } };
}

function state(job) {
  if (job.state !== JobState.RUNNING) return job;
  const progress = (stepNow() % total_steps) / total_steps;
  if (job.spec.case === "importing") {
    const bytes = (share) => BigInt(Math.round(share * 5.5e8));
    return { ...job, progress, phase: "downloading", etaSeconds: (1 - progress) * 60, transfer: { bytesDone: bytes(progress), bytesTotal: bytes(1), bytesPerSecond: 9.2e6, filesDone: Math.floor(progress * 4), filesTotal: 4 } };
  }
  return { ...job, progress, tokensPerSecond: 10240, etaSeconds: (1 - progress) * 480 };
}

function find(id) {
  const job = jobs.get(id);
  if (!job) throw new ConnectError(`there is no job "${id}"`, Code.NotFound);
  return job;
}

async function* watch(_, context) {
  for (const job of jobs.values()) yield { event: { case: "job", value: state(job) } };
  let sent = stepNow();
  while (!context.signal.aborted) {
    await sleep(500);
    for (const job of jobs.values()) yield { event: { case: "job", value: state(job) } };
    const now = stepNow();
    const points = Array.from({ length: now - sent }, (_, i) => point(sent + 1 + i));
    const running = [...jobs.values()].filter((job) => job.state === JobState.RUNNING && job.spec.case === "training");
    for (const job of running) if (points.length > 0) yield { event: { case: "metrics", value: { jobId: job.id, points } } };
    sent = now;
  }
}

function badRequest(field, description) {
  const text = (tag, value) => Buffer.concat([Buffer.from([tag, value.length]), Buffer.from(value)]);
  const violation = Buffer.concat([text(0x0a, field), text(0x12, description)]);
  const error = new ConnectError(`${field}: ${description}`, Code.InvalidArgument);
  error.details.push({ type: "google.rpc.BadRequest", value: new Uint8Array(Buffer.concat([Buffer.from([0x0a, violation.length]), violation])) });
  return error;
}

function submit(spec) {
  const id = `01JNEW${jobs.size}`;
  const now = new Date().toISOString();
  const job = { id, state: JobState.RUNNING, created: now, started: now, attempt: 1, phase: spec.case, spec };
  jobs.set(id, job);
  return job;
}

export function addJobs(router) {
  router.service(JobService, {
    submitTraining: ({ spec }) => {
      if (spec.architecture === "topk" && spec.k > spec.dSae) throw badRequest("spec.k", `${spec.k} is out of range [1, ${spec.dSae}]`);
      return submit({ case: "training", value: spec });
    },
    submitImport: ({ spec }) => submit({ case: "importing", value: spec }),
    submitIndexing: ({ spec }) => submit({ case: "indexing", value: spec }),
    getJob: ({ jobId }) => state(find(jobId)),
    listJobs: () => ({ jobs: [...jobs.values()].map(state) }),
    cancelJob: ({ jobId }) => {
      const job = { ...find(jobId), state: JobState.CANCELLED, finished: new Date().toISOString() };
      jobs.set(jobId, job);
      return job;
    },
    watchJobs: watch,
    getMetrics: ({ jobId }) => {
      const job = find(jobId);
      const last = job.spec.case !== "training" ? 0 : job.state === JobState.RUNNING ? stepNow() : 1200;
      return { points: Array.from({ length: Math.ceil(last / 2) }, (_, i) => point(2 * i + 1)) };
    },
  });
}
