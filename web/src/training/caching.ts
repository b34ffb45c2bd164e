// The form of an activation cache: its values and the specification they stand for.
import type { MessageInitShape } from "@bufbuild/protobuf";

import { checkId, onlyTyped, textParams, withErrors, type FormErrors, type FormValues, type TypedValues } from "../forms/fields";
import type { Corpus, Model } from "../gen/featurescope/v1/catalog_pb.js";
import type { CachingSpecSchema } from "../gen/featurescope/v1/training_pb.js";
import { splitList } from "./sweep";

export const cachingCodec = textParams(["cache_id", "model_id", "model", "corpus_id", "corpus", "hook_names", "dtype", "special_tokens"]);

export function cachingDefaults(typed: TypedValues, models: readonly Model[], corpora: readonly Corpus[]): FormValues {
  const { model: linked_model, corpus: linked_corpus, ...given } = onlyTyped(typed);
  const model_id = given["model_id"] ?? linked_model ?? models[0]?.id ?? "";
  const layer = Math.max(0, Math.floor((models.find((m) => m.id === model_id)?.nLayers ?? 0) / 2) - 1);
  return {
    model_id,
    corpus_id: linked_corpus ?? (corpora.find((c) => c.modelId === model_id) ?? corpora[0])?.id ?? "",
    hook_names: `blocks.${layer}.hook_resid_post`,
    cache_id: `${model_id}-l${layer}`.toLowerCase(),
    ...given,
  };
}

export function checkCaching(values: FormValues): FormErrors {
  return withErrors([
    ["cache_id", checkId(values["cache_id"] ?? "")],
    ["hook_names", splitList(values["hook_names"] ?? "").length === 0 ? "a hook point is needed" : undefined],
  ]);
}

export function toCachingSpec(values: FormValues): MessageInitShape<typeof CachingSpecSchema> {
  return {
    cacheId: values["cache_id"] ?? "",
    modelId: values["model_id"] ?? "",
    corpusId: values["corpus_id"] ?? "",
    hookNames: splitList(values["hook_names"] ?? ""),
    dtype: values["dtype"] ?? "",
    specialTokens: values["special_tokens"] === "1",
  };
}
