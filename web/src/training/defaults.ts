// What a new training form is filled in with, and what its links are made of.
import { onlyTyped, textParams, type FormValues, type TypedValues } from "../forms/fields";
import type { Corpus, Model } from "../gen/featurescope/v1/catalog_pb.js";
import type { Preset } from "../gen/featurescope/v1/training_pb.js";
import { familyOf, isTranscoder } from "./architectures";
import { fieldText, spec_fields, specField } from "./fields";
import { splitList } from "./sweep";

// Not fields of one value: see sweep.ts.
const parts = ["more_corpora", "cache_id", "raw_inputs", "raw_targets", "raw_dtype"];

// "model" and "corpus" are what other views link with.
export const trainingCodec = textParams([...spec_fields.map((field) => field.name), ...parts, "model", "corpus"]);

// Where a preset says nothing: a TopK SAE on the middle of the residual stream.
export function trainingDefaults(typed: TypedValues, models: readonly Model[], corpora: readonly Corpus[], preset: Preset | undefined): FormValues {
  const { model: linked_model, corpus: linked_corpus, ...given } = onlyTyped(typed);
  const model_id = given["model_id"] ?? linked_model ?? models[0]?.id ?? "";
  const model = models.find((m) => m.id === model_id);
  const of_preset = (name: string) => fieldText(preset?.spec, specField(name));
  const architecture = given["architecture"] ?? (of_preset("architecture") || "topk");
  const chosen = splitList(architecture);
  const isAllTranscoders = chosen.length > 0 && chosen.every(isTranscoder);
  const hook_name = given["hook_name"] ?? middleHook(model, preset, isAllTranscoders ? transcoder_inputs : []);
  const hasTopK = chosen.some((a) => ["topk", "batchtopk", "matryoshka"].includes(familyOf(a)));
  const hasWidth = of_preset("d_sae") !== "" || of_preset("expansion") !== "" || (given["expansion"] ?? "") !== "";
  const hasTokens = of_preset("tokens") !== "" || of_preset("epochs") !== "" || (given["epochs"] ?? "") !== "";
  const defaults: FormValues = {
    model_id,
    corpus_id: linked_corpus ?? (corpora.find((c) => c.modelId === model_id) ?? corpora[0])?.id ?? "",
    architecture,
    hook_name,
    sae_id: newId(model_id, hook_name, chosen),
    d_sae: hasWidth || model === undefined ? "" : String(16 * model.dModel),
    k: hasTopK && of_preset("k") === "" ? "32" : "",
    tokens: hasTokens ? "" : "2000000",
  };
  if (chosen.some(isTranscoder)) defaults["hook_name_out"] = outOf(hook_name);
  return { ...defaults, ...given };
}

// What a block's MLP reads, where the model has a name for it.
const transcoder_inputs = ["ln2.hook_normalized", "hook_mlp_in", "hook_resid_mid"];

function middleHook(model: Model | undefined, preset: Preset | undefined, preferred: readonly string[]): string {
  const wanted = preset?.hookName ?? "";
  if (wanted !== "" && (model === undefined || model.hookNames.includes(wanted))) return wanted;
  if (model === undefined) return "";
  const layer = Math.max(0, Math.floor(model.nLayers / 2) - 1);
  const points = [wanted.replace(/^blocks\.\d+\./, ""), ...preferred].filter((point) => point !== "");
  const found = points.map((point) => `blocks.${layer}.${point}`).find((hook) => model.hookNames.includes(hook));
  return found ?? `blocks.${layer}.hook_resid_post`;
}

// A transcoder's usual target: the same block's MLP.
function outOf(hook_name: string): string {
  const layer = /^blocks\.(\d+)\./.exec(hook_name)?.[1];
  return layer === undefined ? "" : `blocks.${layer}.hook_mlp_out`;
}

// Without what a sweep varies: its members' ids say that.
function newId(model: string, hook_name: string, chosen: readonly string[]): string {
  const hooks = splitList(hook_name);
  const layer = hooks.length === 1 ? /^blocks\.(\d+)\./.exec(hook_name)?.[1] : undefined;
  const pieces = [model, layer === undefined ? "" : `l${layer}`, chosen.length === 1 ? (chosen[0] ?? "").replaceAll("_", "-") : ""];
  return pieces
    .filter((piece) => piece !== "")
    .join("-")
    .toLowerCase()
    .slice(0, 48);
}
