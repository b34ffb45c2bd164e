// A job in words: what it makes and from what.
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { formatCount, formatNumber } from "../../lib/format";
import { specField, type TrainingSpec } from "../../training/fields";
import { commonRows, specsOf } from "../../training/runs";

export interface JobBrief {
  kind: string;
  subject: string;
  detail: string;
}

export function briefOf(job: Job): JobBrief {
  switch (job.spec.case) {
    case "training": {
      const { saeId, modelId, hookName, architecture } = job.spec.value;
      return { kind: "Training", subject: saeId, detail: `${architecture === "" ? "topk" : architecture} on ${modelId}, ${hookName}` };
    }
    case "sweep": {
      const specs = specsOf(job);
      const { modelId = "", hookName = "" } = job.spec.value.base ?? {};
      const ids = specs.map((s) => s.saeId);
      const detail = [`on ${modelId}`, hookName, `${ids[0] ?? ""} to ${ids.at(-1) ?? ""}`].filter((t) => t !== "").join(", ");
      return { kind: "Training", subject: `${specs.length} SAEs`, detail };
    }
    case "evaluation": {
      const { saeId, corpusId } = job.spec.value;
      return { kind: "Evaluating", subject: saeId, detail: `on ${corpusId}` };
    }
    case "caching": {
      const { cacheId, modelId, corpusId } = job.spec.value;
      return { kind: "Caching", subject: cacheId, detail: `activations of ${modelId} on ${corpusId}` };
    }
    case "indexing": {
      const { saeId, corpusId } = job.spec.value;
      return { kind: "Indexing", subject: saeId, detail: `over ${corpusId}` };
    }
    case "importing": {
      const { what } = job.spec.value;
      if (what.case === "model") return { kind: "Pulling", subject: what.value.modelId, detail: `model ${what.value.repo}` };
      if (what.case === "sae") return { kind: "Pulling", subject: what.value.saeId, detail: `SAE ${what.value.source}` };
      return { kind: "Pulling", subject: job.id, detail: "" };
    }
    default:
      return { kind: "Job", subject: job.id, detail: "" };
  }
}

const count = (value: number | bigint, unset: string) => (Number(value) === 0 ? unset : formatCount(value));

const labels: Record<string, string> = {
  sae_id: "SAE",
  model_id: "Model",
  corpus_id: "Corpus",
  hook_name: "Hook point",
  hook_name_out: "Target hook point",
  preset: "Recipe",
  architecture: "Architecture",
  tokens: "Tokens",
  batch_size: "Batch size",
  learning_rate: "Learning rate",
  seed: "Seed",
};

function valueText(name: string, text: string): string {
  if (name === "more_corpora" || name === "activations") return text;
  const { kind } = specField(name);
  if (kind === "whole") return formatCount(Number(text));
  return kind === "real" ? formatNumber(Number(text)) : text;
}

// What a training sets, of a sweep what its members have in common: what one thinks about, and what is as the
// server has it anyway.
export function trainingRows(job: Job, defaults?: TrainingSpec): { main: [string, string][]; others: [string, string][] } {
  const rows = commonRows(specsOf(job), defaults);
  const shown = (isDefault: boolean): [string, string][] =>
    rows.filter((row) => (row.isDefault && labels[row.name] === undefined) === isDefault).map(({ name, text }) => [labels[name] ?? name, valueText(name, text)]);
  return { main: shown(false), others: shown(true) };
}

export function specRows(job: Job): [string, string][] {
  if (job.spec.case === "training" || job.spec.case === "sweep") return trainingRows(job).main;
  if (job.spec.case === "indexing") {
    const spec = job.spec.value;
    return [
      ["SAE", spec.saeId],
      ["Corpus", spec.corpusId],
      ["Tokens", count(spec.maxTokens, "the whole corpus")],
      ["Top examples", count(spec.topExamples, "20")],
      ["Bands", count(spec.bands, "10")],
      ["Examples per band", count(spec.examplesPerBand, "5")],
      ["Window", count(spec.window, "32")],
      ["Seed", spec.seed.toString()],
    ];
  }
  if (job.spec.case === "importing") return importRows(job.spec.value.what);
  if (job.spec.case === "evaluation") {
    const spec = job.spec.value;
    return [
      ["SAE", spec.saeId],
      ["Corpus", spec.corpusId],
      ["Part", spec.part === "" ? "auto" : spec.part],
      ["Tokens", count(spec.maxTokens, "65 536")],
      ["Ablations", spec.noAblations ? "no" : "zero and mean"],
      ["Special tokens", spec.specialTokens ? "counted" : "left out"],
    ];
  }
  if (job.spec.case === "caching") {
    const spec = job.spec.value;
    return [
      ["Cache", spec.cacheId],
      ["Model", spec.modelId],
      ["Corpus", spec.corpusId],
      ["Hook points", spec.hookNames.join(", ")],
      ["dtype", spec.dtype === "" ? "bfloat16" : spec.dtype],
      ["Special tokens", spec.specialTokens ? "kept" : "left out"],
    ];
  }
  return [];
}

type What = Extract<Job["spec"], { case: "importing" }>["value"]["what"];

function importRows(what: What): [string, string][] {
  if (what.case === "model") {
    const { modelId, repo, revision, include } = what.value;
    return [
      ["Model", modelId],
      ["Repository", repo],
      ["Revision", revision === "" ? "main" : revision],
      ["Only", include.length === 0 ? "what a model needs" : include.join(", ")],
    ];
  }
  if (what.case === "sae") {
    const { saeId, source, revision, modelId, hookName, centerWritingWeights } = what.value;
    return [
      ["SAE", saeId],
      ["Source", source],
      ["Revision", revision === "" ? "as the release has it" : revision],
      ["Model", modelId === "" ? "as the files say" : modelId],
      ["Hook point", hookName === "" ? "as the files say" : hookName],
      ["Centred", centerWritingWeights === undefined ? "as is known of the release" : centerWritingWeights ? "yes" : "no"],
    ];
  }
  return [];
}
