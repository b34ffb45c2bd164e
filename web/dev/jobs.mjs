// Mock of JobService: a training job and a sweep that run for ever, some finished ones, and what is submitted.
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { IndexingSpecSchema, JobService, JobState } from "../src/gen/featurescope/v1/jobs_pb.js";
import { EvaluationSpecSchema } from "../src/gen/featurescope/v1/evaluation_pb.js";
import { SweepSpecSchema, TrainingSpecSchema } from "../src/gen/featurescope/v1/training_pb.js";
import { definitions, evaluationOf } from "./evaluations.mjs";
import { adviceOf, defaults, membersOf, planOf, pointOf, presets, resolved } from "./training.mjs";
import { corpus, model, sae } from "./world.mjs";

const begun = Date.now();
const total_steps = 1200;
const ago = (s) => new Date(begun - s * 1000).toISOString();
const training = (id, more = {}) => ({ case: "training", value: create(TrainingSpecSchema, { saeId: id, modelId: model, corpusId: corpus, hookName: "blocks.2.hook_resid_post", architecture: "topk", dSae: 4096, k: 32, tokens: 2_000_000n, batchSize: 4096, seed: 0n, ...more }) });
const sweep_base = { modelId: model, corpusId: corpus, hookName: "blocks.2.hook_resid_post", tokens: 2_000_000n, batchSize: 4096 };
const sweep_members = [8, 16, 32, 64].flatMap((k) => [2048, 8192].map((dSae) => ({ saeId: `demo-d${dSae}-k${k}`, architecture: "topk", k, dSae })));
const sweep = { case: "sweep", value: create(SweepSpecSchema, { base: sweep_base, members: [...sweep_members, { saeId: "demo-standard-l1-5", architecture: "standard", l1Coefficient: 5, dSae: 4096 }] }) };
const evaluation = { case: "evaluation", value: create(EvaluationSpecSchema, { saeId: sae, corpusId: corpus, part: "heldout" }) };
const indexing = (id) => ({ case: "indexing", value: create(IndexingSpecSchema, { saeId: id, corpusId: corpus }) });

const jobs = new Map(
  [
    { id: "01JDEMO4", state: JobState.RUNNING, created: ago(300), started: ago(290), attempt: 1, spec: training("demo-topk-wide", { dSae: 8192 }), phase: "training" },
    { id: "01JDEMO7", state: JobState.RUNNING, created: ago(200), started: ago(190), attempt: 1, spec: sweep, phase: "training" },
    { id: "01JDEMO6", state: JobState.SUCCEEDED, created: ago(8000), started: ago(7990), finished: ago(7700), attempt: 1, progress: 1, spec: training("demo-topk-k64", { k: 64 }), checkpointDir: "/srv/featurescope/jobs/01JDEMO6/checkpoints" },
    { id: "01JDEMO0", state: JobState.SUCCEEDED, created: ago(6000), started: ago(5999), finished: ago(5900), attempt: 1, progress: 1, spec: evaluation },
    { id: "01JDEMO5", state: JobState.QUEUED, created: ago(40), attempt: 0, spec: indexing("demo-standard-l4") },
    { id: "01JDEMO3", state: JobState.FAILED, created: ago(4000), started: ago(3990), finished: ago(3950), attempt: 1, progress: 0.12, error: "checkpoint jobs/01JDEMO3/step_00000600: no space left on device (needs 67 MiB, 12 MiB free)", spec: training("demo-standard-l4b", { architecture: "standard", k: 0 }) },
    { id: "01JDEMO2", state: JobState.SUCCEEDED, created: ago(7000), started: ago(6999), finished: ago(6915), attempt: 1, progress: 1, spec: indexing(sae) },
    { id: "01JDEMO1", state: JobState.SUCCEEDED, created: ago(9000), started: ago(8999), finished: ago(8600), attempt: 2, progress: 1, spec: training(sae, { dSae: 1024 }), checkpointDir: "/srv/featurescope/jobs/01JDEMO1/checkpoints" },
  ].map((job) => [job.id, job]),
);

