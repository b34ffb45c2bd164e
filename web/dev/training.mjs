// Mock of what training needs: recipes, plans, sweeps, curves and advice.
import { create, fromJson, toJson } from "@bufbuild/protobuf";

import { TrainingSpecSchema } from "../src/gen/featurescope/v1/training_pb.js";
import { random } from "./world.mjs";

const spec = (init) => create(TrainingSpecSchema, init);

export const presets = [
  { name: "guide", title: "ReLU SAE with 16 features per input width, warm-up and cosine", source: "the guide's defaults", open: "tokens; learning_rate: 3e-4; l1_coefficient: 5", spec: spec({ architecture: "standard", expansion: 16, lrSchedule: "cosine", lrWarmupFraction: 0.05, learningRate: 3e-4, l1Coefficient: 5 }) },
  { name: "gpt2-tutorial", title: "A tutorial's ReLU SAE of GPT-2: 6144 features, unit-norm decoder columns", source: "the GPT-2 tutorial", model: "gpt2", open: "learning_rate: 1e-3", spec: spec({ architecture: "standard", dSae: 6144, epochs: 12, batchSize: 256, learningRate: 1e-3, decoderNorm: "unit" }) },
  { name: "gemma-scope", title: "JumpReLU as in Gemma Scope", source: "Lieberum et al. 2024, arXiv:2408.05147; Rajamanoharan et al. 2024, arXiv:2407.14435", model: "google/gemma-2-2b", open: "l0_coefficient: 6e-4", differs: "thresholds are held as they are; the warm-up is linear, not a cosine", spec: spec({ architecture: "jumprelu", dSae: 16384, tokens: 4_000_000_000n, batchSize: 4096, learningRate: 7e-5, l0Coefficient: 6e-4, targetL0: 0, clipNorm: 0 }) },
  { name: "dictionary_learning-topk", title: "TopK as dictionary_learning trains it", source: "saprmarks/dictionary_learning 60ec6bf, TopKTrainer; dictionary_learning_demo", open: "tokens; d_sae; k: 80", spec: spec({ architecture: "topk", k: 80, auxkCoefficient: 1 / 32 }) },
];

export const defaults = spec({ architecture: "topk", optimizer: "adam", lrSchedule: "constant", computeDtype: "float32", adamBeta1: 0.9, adamBeta2: 0.999, corpusWeight: 1, scaleInputs: true });

// `over` on top of `base`, as the server merges specifications.
export function merged(base, over) {
  return fromJson(TrainingSpecSchema, { ...toJson(TrainingSpecSchema, base), ...toJson(TrainingSpecSchema, over) });
}

export function membersOf(sweep) {
  return sweep.members.length === 0 ? [sweep.base] : sweep.members.map((member) => merged(sweep.base, member));
}

export function resolved(given) {
  const preset = presets.find((p) => p.name === given.preset);
  const s = preset ? merged(preset.spec, given) : given;
  s.architecture ||= "topk";
  s.dSae ||= Math.round((s.expansion ?? 16) * 256);
  s.batchSize ||= 4096;
  if (s.tokens === 0n) s.tokens = BigInt(Math.round((s.epochs ?? 0) * 634112));
  s.learningRate ||= 3e-4;
  s.l1Coefficient ||= 5;
  s.optimizer ||= "adam";
  s.lrSchedule ||= "constant";
  s.clipNorm ??= 1;
  s.adamBeta1 ??= 0.9;
  s.adamBeta2 ??= 0.999;
  s.bufferTokens ||= 262144n;
  return s;
}

export function planOf(sweep) {
  const specs = membersOf(sweep).map(resolved);
  const memory = specs.reduce((sum, s) => sum + s.dSae * 256 * 4 * 8, 262144 * 256 * 4);
  return { resolved: specs, steps: BigInt(Math.ceil(Number(specs[0].tokens) / specs[0].batchSize)), memoryBytes: BigInt(memory), availableBytes: 5_368_709_120n };
}

const total_steps = 1200;

function valuesOf(spec, step) {
  const r = random(`m${spec.saeId}${step}`);
  const t = (step % total_steps) / total_steps;
  const isTopK = spec.architecture.includes("topk") || spec.architecture === "";
  const target = isTopK ? spec.k || 32 : 900 / (spec.l1Coefficient || 5) ** 1.2;
  const floor = 0.9 / (1 + target / 4) ** 0.55 / (1 + Math.log2((spec.dSae || 4096) / 1024) / 8) + (spec.saeId.length % 3) * 0.006;
  const fvu = floor + (1 - floor) * Math.exp(-9 * t) + 0.012 * (r() - 0.5);
  const l0 = isTopK ? target : target * (1 + 20 * Math.exp(-14 * t)) * (1 + 0.04 * (r() - 0.5));
  const values = {
    loss: 210 * fvu + 3 * r(), mse: 200 * fvu, fvu, explained_variance: 1 - fvu, l0, l1: 11 + l0 / 3 + r(),
    dead_share: Math.max(0, 0.44 * Math.exp(-4 * t) - 0.01 + 0.01 * r()), dense_share: 0.006 + 0.002 * r(), cosine: Math.sqrt(Math.max(0, 1 - fvu)), reconstruction_bias: 0.97 + 0.01 * r(),
    learning_rate: 4e-4 * Math.min(1, t * 20, (1.001 - t) * 5), grad_norm: 0.4 + 0.2 * r() + 3 * Math.exp(-20 * t),
  };
  if (isTopK) Object.assign(values, { auxk_loss: 40 * Math.exp(-5 * t) + r(), k: target });
  else values.l1_loss = 30 + 5 * r();
  if (step % 25 < 2 || step === total_steps) Object.assign(values, { heldout_mse: 206 * fvu, heldout_fvu: fvu * 1.03, heldout_explained_variance: 1 - fvu * 1.03, heldout_explained_variance_legacy: 1 - fvu * 1.1, heldout_l0: l0 * 1.01, heldout_cosine: Math.sqrt(Math.max(0, 1 - fvu * 1.04)), heldout_reconstruction_bias: 0.965 });
  return values;
}

// One point of a training's curves, or with the members' ids in front of a sweep's.
export function pointOf(job, step) {
  const values = {};
  if (job.spec.case === "training") Object.assign(values, valuesOf(job.spec.value, step));
  else for (const member of membersOf(job.spec.value)) for (const [name, value] of Object.entries(valuesOf(member, step))) values[`${member.saeId}/${name}`] = value;
  values.tokens_per_second = 9800 + 900 * random(`t${step}`)();
  return { step: BigInt(step), tokens: BigInt(step * 4096), values };
}

export function adviceOf(job) {
  const l0_high = { rule: "l0_high", evidence: "412 features fire per token (mean of steps 900 to 1000); above 200 they are hardly interpretable", suggestion: "try a higher l1_coefficient" };
  if (job.spec.case === "sweep") return [{ saeId: membersOf(job.spec.value).at(-1).saeId, ...l0_high }];
  if (job.spec.case !== "training" || job.id === "01JDEMO1") return [];
  return [
    { rule: "dead_features", evidence: "31 % of the features have not fired on the last 200000 tokens (mean of steps 900 to 1000)", suggestion: "try a smaller d_sae, a longer warm-up of the learning rate, or a higher auxk_coefficient" },
    { rule: "low_explained_variance", evidence: "71 % of the variance is explained (mean of steps 900 to 1000)", suggestion: "try more tokens, a larger d_sae, or a higher k" },
  ];
}
