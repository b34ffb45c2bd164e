// Mock of evaluations: made-up numbers with some of the server's definitions.
export const definitions = [
  { name: "mse", formula: "mean |y - y_hat|^2 / d", meaning: "squared error per token and dimension" },
  { name: "fvu", formula: "sum |y - y_hat|^2 / sum |y - m|^2", meaning: "fraction of variance unexplained" },
  { name: "explained_variance", formula: "1 - fvu", meaning: "the conventional one, over all tokens together" },
  { name: "explained_variance_legacy", formula: "mean (1 - |y - y_hat|^2 / |y - m|^2)", meaning: "a mean of ratios per token, as SAEBench's paper reports it; tokens near the mean weigh much" },
  { name: "cosine_similarity", formula: "mean cos(y, y_hat)", meaning: "1: the direction is right on every token" },
  { name: "l2_ratio", formula: "mean |y_hat| / |y|", meaning: "under 1: the output is too short" },
  { name: "reconstruction_bias", formula: "mean |y_hat|^2 / mean (y . y_hat)", meaning: "under 1: shrinkage (Rajamanoharan et al. 2024, arXiv:2404.16014)" },
  { name: "l0", formula: "mean |{i: f_i > 0}|", meaning: "active features per token" },
  { name: "l1", formula: "mean sum_i f_i", meaning: "summed activations per token" },
  { name: "dead_share", formula: "|{i: f_i > 0 on no token}| / d_sae", meaning: "features that never fired here" },
  { name: "dense_share", formula: "|{i: f_i > 0 on over 10 % of tokens}| / d_sae", meaning: "features that fire everywhere" },
  { name: "ce_clean", formula: "mean -log p(next token)", meaning: "cross entropy of the model itself, nats" },
  { name: "ce_sae", formula: "the same with y_hat in place of y", meaning: "cross entropy on the reconstruction, nats" },
  { name: "ce_increase", formula: "ce_sae - ce_clean", meaning: "what the reconstruction costs, nats" },
  { name: "ce_increase_error", formula: "sd over contexts of their ce_increase / sqrt(contexts)", meaning: "standard error of ce_increase" },
  { name: "ce_zero", formula: "the same with 0 in place of y", meaning: "cross entropy under zero ablation, nats" },
  { name: "ce_loss_recovered", formula: "(ce_zero - ce_sae) / (ce_zero - ce_clean)", meaning: "1: as good as the model itself, 0: as bad as zero ablation" },
  { name: "kl_sae", formula: "mean KL(p_clean || p_sae)", meaning: "divergence of the predictions, nats" },
  { name: "kl_score", formula: "(kl_zero - kl_sae) / kl_zero", meaning: "1: the predictions are unchanged" },
];

const metrics = { mse: 0.41, fvu: 0.142, explained_variance: 0.858, explained_variance_legacy: 0.831, cosine_similarity: 0.927, l2_ratio: 0.931, reconstruction_bias: 0.984, l0: 31.4, l1: 62.1, dead_share: 0.021, dense_share: 0.004, ce_clean: 3.412, ce_sae: 3.551, ce_increase: 0.139, ce_increase_error: 0.0041, ce_zero: 9.02, ce_loss_recovered: 0.9752, kl_sae: 0.148, kl_score: 0.971 };
const bell = (n, peak, width, height) => Array.from({ length: n }, (_, i) => BigInt(Math.round(height * Math.exp(-(((i - peak) / width) ** 2)))));

const histograms = {
  l0: { edges: [0, 1, ...Array.from({ length: 23 }, (_, i) => 2 ** (i + 1))], counts: bell(24, 5.6, 1.1, 20000) },
  activation: { edges: Array.from({ length: 41 }, (_, i) => 2 ** (i - 20)), counts: bell(40, 20.5, 2.4, 90000) },
  density: { edges: Array.from({ length: 17 }, (_, i) => 10 ** (-8 + 0.5 * i)), counts: bell(16, 10.5, 2.1, 240) },
};

export function evaluationOf(job) {
  const spec = job.spec.value;
  return { saeId: spec.saeId, corpusId: spec.corpusId, jobId: job.id, created: job.finished || job.created, spec, nContexts: 512n, nTokens: spec.maxTokens || 65024n, nPredicted: 64512n, metrics, histograms };
}
