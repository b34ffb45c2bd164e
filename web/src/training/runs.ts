// The SAEs whose training is looked at: one of a training job, each member of a sweep, or those of several
// jobs that are compared.
import { clone, isFieldSet } from "@bufbuild/protobuf";

import type { Job, MetricPoint } from "../gen/featurescope/v1/jobs_pb.js";
import { TrainingSpecSchema, type SweepSpec } from "../gen/featurescope/v1/training_pb.js";
import { fieldText, spec_fields, type SpecField, type TrainingSpec } from "./fields";

export interface Run {
  // Distinct among all runs of the server: the job, and of a sweep the SAE.
  key: string;
  // The SAE's id.
  sae: string;
  job: string;
  // Before the names of its metrics in the points.
  prefix: string;
  spec: TrainingSpec;
  points: readonly MetricPoint[];
  // Its place among the runs that are shown, which gives its colour, line and mark.
  index: number;
}

// `over` on top of `base`: what is set there wins.
export function mergeSpecs(base: TrainingSpec, over: TrainingSpec): TrainingSpec {
  const result = clone(TrainingSpecSchema, base) as unknown as Record<string, unknown>;
  for (const field of TrainingSpecSchema.fields) {
    if (isFieldSet(over, field)) result[field.localName] = (over as unknown as Record<string, unknown>)[field.localName];
  }
  return result as unknown as TrainingSpec;
}

export function memberSpecs({ base, members }: SweepSpec): TrainingSpec[] {
  if (base === undefined) return members;
  return members.length === 0 ? [base] : members.map((member) => mergeSpecs(base, member));
}

export function isTrainingJob(job: Job): boolean {
  return job.spec.case === "training" || job.spec.case === "sweep";
}

// The specifications that a job trains; none where it does not train.
export function specsOf(job: Job): TrainingSpec[] {
  if (job.spec.case === "training") return [job.spec.value];
  return job.spec.case === "sweep" ? memberSpecs(job.spec.value) : [];
}

export function runsOf(jobs: readonly { job: Job; points: readonly MetricPoint[] }[]): Run[] {
  const runs: Run[] = [];
  for (const { job, points } of jobs) {
    const isSweep = job.spec.case === "sweep";
    for (const spec of specsOf(job)) {
      const key = isSweep ? `${job.id}/${spec.saeId}` : job.id;
      runs.push({ key, sae: spec.saeId, job: job.id, prefix: isSweep ? `${spec.saeId}/` : "", spec, points, index: runs.length });
    }
  }
  return runs;
}

export const held_out = "heldout_";

// The metrics that any of the runs has, without prefixes; held-out ones under the name of their pair.
export function metricNames(runs: readonly Run[]): Set<string> {
  const found = new Set<string>();
  for (const points of new Set(runs.map((run) => run.points))) {
    const names = new Set<string>();
    for (const point of points) for (const name in point.values) names.add(name);
    for (const name of names) {
      const metric = name.slice(name.indexOf("/") + 1);
      found.add(metric.startsWith(held_out) ? metric.slice(held_out.length) : metric);
    }
  }
  return found;
}

export function valuesOf(run: Run, metric: string): (number | null)[] {
  const name = run.prefix + metric;
  // What belongs to the whole job, e.g. tokens_per_second, has no prefix.
  return run.points.map((point) => point.values[name] ?? (run.prefix === "" ? null : (point.values[metric] ?? null)));
}

// The latest value, of held-out tokens where there is one.
export function latest(run: Run, metric: string): { value: number; isHeldOut: boolean } | undefined {
  for (const name of [held_out + metric, metric]) {
    for (let i = run.points.length - 1; i >= 0; i--) {
      const value = run.points[i]?.values[run.prefix + name];
      if (value !== undefined) return { value, isHeldOut: name !== metric };
    }
  }
  return undefined;
}

// Curves on one axis of tokens: the union of what was measured, with null between.
export function aligned(curves: readonly { run: Run; values: (number | null)[] }[]): { x: number[]; ys: (number | null)[][] } {
  const tokensOf = (points: readonly MetricPoint[]) => points.map((point) => Number(point.tokens));
  const sources = [...new Set(curves.map(({ run }) => run.points))];
  if (sources.length <= 1) return { x: tokensOf(sources[0] ?? []), ys: curves.map(({ values }) => values) };
  const axes = new Map(sources.map((points) => [points, tokensOf(points)]));
  const x = [...new Set([...axes.values()].flat())].sort((a, b) => a - b);
  const places = new Map(x.map((tokens, i) => [tokens, i]));
  const ys = curves.map(({ run, values }) => {
    const y = new Array<number | null>(x.length).fill(null);
    axes.get(run.points)?.forEach((tokens, i) => {
      y[places.get(tokens) ?? 0] = values[i] ?? null;
    });
    return y;
  });
  return { x, ys };
}

export interface Difference {
  name: string;
  // One text a run; empty where it is unset.
  texts: string[];
}

function partsText(spec: TrainingSpec): [string, string][] {
  const { cacheId = "", channels = [] } = spec.activations ?? {};
  return [
    ["more_corpora", spec.moreCorpora.map((c) => (c.weight === 0 ? c.corpusId : `${c.corpusId}:${c.weight}`)).join(", ")],
    ["activations", cacheId !== "" ? cacheId : channels.flatMap((c) => c.paths).join(", ")],
  ];
}

// Everything a specification sets, in the order of the contract.
export function specTexts(spec: TrainingSpec): [string, string][] {
  const texts = spec_fields.map((field: SpecField): [string, string] => [field.name, fieldText(spec, field)]);
  return [...texts, ...partsText(spec)].filter(([, text]) => text !== "");
}

// The fields in which the runs' specifications differ, but for the SAEs' ids. What is unset is the default.
export function differences(runs: readonly Run[], defaults?: TrainingSpec): Difference[] {
  const unset = defaults === undefined ? [] : specTexts(defaults);
  const maps = runs.map((run) => new Map([...unset, ...specTexts(run.spec)]));
  const names = [...spec_fields.map((field) => field.name), "more_corpora", "activations"].filter((name) => name !== "sae_id");
  return names
    .map((name) => ({ name, texts: maps.map((map) => map.get(name) ?? "") }))
    .filter(({ texts }) => new Set(texts).size > 1);
}

// Names without what they all begin with, up to the last '-', '.' or '_' of it.
export function shortNames(names: readonly string[]): string[] {
  const [first = "", ...others] = names;
  if (others.length === 0) return [...names];
  let n = 0;
  while (n < first.length && others.every((name) => name[n] === first[n])) n++;
  const cut = Math.max(...["-", ".", "_"].map((sign) => first.slice(0, n).lastIndexOf(sign))) + 1;
  return names.map((name) => name.slice(cut));
}

export interface SpecRow {
  name: string;
  text: string;
  isDefault: boolean;
}

// What all specifications of a job have in common, with what is as the server has it anyway marked.
export function commonRows(specs: readonly TrainingSpec[], defaults?: TrainingSpec): SpecRow[] {
  const [first = [], ...others] = specs.map(specTexts);
  const unset = new Map(defaults === undefined ? [] : specTexts(defaults));
  return first
    .filter(([name, text]) => others.every((texts) => texts.some(([n, t]) => n === name && t === text)))
    .map(([name, text]) => ({ name, text, isDefault: unset.get(name) === text || text === "0" }));
}
