// TopK: the k largest positive hidden_pre of each token, or hidden_pre |W_dec row|.
//
// Source: Gao et al. 2024, arXiv:2406.04093.
#include <algorithm>

#include "server/tensor/sparse_ops.h"
#include "server/train/objective.h"

namespace featurescope {
namespace {

class TopKObjective : public Objective {
 public:
  using Objective::Objective;

  bool needs_decoder_norms() const override { return spec_.select_by_decoder_norm; }
  bool can_be_dense() const override { return false; }

  void SelectRows(torch::Tensor& pre) override {
    const torch::Tensor& bias = state_.b_enc.value;
    if (!spec_.select_by_decoder_norm) {
      parts_.push_back(TopKPositive(pre, settings_.k, bias));
      return;
    }
    pre.mul_(decoder_norms_);
    parts_.push_back(TopKPositive(pre, settings_.k, bias * decoder_norms_));
  }

  SparseRows TakeSelected() override {
    SparseRows entries = Objective::TakeSelected();
    minimum_ = MeanOfRowMinima(entries);
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
  static double MeanOfRowMinima(const SparseRows& entries) {
    const SparseRows cpu = entries.To(torch::kCPU);
    const int64_t* offsets = cpu.row_offsets.data_ptr<int64_t>();
    const float* values = cpu.values.data_ptr<float>();
    double sum = 0;
    int64_t rows = 0;
    for (int64_t row = 0; row < cpu.n_rows(); ++row) {
      if (offsets[row] == offsets[row + 1]) continue;
      sum += *std::min_element(values + offsets[row], values + offsets[row + 1]);
      ++rows;
    }
    return rows == 0 ? 0 : sum / static_cast<double>(rows);
  }

  double minimum_ = 0;
};

}  // namespace

std::unique_ptr<Objective> MakeTopKObjective(const TrainingSpec& spec, const TrainState& state) {
  return std::make_unique<TopKObjective>(spec, state);
}

}  // namespace featurescope
