#include "server/explore/evaluation_metrics.h"

#include <algorithm>
#include <cmath>

namespace featurescope {
namespace {

constexpr MetricDefinition kDefinitions[] = {
    {"mse", "mean |y - y_hat|^2 / d", "squared error per token and dimension"},
    {"fvu", "sum |y - y_hat|^2 / sum |y - m|^2", "fraction of variance unexplained"},
    {"explained_variance", "1 - fvu", "the conventional one, over all tokens together"},
    {"explained_variance_legacy", "mean (1 - |y - y_hat|^2 / |y - m|^2)",
     "a mean of ratios per token, as SAEBench's paper reports it; tokens near the mean weigh much"},
    {"cosine_similarity", "mean cos(y, y_hat)", "1: the direction is right on every token"},
    {"l2_ratio", "mean |y_hat| / |y|", "under 1: the output is too short"},
    {"reconstruction_bias", "mean |y_hat|^2 / mean (y . y_hat)",
     "under 1: shrinkage (Rajamanoharan et al. 2024, arXiv:2404.16014)"},
    {"l0", "mean |{i: f_i > 0}|", "active features per token"},
    {"l1", "mean sum_i f_i", "summed activations per token"},
    {"dead_share", "|{i: f_i > 0 on no token}| / d_sae", "features that never fired here"},
    {"dense_share", "|{i: f_i > 0 on over 10 % of tokens}| / d_sae",
     "features that fire everywhere"},
    {"ce_clean", "mean -log p(next token)", "cross entropy of the model itself, nats"},
    {"ce_sae", "the same with y_hat in place of y", "cross entropy on the reconstruction, nats"},
    {"ce_increase", "ce_sae - ce_clean", "what the reconstruction costs, nats"},
    {"ce_increase_error", "sd over contexts of their ce_increase / sqrt(contexts)",
     "standard error of ce_increase"},
    {"ce_zero", "the same with 0 in place of y", "cross entropy under zero ablation, nats"},
    {"ce_mean", "the same with m in place of y", "cross entropy under mean ablation, nats"},
    {"ce_loss_recovered", "(ce_zero - ce_sae) / (ce_zero - ce_clean)",
     "1: as good as the model itself, 0: as bad as zero ablation"},
    {"ce_loss_recovered_mean", "(ce_mean - ce_sae) / (ce_mean - ce_clean)",
     "the same against mean ablation, which is harder to beat"},
    {"kl_sae", "mean KL(p_clean || p_sae)", "divergence of the predictions, nats"},
    {"kl_zero", "mean KL(p_clean || p_zero)", "the same under zero ablation, nats"},
    {"kl_score", "(kl_zero - kl_sae) / kl_zero", "1: the predictions are unchanged"},
};

// Sums over tokens, in the order of the columns that Add makes.
enum Sum {
  kResidual,  // |y - y_hat|^2
  kVariance,  // |y - m|^2
  kRatio,     // |y - y_hat|^2 / |y - m|^2
  kCosine,    // cos(y, y_hat)
  kLengths,   // |y_hat| / |y|
  kOutput,    // |y_hat|^2
  kProduct,   // y . y_hat
  kSums,
};

constexpr int kL0Bins = 24;             // 0, 1, 2 to 3, 4 to 7 ...
constexpr int kActivationBins = 40;     // by factors of 2, from 2^-20 to 2^20
constexpr int kActivationLowest = -20;  // log2 of the first edge
constexpr double kDense = 0.1;
constexpr double kTiny = 1e-30;

int Log2Bin(double value, int lowest, int bins) {
  if (!(value > 0)) return 0;
  return std::clamp(std::ilogb(value) - lowest, 0, bins - 1);
}

// Densities by half decades, from 1e-8 to 1.
MetricHistogram DensityHistogram(const torch::Tensor& fired, uint64_t n_tokens) {
  constexpr int kBins = 16;
  MetricHistogram histogram;
  for (int i = 0; i <= kBins; ++i) histogram.edges.push_back(std::pow(10.0, -8 + 0.5 * i));
  histogram.counts.assign(kBins, 0);
  const int64_t* counts = fired.data_ptr<int64_t>();
  for (int64_t f = 0; f < fired.numel(); ++f) {
    if (counts[f] == 0) continue;
    const double density = static_cast<double>(counts[f]) / static_cast<double>(n_tokens);
    const auto bin = static_cast<int>(std::floor((std::log10(density) + 8) / 0.5));
    ++histogram.counts[std::clamp(bin, 0, kBins - 1)];
  }
  return histogram;
}

double Share(double part, double whole) { return std::abs(whole) > kTiny ? part / whole : 0; }

double TotalCrossEntropy(absl::Span<const PredictionSums> sums) {
  double total = 0;
  for (const PredictionSums& s : sums) total += s.cross_entropy;
  return total;
}

double TotalKl(absl::Span<const PredictionSums> sums) {
  double total = 0;
  for (const PredictionSums& s : sums) total += s.kl;
  return total;
}

}  // namespace

absl::Span<const MetricDefinition> EvaluationMetricDefinitions() { return kDefinitions; }

ReconstructionMetrics::ReconstructionMetrics(int64_t d_sae, torch::Tensor mean)
    : d_sae_(d_sae),
      mean_(std::move(mean)),
      sums_(kSums, 0),
      fired_(torch::zeros({d_sae}, torch::kInt64)),
      l0_counts_(kL0Bins, 0),
      activation_counts_(kActivationBins, 0) {}

void ReconstructionMetrics::Add(const torch::Tensor& y, const torch::Tensor& y_hat,
                                const SparseRows& acts) {
  const int64_t n = y.size(0);
  // Few rows at a time: the copies in double precision then stay in the cache.
  const int64_t rows_at_once = y.device().is_cpu() ? 256 : std::max<int64_t>(n, 1);
  torch::Tensor sums = torch::zeros({kSums}, mean_.options());
  for (int64_t begin = 0; begin < n; begin += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, n - begin);
    const torch::Tensor a = y.narrow(0, begin, rows).to(torch::kFloat64);
    const torch::Tensor b = y_hat.narrow(0, begin, rows).to(torch::kFloat64);
    const torch::Tensor residual = (a - b).square().sum(1);
    const torch::Tensor variance = (a - mean_).square().sum(1);
    const torch::Tensor product = (a * b).sum(1);
    const torch::Tensor length_a = a.norm(2, 1);
    const torch::Tensor length_b = b.norm(2, 1);
    sums += torch::stack({residual, variance, residual / variance.clamp_min(kTiny),
                          product / (length_a * length_b).clamp_min(kTiny),
                          length_b / length_a.clamp_min(kTiny), length_b.square(), product})
                .sum(1);
  }
  sums = sums.cpu();
  for (int i = 0; i < kSums; ++i) sums_[i] += sums.data_ptr<double>()[i];
  n_ += n;

