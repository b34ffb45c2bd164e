// BatchTopK: the k n largest hidden_pre (or hidden_pre |W_dec row|) of a batch of n tokens. A
// Matryoshka SAE differs in its decoder's nested groups alone.
//
// No row's selection is known before the last row has been seen. What a step keeps while rows pass
// is what exceeds a bound; the bound begins a little under the last step's smallest activation, and
// rises as soon as more than enough was kept. When too little was kept in the end, the rows are
// selected once more with the bound 0. But for rounding, none of this decides what is selected.
//
// Sources: Bussmann et al. 2024, arXiv:2412.06410; Bussmann et al. 2025, arXiv:2503.17547.
#include <algorithm>

#include "server/tensor/sparse_ops.h"
#include "server/train/objective.h"

namespace featurescope {
namespace {

constexpr double kGuessBelow = 0.85;  // of the last step's smallest activation

class BatchTopKObjective : public Objective {
 public:
  using Objective::Objective;

  bool needs_decoder_norms() const override { return spec_.select_by_decoder_norm; }
  bool can_be_dense() const override { return false; }

  void Begin(const StepSettings& settings, const torch::Tensor& decoder_norms) override {
    Objective::Begin(settings, decoder_norms);
    bias_ = state_.b_enc.value;
    if (spec_.select_by_decoder_norm) bias_ = bias_ * decoder_norms;
    bound_ = guessed_ = kGuessBelow * state_.last_minimum;
    kept_ = 0;
    bound_is_safe_ = false;
  }

  void SelectRows(torch::Tensor& pre) override {
    if (spec_.select_by_decoder_norm) pre.mul_(decoder_norms_);
    SparseRows part = PositiveEntries(pre, bound_ > 0 ? bias_ - bound_ : bias_);
    if (bound_ > 0) part.values.add_(bound_);
    kept_ += part.nnz();
    parts_.push_back(std::move(part));
    if (kept_ > 3 * keep()) RaiseBound();
  }

  bool MustSelectAgain() override {
    if (guessed_ == 0 || bound_is_safe_ || kept_ >= keep()) return false;
    parts_.clear();
    bound_ = guessed_ = 0;
    kept_ = 0;
    return true;
  }

  SparseRows TakeSelected() override {
    SparseRows entries = LargestEntries(Objective::TakeSelected(), keep());
    minimum_ = entries.nnz() == 0 ? 0 : entries.values.min().item<float>();
    if (spec_.select_by_decoder_norm) {
      entries.values.div_(decoder_norms_.index_select(0, entries.indices).clamp_min_(1e-30));
    }
    return entries;
  }

  void Activate(Units& units) override { units.acts = units.z; }

  void Backward(Units& units, Gradients& /*gradients*/) override {
    l1_ += units.acts.sum(torch::kFloat64).item<double>();
    units.dz = units.dots;
  }

  void Finish(const BatchSums& sums, Gradients& gradients, StepResult* result) override {
    Objective::Finish(sums, gradients, result);
    result->threshold = minimum_;
  }

 private:
  int64_t keep() const { return settings_.k * spec_.batch_size; }

  // Drops what cannot be among the largest, since enough others are larger.
  void RaiseBound() {
    parts_ = {LargestEntries(Concatenate(parts_), keep())};
    kept_ = parts_[0].nnz();
    // A little lower than the smallest, because z minus the bound is rounded.
    bound_ = std::max(bound_, parts_[0].values.min().item<double>() * (1 - 1e-6));
    bound_is_safe_ = true;
  }

  torch::Tensor bias_;
  double bound_ = 0;
  double guessed_ = 0;  // the bound that the step began with
  bool bound_is_safe_ = false;
  int64_t kept_ = 0;
  double minimum_ = 0;
};

}  // namespace

std::unique_ptr<Objective> MakeBatchTopKObjective(const TrainingSpec& spec,
                                                  const TrainState& state) {
  return std::make_unique<BatchTopKObjective>(spec, state);
}

}  // namespace featurescope
