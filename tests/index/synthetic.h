// Made-up activations of a corpus, and batches of them as the device would give.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "server/index/feature_accumulators.h"

namespace featurescope {

struct SyntheticCorpus {
  int n_features = 12;
  int n_contexts = 40;
  int context_size = 16;                 // the last context has half of it
  std::vector<std::vector<float>> acts;  // [row][feature]; 0: not active
  std::vector<uint8_t> counted;          // per row

  int n_rows() const { return static_cast<int>(acts.size()); }
  int context_of(int row) const { return row / context_size; }
};

// Feature f fires on about a share 2^-f of the tokens; the last two never. The first token of every
// context is special, and everything fires on it.
inline SyntheticCorpus MakeCorpus(int n_contexts = 40) {
  SyntheticCorpus corpus;
  corpus.n_contexts = n_contexts;
  std::mt19937 random(17);
  std::lognormal_distribution<float> size(0, 1);
  std::uniform_real_distribution<float> uniform(0, 1);
  const int rows = n_contexts * corpus.context_size - corpus.context_size / 2;
  for (int row = 0; row < rows; ++row) {
    std::vector<float>& acts = corpus.acts.emplace_back(corpus.n_features, 0.0f);
    const bool special = row % corpus.context_size == 0;
    corpus.counted.push_back(special ? 0 : 1);
    for (int f = 0; f < corpus.n_features; ++f) {
      if (special) {
        acts[f] = 1000;
      } else if (f < corpus.n_features - 2 && uniform(random) < std::exp2(static_cast<float>(-f))) {
        acts[f] = size(random);
      }
    }
  }
  return corpus;
}

// Keeps the data that a batch's views look at.
struct SyntheticBatch {
  std::vector<int32_t> context_begin = {0};
  std::vector<uint8_t> counted;
  std::vector<int64_t> column_offsets = {0};
  std::vector<int32_t> rows;
  std::vector<float> values;
  ActivationsByFeature view;
};

inline void FillBatch(const SyntheticCorpus& corpus, int first, int n, SyntheticBatch* batch) {
  const int begin = first * corpus.context_size;
  const int end = std::min(corpus.n_rows(), (first + n) * corpus.context_size);
  for (int c = 1; c <= n; ++c) {
    batch->context_begin.push_back(std::min(c * corpus.context_size, end - begin));
  }
  batch->counted.assign(corpus.counted.begin() + begin, corpus.counted.begin() + end);
  for (int f = 0; f < corpus.n_features; ++f) {
    for (int row = begin; row < end; ++row) {
      if (corpus.acts[row][f] == 0) continue;
      batch->rows.push_back(row - begin);
      batch->values.push_back(corpus.acts[row][f]);
    }
    batch->column_offsets.push_back(static_cast<int64_t>(batch->rows.size()));
  }
  batch->view = {static_cast<uint64_t>(first), batch->context_begin, batch->counted,
                 batch->column_offsets,        batch->rows,          batch->values};
}

// Accumulates contexts [begin, end) in batches of `per_batch`.
inline FeatureAccumulators Accumulate(const SyntheticCorpus& corpus,
                                      const AccumulatorOptions& options, int begin, int end,
                                      int per_batch, int threads = 1) {
  FeatureAccumulators features(corpus.n_features, options);
  for (int first = begin; first < end; first += per_batch) {
    SyntheticBatch batch;
    FillBatch(corpus, first, std::min(per_batch, end - first), &batch);
    const absl::Status status = features.Add(batch.view, threads);
    EXPECT_TRUE(status.ok()) << status;
  }
  return features;
}

}  // namespace featurescope