  const SparseRows host = acts.To(torch::kCPU);
  const int64_t* offsets = host.row_offsets.data_ptr<int64_t>();
  for (int64_t row = 0; row < n; ++row) {
    // 0 has the first bin, 1 the second, 2 and 3 the third.
    const int64_t l0 = offsets[row + 1] - offsets[row];
    ++l0_counts_[l0 == 0 ? 0 : std::min(1 + std::ilogb(static_cast<double>(l0)), kL0Bins - 1)];
  }
  const int32_t* indices = host.indices.data_ptr<int32_t>();
  const float* values = host.values.data_ptr<float>();
  int64_t* fired = fired_.data_ptr<int64_t>();
  double l1 = 0;
  for (int64_t i = 0; i < host.nnz(); ++i) {
    ++fired[indices[i]];
    l1 += values[i];
    ++activation_counts_[Log2Bin(values[i], kActivationLowest, kActivationBins)];
  }
  l1_ += l1;
}

void ReconstructionMetrics::Report(EvaluationResult* result) const {
  const auto n = static_cast<double>(n_);
  const auto d = static_cast<double>(mean_.numel());
  result->n_tokens = n_;
  auto& metrics = result->metrics;
  metrics["mse"] = sums_[kResidual] / (n * d);
  metrics["fvu"] = Share(sums_[kResidual], sums_[kVariance]);
  metrics["explained_variance"] = 1 - metrics["fvu"];
  metrics["explained_variance_legacy"] = 1 - sums_[kRatio] / n;
  metrics["cosine_similarity"] = sums_[kCosine] / n;
  metrics["l2_ratio"] = sums_[kLengths] / n;
  metrics["reconstruction_bias"] = Share(sums_[kOutput], sums_[kProduct]);
  metrics["l0"] = static_cast<double>(fired_.sum().item<int64_t>()) / n;
  metrics["l1"] = l1_ / n;
  const auto d_sae = static_cast<double>(d_sae_);
  metrics["dead_share"] = static_cast<double>((fired_ == 0).sum().item<int64_t>()) / d_sae;
  metrics["dense_share"] = static_cast<double>((fired_ > kDense * n).sum().item<int64_t>()) / d_sae;

  MetricHistogram l0;
  l0.edges = {0, 1};
  for (int i = 1; i < kL0Bins; ++i) l0.edges.push_back(std::ldexp(1.0, i));
  l0.counts = l0_counts_;
  result->histograms["l0"] = std::move(l0);
  MetricHistogram activation;
  for (int i = 0; i <= kActivationBins; ++i) {
    activation.edges.push_back(std::ldexp(1.0, kActivationLowest + i));
  }
  activation.counts = activation_counts_;
  result->histograms["activation"] = std::move(activation);
  result->histograms["density"] = DensityHistogram(fired_, n_);
}

