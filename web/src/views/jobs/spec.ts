// A job in words: what it makes and from what.
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { formatCount, formatNumber } from "../../lib/format";

export interface JobBrief {
  kind: string;
  subject: string;
  detail: string;
}

export function briefOf(job: Job): JobBrief {
  switch (job.spec.case) {
    case "training": {
      const { saeId, modelId, hookName, architecture } = job.spec.value;
      return { kind: "Training", subject: saeId, detail: `${architecture} on ${modelId}, ${hookName}` };
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
const real = (value: number, unset: string) => (value === 0 ? unset : formatNumber(value));
const optional = (value: number | undefined, unset: string) => (value === undefined ? unset : formatNumber(value));

export function specRows(job: Job): [string, string][] {
  if (job.spec.case === "training") {
    const spec = job.spec.value;
    const isTopK = spec.architecture === "topk";
    return [
      ["SAE", spec.saeId],
      ["Model", spec.modelId],
      ["Hook point", spec.hookName],
      ["Corpus", spec.corpusId],
      ["Architecture", spec.architecture],
      ["d_sae", formatCount(spec.dSae)],
      ...((isTopK
        ? [
            ["k", formatCount(spec.k)],
            ["AuxK coefficient", optional(spec.auxkCoefficient, "1/32")],
            ["Dead after", count(spec.deadAfterTokens, "a tenth of the tokens")],
          ]
        : [["L1 coefficient", real(spec.l1Coefficient, "5")]]) as [string, string][]),
      ["Tokens", formatCount(spec.tokens)],
      ["Batch size", count(spec.batchSize, "4 096")],
      ["Learning rate", real(spec.learningRate, "default")],
      ["Gradient clip", optional(spec.clipNorm, "1")],
      ["Seed", spec.seed.toString()],
    ];
  }
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
