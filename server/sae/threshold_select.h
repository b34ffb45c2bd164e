// Selection by thresholds: the entries of hidden_pre + bias that exceed max(threshold, 0).
//
// The vectorised PositiveEntries finds candidates by a bias that is lowered by the threshold; each
// candidate is then computed anew, as the definition says, and kept or dropped.
#pragma once

#include <vector>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

// The entries of `candidates` with value(row of hidden_pre, column) in place of their own; those
// that are not > 0 are left out. On the CPU.
template <typename F>
SparseRows Revalued(SparseRows candidates, const torch::Tensor& hidden_pre, const F& value) {
  const int64_t n = candidates.n_rows();
  const int64_t m = candidates.n_cols;
  auto* offsets = candidates.row_offsets.data_ptr<int64_t>();
  auto* indices = candidates.indices.data_ptr<int32_t>();
  auto* values = candidates.values.data_ptr<float>();
  const float* dense = hidden_pre.data_ptr<float>();
  std::vector<int64_t> kept(n);
  ParallelFor(0, n, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = dense + i * m;
      int64_t to = offsets[i];
      for (int64_t e = offsets[i]; e < offsets[i + 1]; ++e) {
        const float x = value(row, indices[e]);
        indices[to] = indices[e];
        values[to] = x;
        to += static_cast<int64_t>(x > 0);
      }
      kept[i] = to - offsets[i];
    }
  });
  // Rows move together over what was dropped.
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t from = offsets[i];
    if (from != at) {
      std::copy(indices + from, indices + from + kept[i], indices + at);
      std::copy(values + from, values + from + kept[i], values + at);
    }
    offsets[i] = at;
    at += kept[i];
  }
  offsets[n] = at;
  candidates.indices = candidates.indices.slice(0, 0, at);
  candidates.values = candidates.values.slice(0, 0, at);
  return candidates;
}

class ThresholdSelect {
 public:
  ThresholdSelect() = default;
  // Both float32 [m].
  ThresholdSelect(const torch::Tensor& bias, const torch::Tensor& threshold)
      : bias_(bias), threshold_(threshold.clamp_min(0).contiguous()) {
    // Rounding must not lose an entry that just exceeds its threshold.
    lowered_bias_ = bias_ - threshold_ + 1e-6 * (bias_.abs() + threshold_);
  }

  // hidden_pre [n, m], float32 contiguous; may be written to.
  SparseRows operator()(torch::Tensor& hidden_pre) const {
    if (!hidden_pre.is_cpu()) {
      hidden_pre.add_(bias_);
      return PositiveEntries(hidden_pre.masked_fill_(hidden_pre <= threshold_, 0));
    }
    const float* bias = bias_.data_ptr<float>();
    const float* threshold = threshold_.data_ptr<float>();
    return Revalued(PositiveEntries(hidden_pre, lowered_bias_), hidden_pre,
                    [bias, threshold](const float* row, int32_t column) {
                      const float x = row[column] + bias[column];
                      return x > threshold[column] ? x : 0.0F;
                    });
  }

  // The same for some columns: `projected` [n, features] without bias; dense.
  torch::Tensor Dense(torch::Tensor projected, const torch::Tensor& features) const {
    projected.add_(bias_.index_select(0, features));
    return projected.masked_fill_(projected <= threshold_.index_select(0, features), 0);
  }

 private:
  torch::Tensor bias_;
  torch::Tensor threshold_;  // >= 0
  torch::Tensor lowered_bias_;
};

}  // namespace featurescope
