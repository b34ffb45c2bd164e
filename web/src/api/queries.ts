// All reads of the app as TanStack queries. Every call passes its signal on, so that an answer nobody waits
// for any more is cancelled on the server too.
import { fromJsonString } from "@bufbuild/protobuf";
import { queryOptions } from "@tanstack/react-query";

import { FeatureOrder, ListExamplesRequest_Kind } from "../gen/featurescope/v1/features_pb.js";
import { TopOverText_Score } from "../gen/featurescope/v1/explore_pb.js";
import { SweepSpecSchema } from "../gen/featurescope/v1/training_pb.js";
import { catalog, compute_timeout_ms, explore, features, jobs, read_timeout_ms } from "./client";

const reading = (signal: AbortSignal) => ({ signal, timeoutMs: read_timeout_ms });
const computing = (signal: AbortSignal) => ({ signal, timeoutMs: compute_timeout_ms });
const utf8 = new TextEncoder();

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => (await catalog.listModels({}, reading(signal))).models,
});

export const saesQuery = queryOptions({
  queryKey: ["saes"],
  queryFn: async ({ signal }) => (await catalog.listSaes({}, reading(signal))).saes,
});

export const corporaQuery = queryOptions({
  queryKey: ["corpora"],
  queryFn: async ({ signal }) => (await catalog.listCorpora({}, reading(signal))).corpora,
});

export const saeReleasesQuery = queryOptions({
  queryKey: ["sae releases"],
  queryFn: async ({ signal }) => (await catalog.listSaeReleases({}, reading(signal))).releases,
  staleTime: Infinity,
});

export const serverQuery = queryOptions({
  queryKey: ["server"],
  queryFn: ({ signal }) => catalog.getServerInfo({}, reading(signal)),
  refetchInterval: 30_000,
});

export const saeQuery = (sae: string) =>
  queryOptions({
    queryKey: ["sae", sae],
    queryFn: ({ signal }) => catalog.getSae({ saeId: sae }, reading(signal)),
  });

export interface Index {
  sae: string;
  corpus: string;
}

const ref = ({ sae, corpus }: Index) => ({ saeId: sae, corpusId: corpus });

export const indexInfoQuery = (index: Index) =>
  queryOptions({
    queryKey: ["index", index],
    queryFn: ({ signal }) => features.getIndexInfo({ index: ref(index) }, reading(signal)),
    staleTime: 60_000,
  });

export interface FeatureListing extends Index {
  order: FeatureOrder;
  descending: boolean;
  min_density: number | undefined;
  max_density: number | undefined;
  min_max: number | undefined;
  max_max: number | undefined;
  alive_only: boolean;
  token_text: string;
  page_size: number;
  page_token: string;
}

export const featuresQuery = (listing: FeatureListing) =>
  queryOptions({
    queryKey: ["features", listing],
    queryFn: ({ signal }) =>
      features.listFeatures(
        {
          index: ref(listing),
          order: listing.order,
          descending: listing.descending,
          filter: {
            minDensity: listing.min_density,
            maxDensity: listing.max_density,
            minMax: listing.min_max,
            maxMax: listing.max_max,
            aliveOnly: listing.alive_only,
            tokenText: listing.token_text,
          },
          pageSize: listing.page_size,
          pageToken: listing.page_token,
        },
        reading(signal),
      ),
    staleTime: 60_000,
  });

export const featureQuery = (index: Index, feature: number) =>
  queryOptions({
    queryKey: ["feature", index, feature],
    queryFn: ({ signal }) => features.getFeature({ index: ref(index), feature }, reading(signal)),
    staleTime: 60_000,
  });

export const examplesQuery = (index: Index, feature: number, kind: "top" | "bands") =>
  queryOptions({
    queryKey: ["examples", index, feature, kind],
    queryFn: async ({ signal }) => {
      const request = {
        index: ref(index),
        feature,
        kind: kind === "top" ? ListExamplesRequest_Kind.TOP : ListExamplesRequest_Kind.BANDS,
      };
      return (await features.listExamples(request, reading(signal))).examples;
    },
    staleTime: 60_000,
  });

export const featureActivationsQuery = (sae: string, feature: number, text: string) =>
  queryOptions({
    queryKey: ["activations", sae, feature, text],
    queryFn: ({ signal }) =>
      explore.computeActivations(
        {
          inputs: [{ input: { case: "text", value: utf8.encode(text) } }],
          saeIds: [sae],
          selection: { case: "features", value: { ids: [feature] } },
          includeSpecialTokens: true,
          noStatistics: true,
        },
        computing(signal),
      ),
    staleTime: 60_000,
    enabled: text !== "",
  });

export const scores = {
  max: TopOverText_Score.MAX,
  mean: TopOverText_Score.MEAN,
  sum: TopOverText_Score.SUM,
} as const;

export const topOverTextQuery = (sae: string, text: string, score: keyof typeof scores, k: number) =>
  queryOptions({
    queryKey: ["top over text", sae, text, score, k],
    queryFn: ({ signal }) =>
      explore.computeActivations(
        {
          inputs: [{ input: { case: "text", value: utf8.encode(text) } }],
          saeIds: [sae],
          selection: { case: "topOverText", value: { k, score: scores[score] } },
        },
        computing(signal),
      ),
    staleTime: 60_000,
    enabled: text !== "" && sae !== "",
  });

export const topPerTokenQuery = (sae: string, text: string, k: number) =>
  queryOptions({
    queryKey: ["top per token", sae, text, k],
    queryFn: ({ signal }) =>
      explore.computeActivations(
        {
          inputs: [{ input: { case: "text", value: utf8.encode(text) } }],
          saeIds: [sae],
          selection: { case: "topKPerToken", value: k },
        },
        computing(signal),
      ),
    staleTime: 60_000,
    enabled: text !== "" && sae !== "",
  });

export const jobsQuery = queryOptions({
  queryKey: ["jobs"],
  queryFn: async ({ signal }) => (await jobs.listJobs({}, reading(signal))).jobs,
});

export const jobQuery = (job: string) =>
  queryOptions({
    queryKey: ["job", job],
    queryFn: ({ signal }) => jobs.getJob({ jobId: job }, reading(signal)),
  });

export const metricsQuery = (job: string, generation: number) =>
  queryOptions({
    queryKey: ["metrics", job, generation],
    queryFn: async ({ signal }) => (await jobs.getMetrics({ jobId: job }, reading(signal))).points,
    staleTime: Infinity,
  });

export const presetsQuery = queryOptions({
  queryKey: ["presets"],
  queryFn: ({ signal }) => jobs.listPresets({}, reading(signal)),
  staleTime: Infinity,
});

// What a training or a sweep would do; `spec` is a SweepSpec as JSON.
export const planQuery = (spec: string) =>
  queryOptions({
    queryKey: ["plan", spec],
    queryFn: ({ signal }) => jobs.planTraining({ spec: fromJsonString(SweepSpecSchema, spec) }, reading(signal)),
    enabled: spec !== "",
  });

export const adviceQuery = (job: string) =>
  queryOptions({
    queryKey: ["advice", job],
    queryFn: async ({ signal }) => (await jobs.getAdvice({ jobId: job }, reading(signal))).advice,
  });

export const evaluationsQuery = (sae: string) =>
  queryOptions({
    queryKey: ["evaluations", sae],
    queryFn: ({ signal }) => jobs.listEvaluations({ saeId: sae }, reading(signal)),
  });

export const cachesQuery = queryOptions({
  queryKey: ["activation caches"],
  queryFn: async ({ signal }) => (await jobs.listActivationCaches({}, reading(signal))).caches,
});
