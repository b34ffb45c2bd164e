// BatchTopK SAE: k features of a token on average. Training keeps the k n largest of a batch of n
// tokens; afterwards one threshold, tracked while training, stands in for the batch.
//
//   score        = relu(hidden_pre)           times |W_dec row|: if rescale_acts_by_decoder_norm
//   feature_acts = score * (score > threshold)           or, with whole_batch,
//   feature_acts = score * (score among the k n largest of all n rows of one call)
//
// Source: Bussmann et al. 2024, arXiv:2412.06410. Matryoshka: Bussmann et al. 2025,
// arXiv:2503.17547; nested groups matter to training only.
#include <algorithm>
#include <functional>
#include <numeric>

#include "server/base/status.h"
#include "server/sae/architectures.h"
#include "server/sae/threshold_select.h"

namespace featurescope {
namespace {

// The `keep` largest of `entries` (positive, on any device); of equal ones the earlier.
SparseRows LargestEntries(const SparseRows& entries, int64_t keep) {
  if (entries.nnz() <= keep) return entries;
  const SparseRows cpu = entries.To(torch::kCPU);
  const float* values = cpu.values.data_ptr<float>();
  std::vector<float> sorted(values, values + cpu.nnz());
  std::nth_element(sorted.begin(), sorted.begin() + (keep - 1), sorted.end(), std::greater<>());
  const float last = sorted[keep - 1];
  int64_t of_the_last =
      keep - std::count_if(values, values + cpu.nnz(), [last](float v) { return v > last; });
  SparseRows kept;
  kept.n_cols = entries.n_cols;
  kept.row_offsets = torch::zeros({cpu.n_rows() + 1}, torch::kInt64);
  kept.indices = torch::empty({keep}, torch::kInt32);
  kept.values = torch::empty({keep}, torch::kFloat32);
  const int64_t* offsets = cpu.row_offsets.data_ptr<int64_t>();
  const int32_t* indices = cpu.indices.data_ptr<int32_t>();
  int64_t at = 0;
  for (int64_t row = 0; row < cpu.n_rows(); ++row) {
    for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
      if (values[e] < last || (values[e] == last && of_the_last-- <= 0)) continue;
      kept.indices.data_ptr<int32_t>()[at] = indices[e];
      kept.values.data_ptr<float>()[at++] = values[e];
    }
    kept.row_offsets.data_ptr<int64_t>()[row + 1] = at;
  }
  return kept.To(entries.device());
}

class BatchTopKSae : public Sae {
 public:
  BatchTopKSae(SaeConfig config, SaeParameters parameters)
      : Sae(std::move(config), std::move(parameters)), bias_(parameters_.b_enc) {
    if (decoder_norms_.defined()) bias_ = bias_ * decoder_norms_;
    if (parameters_.threshold.defined()) {
      select_ = ThresholdSelect(bias_, parameters_.threshold.expand({config_.d_sae}));
    }
  }

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    if (decoder_norms_.defined()) hidden_pre.mul_(decoder_norms_);
    return config_.whole_batch ? PositiveEntries(hidden_pre, bias_) : select_(hidden_pre);
  }

  SparseRows ActivateRows(const torch::Tensor& x) const override {
    if (!config_.whole_batch) return Sae::ActivateRows(x);
    // What is not among the largest so far will not be among them at the end.
    const int64_t keep = config_.k * x.size(0);
    std::vector<SparseRows> parts;
    int64_t entries = 0;
    ForEachPiece(x, [&](torch::Tensor& hidden_pre) {
      parts.push_back(LargestEntries(Activate(hidden_pre), keep));
      entries += parts.back().nnz();
      if (entries > 2 * keep) {
        parts = {LargestEntries(Concatenate(parts), keep)};
        entries = parts[0].nnz();
      }
    });
    return LargestEntries(Concatenate(parts), keep);
  }

  torch::Tensor ActivateFeatures(const torch::Tensor& x,
                                 const torch::Tensor& features) const override {
    if (config_.whole_batch) return ActivateRows(x).ToDense().index_select(1, features);
    torch::Tensor projected = Project(x, features);
    if (decoder_norms_.defined()) projected.mul_(decoder_norms_.index_select(0, features));
    return select_.Dense(projected, features);
  }

 private:
  torch::Tensor bias_;  // of the scores
  ThresholdSelect select_;
};

absl::Status CheckSelection(const SaeConfig& config, const SaeParameters& parameters) {
  if (config.whole_batch && (config.k < 1 || config.k > config.d_sae)) {
    return InvalidArgument("k is ", config.k, ", out of range [1, ", config.d_sae, "]");
  }
  // A threshold that training never reached reads as ReLU: hundreds of features that are not meant.
  if (!config.whole_batch && !(parameters.threshold.item<float>() > 0)) {
    return InvalidArgument("threshold is ", parameters.threshold.item<float>(),
                           ", as training leaves it that has not tracked one yet; give one, or "
                           "select over the whole batch");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeBatchTopKSae(SaeConfig config, SaeParameters parameters) {
  if (!config.group_sizes.empty()) {
    return InvalidArgument("group_sizes are for matryoshka_batchtopk, not for batchtopk");
  }
  RETURN_IF_ERROR(CheckSelection(config, parameters));
  return std::make_shared<BatchTopKSae>(std::move(config), std::move(parameters));
}

absl::StatusOr<std::shared_ptr<Sae>> MakeMatryoshkaSae(SaeConfig config, SaeParameters parameters) {
  int64_t sum = 0;
  for (const int64_t size : config.group_sizes) {
    if (size < 1 || size > config.d_sae - sum) {
      return InvalidArgument("group_sizes has ", size, "; sizes are positive and add up to d_sae ",
                             config.d_sae);
    }
    sum += size;
  }
  if (sum != config.d_sae) {
    return InvalidArgument("group_sizes add up to ", sum, ", not to d_sae ", config.d_sae);
  }
  RETURN_IF_ERROR(CheckSelection(config, parameters));
  return std::make_shared<BatchTopKSae>(std::move(config), std::move(parameters));
}

}  // namespace featurescope
