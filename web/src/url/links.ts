// The addresses of all views, in one place.
import { ErrorTerm, Operation, Unit } from "../gen/featurescope/v1/explore_pb.js";

type Query = Record<string, string | number | undefined>;

function withQuery(path: string, query: Query): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") params.set(key, String(value));
  }
  const text = params.toString();
  return text === "" ? path : `${path}?${text}`;
}

const segment = encodeURIComponent;

export const home_link = "/";
export const jobs_link = "/jobs";

export function saeLink(sae: string, query: { corpus?: string; tok?: string; search?: string } = {}): string {
  return withQuery(`/sae/${segment(sae)}`, query);
}

export function featureLink(sae: string, feature: number, query: Query = {}): string {
  return withQuery(`/f/${segment(sae)}/${feature}`, query);
}

export function textLink(query: { sae?: string; text?: string } = {}): string {
  return withQuery("/text", query);
}

export function jobLink(job: string): string {
  return `/jobs/${segment(job)}`;
}

// The metrics of several training jobs together.
export function compareLink(jobs: readonly string[]): string {
  return withQuery("/compare", { jobs: jobs.join(",") });
}

export function cachingFormLink(query: { model?: string; corpus?: string } = {}): string {
  return withQuery("/new/caching", query);
}

export function trainingFormLink(query: { model?: string; corpus?: string; cache_id?: string } = {}): string {
  return withQuery("/new/training", query);
}

export function indexingFormLink(query: { sae?: string; corpus?: string } = {}): string {
  return withQuery("/new/indexing", query);
}

export function addModelLink(query: { from?: string } = {}): string {
  return withQuery("/new/model", query);
}

export function addSaeLink(query: { model?: string; from?: string } = {}): string {
  return withQuery("/new/sae", query);
}

export function addCorpusLink(query: { model?: string } = {}): string {
  return withQuery("/new/corpus", query);
}

// The names that operations, units and error terms have in URLs and on screen.
export const operations = {
  add: Operation.ADD,
  set: Operation.SET,
  scale: Operation.SCALE,
  ablate: Operation.ABLATE_ZERO,
} as const;
export type OperationName = keyof typeof operations;

export const units = {
  feature: Unit.FEATURE,
  residual: Unit.RESIDUAL,
  max: Unit.FEATURE_MAX,
  p99: Unit.FEATURE_P99,
} as const;
export type UnitName = keyof typeof units;

export const error_terms = { kept: ErrorTerm.KEPT, dropped: ErrorTerm.DROPPED } as const;
export type ErrorTermName = keyof typeof error_terms;