PredictionSums MeasurePredictions(const torch::Tensor& logits, const torch::Tensor& rows,
                                  const torch::Tensor& targets, const torch::Tensor& clean) {
  constexpr int64_t kRowsAtOnce = 64;
  PredictionSums sums;
  for (int64_t begin = 0; begin < rows.numel(); begin += kRowsAtOnce) {
    const int64_t n = std::min(kRowsAtOnce, rows.numel() - begin);
    const torch::Tensor some = rows.narrow(0, begin, n);
    const torch::Tensor log_p = torch::log_softmax(logits.index_select(0, some), 1);
    const torch::Tensor next = targets.narrow(0, begin, n).unsqueeze(1);
    sums.cross_entropy -= log_p.gather(1, next).to(torch::kFloat64).sum().item<double>();
    if (!clean.defined()) continue;
    const torch::Tensor log_clean = torch::log_softmax(clean.index_select(0, some), 1);
    sums.kl +=
        (log_clean.exp() * (log_clean - log_p)).sum(1, false, torch::kFloat64).sum().item<double>();
  }
  return sums;
}

void ReportPredictions(absl::Span<const uint64_t> predicted, absl::Span<const PredictionSums> clean,
                       absl::Span<const PredictionSums> sae, absl::Span<const PredictionSums> zero,
                       absl::Span<const PredictionSums> mean_ablated, EvaluationResult* result) {
  double n = 0;
  for (const uint64_t count : predicted) n += static_cast<double>(count);
  result->n_predicted = static_cast<uint64_t>(n);
  if (n == 0) return;
  auto& metrics = result->metrics;
  const double ce_clean = TotalCrossEntropy(clean) / n;
  const double ce_sae = TotalCrossEntropy(sae) / n;
  metrics["ce_clean"] = ce_clean;
  metrics["ce_sae"] = ce_sae;
  metrics["ce_increase"] = ce_sae - ce_clean;
  metrics["kl_sae"] = TotalKl(sae) / n;

  double sum = 0;
  double squares = 0;
  double contexts = 0;
  for (size_t i = 0; i < predicted.size(); ++i) {
    if (predicted[i] == 0) continue;
    const double increase =
        (sae[i].cross_entropy - clean[i].cross_entropy) / static_cast<double>(predicted[i]);
    sum += increase;
    squares += increase * increase;
    ++contexts;
  }
  if (contexts > 1) {
    const double variance = std::max(0.0, (squares - sum * sum / contexts) / (contexts - 1));
    metrics["ce_increase_error"] = std::sqrt(variance / contexts);
  }
  if (!zero.empty()) {
    const double ce_zero = TotalCrossEntropy(zero) / n;
    const double kl_zero = TotalKl(zero) / n;
    metrics["ce_zero"] = ce_zero;
    metrics["kl_zero"] = kl_zero;
    metrics["ce_loss_recovered"] = Share(ce_zero - ce_sae, ce_zero - ce_clean);
    metrics["kl_score"] = Share(kl_zero - metrics["kl_sae"], kl_zero);
  }
  if (!mean_ablated.empty()) {
    const double ce_mean = TotalCrossEntropy(mean_ablated) / n;
    metrics["ce_mean"] = ce_mean;
    metrics["ce_loss_recovered_mean"] = Share(ce_mean - ce_sae, ce_mean - ce_clean);
  }
}

}  // namespace featurescope
