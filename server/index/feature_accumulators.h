// What is known of every feature so far: statistics, histogram and examples, in memory that does
// not grow with the corpus.
//
// Accumulators of disjoint parts of a corpus merge into those of the whole: counts, histograms and
// examples exactly, sums up to rounding.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/index/checkpoint_bytes.h"
#include "server/index/examples.h"
#include "server/index/log_histogram.h"

namespace featurescope {

// Sums of powers of the activations' distance from `shift`, the first of them: raw sums would lose
// the higher moments of features that vary little.
struct PowerSums {
  uint64_t n = 0;
  double shift = 0;
  double sum1 = 0;
  double sum2 = 0;
  double sum3 = 0;
  double sum4 = 0;

  void Add(double value) {
    if (n++ == 0) shift = value;
    const double d = value - shift;
    const double d2 = d * d;
    sum1 += d;
    sum2 += d2;
    sum3 += d2 * d;
    sum4 += d2 * d2;
  }
  void Merge(const PowerSums& other);
};

struct Moments {
  double mean = 0;
  double std = 0;       // of the population: divided by n
  double skewness = 0;  // 0 where std is
  double kurtosis = 0;  // excess; 0 where std is
};
Moments MomentsOf(const PowerSums& sums);

struct AccumulatorOptions {
  uint32_t top_examples = 20;
  int n_strata = 32;
  uint32_t per_stratum = 6;  // 0: no samples
  uint32_t window = 32;      // tokens on each side
  uint64_t seed = 0;
  friend bool operator==(const AccumulatorOptions&, const AccumulatorOptions&) = default;
};

// One feature that fired at least once.
struct FeatureAccumulator {
  explicit FeatureAccumulator(const AccumulatorOptions& options)
      : top(options.top_examples), samples(options.n_strata, options.per_stratum) {}

  PowerSums sums;
  float max = 0;
  LogHistogram histogram;
  TopExamples top;  // one per context: the strongest position
  StratifiedSamples samples;
};

// The activations of consecutive contexts, ordered by feature. Views; the owner keeps the data.
struct ActivationsByFeature {
  uint64_t first_context = 0;
  // Context first_context + i is rows context_begin[i] to context_begin[i + 1].
  absl::Span<const int32_t> context_begin;
  // Per row: 0 for a special token, which counts nowhere.
  absl::Span<const uint8_t> counted;
  // Feature f has entries column_offsets[f] to column_offsets[f + 1], by ascending row.
  absl::Span<const int64_t> column_offsets;
  absl::Span<const int32_t> rows;
  absl::Span<const float> values;
};

class FeatureAccumulators {
 public:
  FeatureAccumulators(int64_t d_sae, const AccumulatorOptions& options);

  // Adds a batch, by `threads` threads that take a range of features each. The result does not
  // depend on their number.
  //   errors  InvalidArgument  an activation that is not finite; the message says where
  //   REQUIRES: at most 2^32 - 1 counted tokens in all.
  absl::Status Add(const ActivationsByFeature& batch, int threads);

  // Adds what another part of the corpus gave.
  //   errors  InvalidArgument  of another SAE width, or made with other options
  absl::Status Merge(FeatureAccumulators other);

  int64_t d_sae() const { return static_cast<int64_t>(features_.size()); }
  const AccumulatorOptions& options() const { return options_; }
  // Null: never fired.
  const FeatureAccumulator* feature(int64_t i) const { return features_[i].get(); }
  // Tokens that count, and activations on them.
  uint64_t n_counted_tokens() const { return n_counted_tokens_; }
  uint64_t n_activations() const { return n_activations_; }
  int64_t n_alive() const;

  void Write(CheckpointWriter& writer) const;
  // Replaces all by what Write wrote. False when it does not fit; the accumulators are then
  // unusable.
  bool Read(CheckpointReader& reader);

  // What the accumulators hold now, and the most they can ever hold.
  uint64_t memory_bytes() const;
  static uint64_t MemoryBound(int64_t d_sae, const AccumulatorOptions& options);

 private:
  AccumulatorOptions options_;
  std::vector<std::unique_ptr<FeatureAccumulator>> features_;
  uint64_t n_counted_tokens_ = 0;
  uint64_t n_activations_ = 0;
};

}  // namespace featurescope
