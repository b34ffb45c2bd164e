// What each number on screen means. The ids are stable: docs, tooltips and tests refer to them.

export interface Definition {
  label: string;
  text: string;
  formula?: string;
}

export const definitions = {
  density: {
    label: "Density",
    text: "Share of the corpus' tokens, special ones excluded, on which the feature's activation is positive.",
    formula: "n(a > 0) / n_tokens",
  },
  n_active: { label: "Active tokens", text: "How many tokens of the corpus the feature fires on." },
  max: { label: "Max", text: "The largest activation seen over the corpus, in activation units." },
  mean: { label: "Mean", text: "Mean of the positive activations.", formula: "E[a | a > 0]" },
  std: { label: "Std", text: "Standard deviation of the positive activations." },
  skewness: {
    label: "Skew",
    text: "Skewness of the positive activations: large when most are weak and few are strong.",
    formula: "E[(a − μ)³] / σ³",
  },
  kurtosis: {
    label: "Kurtosis",
    text: "Excess kurtosis of the positive activations; 0 for a normal distribution.",
    formula: "E[(a − μ)⁴] / σ⁴ − 3",
  },
  p50: { label: "p50", text: "Median of the positive activations, read off the histogram." },
  p90: { label: "p90", text: "90th percentile of the positive activations, read off the histogram." },
  p99: { label: "p99", text: "99th percentile of the positive activations, read off the histogram." },
  decoder_norm: {
    label: "‖W_dec‖",
    text: "Length of the feature's decoder row.",
    formula: "‖W_dec[feature]‖₂",
  },
  top_token: { label: "Top token", text: "The token on which the feature's activation is largest." },
  top_logit: { label: "Top logit", text: "The token whose logit one unit of this feature raises most." },
  logit_effect: {
    label: "Logit effect",
    text: "Change of the token's logit per unit of activation, without the final normalisation.",
    formula: "W_dec[feature] · W_U[:, token]",
  },
  alive: { label: "Alive", text: "Features that fired at least once on the indexed tokens." },
  dead: { label: "Dead", text: "Features that never fired on the indexed tokens." },
  dense: { label: "Dense", text: "Features that fire on more than a tenth of the tokens." },
  mean_l0: { label: "Mean L0", text: "Mean number of features that fire on a token." },
  explained_variance: {
    label: "Explained variance",
    text: "Share of the activations' variance that the SAE's reconstruction explains.",
    formula: "1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²",
  },
  norm_ratio: {
    label: "‖x̂‖ / ‖x‖",
    text: "Mean length of the reconstruction relative to what is reconstructed; about 1 where all scales are right.",
  },
  cosine: { label: "Cosine", text: "Mean cosine of the reconstruction and what is reconstructed." },
  log10_density: {
    label: "log₁₀ density",
    text: "How many alive features have which density, on a logarithmic scale.",
  },
  band_share: {
    label: "Share of the band",
    text: "Share of the feature's positive activations that lie between the band's bounds.",
  },
  relative_change: {
    label: "‖Δ‖ / ‖x‖",
    text: "Length of the edit relative to the activation vector it was added to.",
  },
  logprob: {
    label: "Log-probability",
    text: "Natural logarithm of the token's probability before temperature and penalties.",
  },
  loss: { label: "Loss", text: "The training objective: the error, the penalty and what else the architecture adds." },
  fvu: {
    label: "FVU",
    text: "Fraction of variance unexplained, over the tokens since the last report.",
    formula: "Σ‖x − x̂‖² / Σ‖x − x̄‖²",
  },
  mse: { label: "MSE", text: "Squared error per token and dimension, in the scaled input's units.", formula: "E‖x − x̂‖² / d" },
  explained_variance_legacy: {
    label: "Explained variance (per token)",
    text: "The mean of ratios per token, as SAEBench's paper reports it; tokens near the mean weigh much.",
    formula: "E[1 − ‖x − x̂‖² / ‖x − x̄‖²]",
  },
  l0: { label: "L0", text: "Mean number of active features per token.", formula: "E|{i: fᵢ > 0}|" },
  l1: { label: "L1", text: "Mean sum of the activations of a token.", formula: "E Σᵢ fᵢ" },
  dead_share: { label: "Dead share", text: "Share of features that have not fired for a long time (dead_after_tokens)." },
  dense_share: { label: "Dense share", text: "Share of features that fire on more than a tenth of the tokens." },
  reconstruction_bias: {
    label: "Reconstruction bias",
    text: "Under 1 the reconstruction is too short: shrinkage (arXiv:2404.16014).",
    formula: "E‖x̂‖² / E(x · x̂)",
  },
  auxk_loss: { label: "AuxK loss", text: "The error of the dead features' reconstruction of what the others leave." },
  l1_loss: { label: "Sparsity loss", text: "The penalty on activations, with its weight." },
  l0_loss: { label: "L0 loss", text: "The penalty on the number of active features, with its weight." },
  gate_mse: { label: "Gate's MSE", text: "The error of the reconstruction from the gate alone (gated SAEs)." },
  threshold: { label: "Threshold", text: "Mean of the thresholds (jumprelu), or the one threshold by which the result selects (batchtopk)." },
  k: { label: "k", text: "Active features per token that the selection keeps, while k is annealed." },
  resampled: { label: "Resampled", text: "Dead features that were restarted since the last report." },
  learning_rate: { label: "Learning rate", text: "After warm-up, schedule and decay." },
  grad_norm: { label: "Gradient norm", text: "The gradient's global L2 norm before clipping." },
  tokens_per_second: { label: "Tokens per second", text: "Of the whole job, since the last report." },
} satisfies Record<string, Definition>;

export type DefinitionId = keyof typeof definitions;

export function isDefined(id: string): id is DefinitionId {
  return Object.hasOwn(definitions, id);
}
