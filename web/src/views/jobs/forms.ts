// The two job forms: their fields, what an empty field means, and the specification they stand for.
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { Corpus, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import type { IndexingSpecSchema, TrainingSpecSchema } from "../../gen/featurescope/v1/jobs_pb.js";
import { onlyTyped, textParams, type FormValues, type NumberField, type TypedValues } from "../../forms/fields";

const u32 = 2 ** 32 - 1;
const whole = { whole: true, min: 1, max: u32 };

export const training_numbers: NumberField[] = [
  { name: "d_sae", label: "Features (d_sae)", hint: "Often 8 to 32 times the hook's width.", unset: undefined, ...whole, max: 1 << 24 },
  { name: "k", label: "k", hint: "Active features per token.", unset: undefined, ...whole, only: "topk" },
  { name: "l1_coefficient", label: "L1 coefficient", unset: "5", min: 0, max: 1e6, whole: false, only: "standard" },
  { name: "tokens", label: "Tokens", hint: "The corpus is repeated, reshuffled, as often as needed.", unset: undefined, ...whole, max: 1e15 },
  { name: "batch_size", label: "Batch size", hint: "Tokens per step.", unset: "4096", ...whole, max: 1 << 20 },
  { name: "learning_rate", label: "Learning rate", unset: "by architecture and width", min: 0, max: 1, whole: false },
  { name: "seed", label: "Seed", unset: "0", whole: true, min: 0, max: Number.MAX_SAFE_INTEGER },
  { name: "lr_warmup_steps", label: "Warm-up steps", unset: "5 % of the steps", whole: true, min: 0, max: u32, advanced: true },
  { name: "lr_decay_steps", label: "Decay steps", unset: "the last 20 %", whole: true, min: 0, max: u32, advanced: true },
  { name: "l1_warmup_steps", label: "L1 warm-up steps", unset: "5 % of the steps", whole: true, min: 0, max: u32, only: "standard", advanced: true },
  { name: "auxk_coefficient", label: "AuxK coefficient", hint: "Weight of the dead features' loss.", unset: "1/32", min: 0, max: 1e3, whole: false, only: "topk", advanced: true },
  { name: "dead_after_tokens", label: "Dead after", hint: "Tokens without firing.", unset: "a tenth of the tokens", ...whole, max: 1e15, only: "topk", advanced: true },
  { name: "clip_norm", label: "Gradient clip", hint: "0: no clipping.", unset: "1", min: 0, max: 1e6, whole: false, advanced: true },
  { name: "buffer_tokens", label: "Shuffle buffer", hint: "Tokens held for shuffling.", unset: "64 batches", ...whole, max: 1e12, advanced: true },
  { name: "checkpoint_seconds", label: "Checkpoint every", hint: "Seconds.", unset: "60", ...whole, max: 86400, advanced: true },
];

export const indexing_numbers: NumberField[] = [
  { name: "max_tokens", label: "Tokens", unset: "the whole corpus", ...whole, max: 1e15 },
  { name: "top_examples", label: "Strongest examples", hint: "Kept of each feature.", unset: "20", ...whole, max: 1000, advanced: true },
  { name: "bands", label: "Activation bands", unset: "10", ...whole, max: 100, advanced: true },
  { name: "examples_per_band", label: "Examples per band", unset: "5", ...whole, max: 100, advanced: true },
  { name: "window", label: "Window", hint: "Tokens on each side of the strongest.", unset: "32", ...whole, max: 1024, advanced: true },
  { name: "seed", label: "Seed", unset: "0", whole: true, min: 0, max: Number.MAX_SAFE_INTEGER, advanced: true },
];

export const trainingCodec = textParams([
  ...["sae_id", "model_id", "model", "corpus_id", "corpus", "hook_name", "architecture"],
  ...training_numbers.map((field) => field.name),
]);
export const indexingCodec = textParams(["sae_id", "sae", "corpus_id", "corpus", ...indexing_numbers.map((f) => f.name)]);

// The fields that count for an architecture.
export function shownFields(fields: NumberField[], architecture: string): NumberField[] {
  return fields.filter((field) => field.only === undefined || field.only === architecture);
}

// Filled in where the form is new: a TopK SAE on the middle of the residual stream.
export function trainingDefaults(model: Model | undefined, corpora: Corpus[], typed: TypedValues): FormValues {
  const given = onlyTyped(typed);
  if (model === undefined) return given;
  const layer = Math.max(0, Math.floor(model.nLayers / 2) - 1);
  const architecture = given["architecture"] ?? "topk";
  const defaults: FormValues = {
    model_id: model.id,
    corpus_id: (corpora.find((c) => c.modelId === model.id) ?? corpora[0])?.id ?? "",
    hook_name: `blocks.${layer}.hook_resid_post`,
    architecture,
    sae_id: `${model.id}-l${layer}-${architecture}`.toLowerCase(),
    d_sae: String(16 * model.dModel),
    k: "32",
    tokens: "2000000",
  };
  return { ...defaults, ...given };
}

const number = (values: FormValues, name: string) => Number(values[name] || 0);
const big = (values: FormValues, name: string) => BigInt(number(values, name));
const maybe = (values: FormValues, name: string) => (values[name] ? Number(values[name]) : undefined);

export function toTrainingSpec(values: FormValues): MessageInitShape<typeof TrainingSpecSchema> {
  const isTopK = values["architecture"] === "topk";
  return {
    saeId: values["sae_id"] ?? "",
    modelId: values["model_id"] ?? "",
    corpusId: values["corpus_id"] ?? "",
    hookName: values["hook_name"] ?? "",
    architecture: values["architecture"] ?? "",
    dSae: number(values, "d_sae"),
    k: isTopK ? number(values, "k") : 0,
    l1Coefficient: isTopK ? 0 : number(values, "l1_coefficient"),
    tokens: big(values, "tokens"),
    batchSize: number(values, "batch_size"),
    learningRate: number(values, "learning_rate"),
    lrWarmupSteps: maybe(values, "lr_warmup_steps"),
    lrDecaySteps: maybe(values, "lr_decay_steps"),
    l1WarmupSteps: isTopK ? undefined : maybe(values, "l1_warmup_steps"),
    auxkCoefficient: isTopK ? maybe(values, "auxk_coefficient") : undefined,
    deadAfterTokens: isTopK ? big(values, "dead_after_tokens") : 0n,
    clipNorm: maybe(values, "clip_norm"),
    seed: big(values, "seed"),
    bufferTokens: big(values, "buffer_tokens"),
    checkpointSeconds: number(values, "checkpoint_seconds"),
  };
}

export function toIndexingSpec(values: FormValues): MessageInitShape<typeof IndexingSpecSchema> {
  return {
    saeId: values["sae_id"] ?? "",
    corpusId: values["corpus_id"] ?? "",
    maxTokens: big(values, "max_tokens"),
    topExamples: number(values, "top_examples"),
    bands: number(values, "bands"),
    examplesPerBand: number(values, "examples_per_band"),
    window: number(values, "window"),
    seed: big(values, "seed"),
  };
}