function stepNow() {
  return 300 + (Math.floor((Date.now() - begun) / 400) % 850);
}

const isTraining = (job) => job.spec.case === "training" || job.spec.case === "sweep";

function state(job) {
  if (job.state !== JobState.RUNNING) return job;
  const progress = (stepNow() % total_steps) / total_steps;
  if (job.spec.case === "evaluation") return Date.now() - Date.parse(job.started) > 5000 ? finish(job) : { ...job, progress: (Date.now() - Date.parse(job.started)) / 5000, phase: "measuring", tokensPerSecond: 10240 };
  if (job.spec.case === "importing") {
    const bytes = (share) => BigInt(Math.round(share * 5.5e8));
    return { ...job, progress, phase: "downloading", etaSeconds: (1 - progress) * 60, transfer: { bytesDone: bytes(progress), bytesTotal: bytes(1), bytesPerSecond: 9.2e6, filesDone: Math.floor(progress * 4), filesTotal: 4 } };
  }
  return { ...job, progress, tokensPerSecond: 10240, etaSeconds: (1 - progress) * 480 };
}

function finish(job) {
  const done = { ...job, state: JobState.SUCCEEDED, progress: 1, finished: new Date().toISOString() };
  jobs.set(job.id, done);
  return done;
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
    const running = [...jobs.values()].filter((job) => job.state === JobState.RUNNING && isTraining(job));
    for (const job of running) {
      const points = Array.from({ length: now - sent }, (_, i) => pointOf(job, sent + 1 + i));
      if (points.length > 0) yield { event: { case: "metrics", value: { jobId: job.id, points } } };
    }
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

function checkTraining(specs) {
  for (const spec of specs.map(resolved)) {
    if (spec.architecture.includes("topk") && spec.k > spec.dSae) throw badRequest("spec.k", `${spec.k} is out of range [1, ${spec.dSae}]`);
    if (spec.tokens === 0n) throw badRequest("spec.tokens", "tokens is 0: how many shall be trained on?");
  }
}

let caches = [{ id: "demo-l2", hookNames: ["blocks.2.hook_resid_post"], widths: [256], dtype: "bfloat16", nRows: 634112n, bytes: 324665344n }];

export function addJobs(router) {
  router.service(JobService, {
    submitTraining: ({ spec }) => {
      checkTraining([spec]);
      return submit({ case: "training", value: spec });
    },
    submitSweep: ({ spec }) => {
      checkTraining(membersOf(spec));
      return submit({ case: "sweep", value: spec });
    },
    submitEvaluation: ({ spec }) => submit({ case: "evaluation", value: spec }),
    submitCaching: ({ spec }) => {
      caches = [...caches, { id: spec.cacheId, hookNames: spec.hookNames, widths: spec.hookNames.map(() => 256), dtype: spec.dtype || "bfloat16", nRows: 634112n, bytes: 324665344n }];
      return submit({ case: "caching", value: spec });
    },
    planTraining: async ({ spec }) => {
      await sleep(120);
      checkTraining(membersOf(spec));
      return planOf(spec);
    },
    listPresets: () => ({ presets, defaults }),
    getAdvice: ({ jobId }) => ({ advice: adviceOf(find(jobId)) }),
    listEvaluations: ({ saeId }) => ({
      evaluations: [...jobs.values()].filter((job) => job.spec.case === "evaluation" && job.state === JobState.SUCCEEDED && (saeId === "" || job.spec.value.saeId === saeId)).map(evaluationOf).reverse(),
      definitions,
    }),
    listActivationCaches: () => ({ caches }),
    deleteActivationCache: ({ cacheId }) => {
      caches = caches.filter((cache) => cache.id !== cacheId);
      return {};
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
      const last = !isTraining(job) ? 0 : job.state === JobState.RUNNING ? stepNow() : 1200;
      const stride = Math.max(2, Math.ceil(last / 400));
      return { points: Array.from({ length: Math.ceil(last / stride) }, (_, i) => pointOf(job, stride * i + 1)) };
    },
  });
}
