// The forms that add a model, an SAE or a corpus: their values and the requests these stand for.
//
// Models and SAEs come from a path on the server, at once, or from the hub, as a job.
import type { MessageInitShape } from "@bufbuild/protobuf";

import { checkId, checkNumber, idFrom, onlyTyped, textParams, withErrors, type FormErrors, type FormValues, type NumberField, type TypedValues } from "../../forms/fields";
import type { AddCorpusRequestSchema, AddSaeRequestSchema, SaeOverridesSchema } from "../../gen/featurescope/v1/catalog_pb.js";
import type { ImportSpecSchema } from "../../gen/featurescope/v1/jobs_pb.js";

export const sources = [
  ["path", "A path on the server"],
  ["hub", "The hub"],
] as const;
export type Source = (typeof sources)[number][0];

export function sourceOf(values: FormValues): Source {
  return values["from"] === "hub" ? "hub" : "path";
}

const needed = (text: string | undefined, what: string) => ((text ?? "").trim() === "" ? `${what} is needed` : undefined);
const lines = (text: string | undefined) =>
  (text ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

// "yes" and "no" of a choice that may be left to the server.
const maybe = (text: string | undefined) => (text === "yes" ? true : text === "no" ? false : undefined);
const number = (text: string | undefined) => (text === undefined || text.trim() === "" ? undefined : Number(text));

// ---- models

export const modelCodec = textParams(["from", "path", "repo", "revision", "include", "model_id"]);

export function completeModel(typed: TypedValues): FormValues {
  const values = onlyTyped(typed);
  const name = sourceOf(values) === "hub" ? values["repo"] : values["path"];
  return { ...values, model_id: values["model_id"] ?? idFrom(name ?? "") };
}

export function checkModel(values: FormValues): FormErrors {
  const isHub = sourceOf(values) === "hub";
  return withErrors([
    ["model_id", checkId(values["model_id"] ?? "")],
    ["path", isHub ? undefined : needed(values["path"], "a path")],
    ["repo", isHub ? needed(values["repo"], "a repository") : undefined],
  ]);
}

export function toModelImport(values: FormValues): MessageInitShape<typeof ImportSpecSchema> {
  return {
    what: {
      case: "model",
      value: {
        repo: (values["repo"] ?? "").trim(),
        revision: (values["revision"] ?? "").trim(),
        include: lines(values["include"]),
        modelId: values["model_id"] ?? "",
      },
    },
  };
}

// ---- SAEs

export const sae_numbers: NumberField[] = [
  {
    name: "norm_scaling_factor",
    label: "Scale of the activations",
    hint: "A factor of the training run that is not folded into the weights.",
    unset: "none",
    min: 1e-12,
    max: 1e12,
    whole: false,
  },
  { name: "threshold", label: "Threshold", hint: "Of BatchTopK files that tracked none.", unset: "as the files say", min: 0, max: 1e9, whole: false },
  { name: "k", label: "k", hint: "Of TopK files that do not say.", unset: "as the files say", min: 1, max: 1 << 24, whole: true },
];

// Choices of which the first leaves the decision to the files.
export const sae_choices = {
  center_writing_weights: ["", "yes", "no"],
  apply_b_dec_to_input: ["", "yes", "no"],
  normalize_activations: ["", "none", "expected_average_only_in", "constant_norm_rescale", "layer_norm"],
  selection: ["", "per_token", "threshold", "whole_batch"],
} as const;

const override_names = ["norm_scaling_factor", "threshold", "k", "apply_b_dec_to_input", "normalize_activations", "selection"];

export const saeCodec = textParams([
  ...["from", "path", "source", "revision", "sae_id", "model_id", "model", "hook_name", "hook_name_out", "any_width", "center_writing_weights"],
  ...override_names,
]);

export function completeSae(typed: TypedValues): FormValues {
  const { model, ...values } = onlyTyped(typed);
  const isHub = sourceOf(values) === "hub";
  const id = isHub ? (values["source"] ?? "").replaceAll("/", "-") : (values["path"] ?? "");
  return { ...values, model_id: values["model_id"] ?? model ?? "", sae_id: values["sae_id"] ?? idFrom(id) };
}

export function checkSae(values: FormValues): FormErrors {
  const isHub = sourceOf(values) === "hub";
  return withErrors([
    ["sae_id", checkId(values["sae_id"] ?? "")],
    ["path", isHub ? undefined : needed(values["path"], "a path")],
    ["source", isHub ? needed(values["source"], "a release and an id") : undefined],
    ...(isHub ? [] : sae_numbers.map((field) => [field.name, checkNumber(field, values[field.name] ?? "")] as const)),
  ]);
}

export function toOverrides(values: FormValues): MessageInitShape<typeof SaeOverridesSchema> {
  return {
    normScalingFactor: number(values["norm_scaling_factor"]),
    threshold: number(values["threshold"]),
    k: number(values["k"]),
    applyBDecToInput: maybe(values["apply_b_dec_to_input"]),
    normalizeActivations: values["normalize_activations"] || undefined,
    selection: values["selection"] || undefined,
    hookNameOut: (values["hook_name_out"] ?? "").trim() || undefined,
  };
}

export function toAddSae(values: FormValues): MessageInitShape<typeof AddSaeRequestSchema> {
  return {
    saeId: values["sae_id"] ?? "",
    path: (values["path"] ?? "").trim(),
    modelId: values["model_id"] ?? "",
    hookName: (values["hook_name"] ?? "").trim(),
    anyWidth: values["any_width"] === "1",
    centerWritingWeights: maybe(values["center_writing_weights"]),
    overrides: toOverrides(values),
  };
}

export function toSaeImport(values: FormValues): MessageInitShape<typeof ImportSpecSchema> {
  return {
    what: {
      case: "sae",
      value: {
        source: (values["source"] ?? "").trim(),
        revision: (values["revision"] ?? "").trim(),
        saeId: values["sae_id"] ?? "",
        modelId: values["model_id"] ?? "",
        hookName: (values["hook_name"] ?? "").trim(),
        centerWritingWeights: maybe(values["center_writing_weights"]),
        anyWidth: values["any_width"] === "1",
      },
    },
  };
}

// ---- corpora

export const corpus_numbers: NumberField[] = [
  { name: "context_size", label: "Context size", hint: "Tokens, BOS included.", unset: "the model's, at most 128", min: 2, max: 1 << 20, whole: true },
  { name: "heldout_fraction", label: "Held out", hint: "Share of the documents that training leaves alone.", unset: "0", min: 0, max: 0.5, whole: false },
];

export const layouts: [string, string][] = [
  ["packed", "packed: documents follow each other"],
  ["split", "split: each document begins a context"],
  ["truncated", "truncated: one context a document"],
];

export const document_formats: [string, string][] = [
  ["", "as the files' names say"],
  ["text", "text"],
  ["jsonl", "JSON Lines"],
  ["csv", "CSV"],
  ["tsv", "TSV"],
];

export const corpusCodec = textParams([
  ...["corpus_id", "paths", "model_id", "model", "text_field", "layout", "document_format", "text_separator", "no_bos", "append_eos"],
  ...corpus_numbers.map((field) => field.name),
]);

export function completeCorpus(typed: TypedValues, first_model: string): FormValues {
  const { model, ...values } = onlyTyped(typed);
  const name = lines(values["paths"])[0] ?? "";
  const stem = idFrom(name).replace(/(\.(txt|jsonl|ndjson|csv|tsv|gz|zst))+$/, "");
  return { layout: "packed", ...values, model_id: values["model_id"] ?? model ?? first_model, corpus_id: values["corpus_id"] ?? stem };
}

export function checkCorpus(values: FormValues): FormErrors {
  return withErrors([
    ["corpus_id", checkId(values["corpus_id"] ?? "")],
    ["paths", lines(values["paths"]).length === 0 ? "at least one path is needed" : undefined],
    ...corpus_numbers.map((field) => [field.name, checkNumber(field, values[field.name] ?? "")] as const),
  ]);
}

export function toAddCorpus(values: FormValues): MessageInitShape<typeof AddCorpusRequestSchema> {
  return {
    corpusId: values["corpus_id"] ?? "",
    paths: lines(values["paths"]),
    modelId: values["model_id"] ?? "",
    contextSize: number(values["context_size"]) ?? 0,
    textField: (values["text_field"] ?? "").trim(),
    layout: values["layout"] ?? "",
    heldoutFraction: number(values["heldout_fraction"]) ?? 0,
    documentFormat: values["document_format"] ?? "",
    textSeparator: values["text_separator"] ?? "",
    noBos: values["no_bos"] === "1",
    appendEos: values["append_eos"] === "1",
  };
}
