// The numbers that say how good an SAE is, with their definitions.
//
// The field uses several formulas under one name (SAEBench issue 76, SAELens issue 659), so every
// number has a definition here, and the definitions travel with the numbers to whoever reads them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

// In the formulas: y what the SAE is measured against (its input x; of a transcoder, the value of
// the hook it writes), y_hat its output, f its feature activations; sums and means over the counted
// tokens, m the mean of y over them.
struct MetricDefinition {
  absl::string_view name;
  absl::string_view formula;
  absl::string_view meaning;
};
absl::Span<const MetricDefinition> EvaluationMetricDefinitions();

// Counts per bin: bin i holds edges[i] <= value < edges[i + 1]; the first also what is below, the
// last what is above.
struct MetricHistogram {
  std::vector<double> edges;     // one more than counts
  std::vector<uint64_t> counts;  // of tokens, features or activations
};

struct EvaluationResult {
  uint64_t n_contexts = 0;
  uint64_t n_tokens = 0;     // counted ones
  uint64_t n_predicted = 0;  // tokens whose cross entropy was measured
  std::map<std::string, double> metrics;
  std::map<std::string, MetricHistogram> histograms;  // l0, activation, density
};

// What counted tokens add up to, without the language model. Not thread-safe.
class ReconstructionMetrics {
 public:
  //   mean  float64 [d_out], m: on the device of what is added
  ReconstructionMetrics(int64_t d_sae, torch::Tensor mean);

  //   y, y_hat  float32 [n, d_out];  acts  of the same n tokens
  void Add(const torch::Tensor& y, const torch::Tensor& y_hat, const SparseRows& acts);

  // Writes metrics and histograms.   REQUIRES: at least one token was added.
  void Report(EvaluationResult* result) const;

 private:
  const int64_t d_sae_;
  const torch::Tensor mean_;
  uint64_t n_ = 0;
  std::vector<double> sums_;  // see evaluation_metrics.cc
  double l1_ = 0;
  torch::Tensor fired_;              // int64 [d_sae], tokens on which a feature fired, on the host
  std::vector<uint64_t> l0_counts_;  // tokens by their number of active features, a power of two
                                     // per bin
  std::vector<uint64_t> activation_counts_;  // activations by log2
};

// Cross entropies and divergences of one way to run the model, summed over predicted tokens.
struct PredictionSums {
  double cross_entropy = 0;  // nats
  double kl = 0;             // KL(clean || this), nats
};

// What `logits` [tokens, d_vocab] of some whole contexts, packed, predict of the contexts' next
// tokens, against the same tokens' `clean` log-probabilities (which may be undefined: kl stays 0).
//
//   rows     int64 [predicted], which rows predict;  targets  int64 [predicted], their next tokens
PredictionSums MeasurePredictions(const torch::Tensor& logits, const torch::Tensor& rows,
                                  const torch::Tensor& targets, const torch::Tensor& clean);

// Adds the metrics that come from the model's predictions. Contexts are given one by one, for the
// standard error.
//
//   clean, sae, zero, mean_ablated  one entry a context; the last two may be empty: not measured
void ReportPredictions(absl::Span<const uint64_t> predicted, absl::Span<const PredictionSums> clean,
                       absl::Span<const PredictionSums> sae, absl::Span<const PredictionSums> zero,
                       absl::Span<const PredictionSums> mean_ablated, EvaluationResult* result);

}  // namespace featurescope
