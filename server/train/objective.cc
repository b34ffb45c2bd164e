#include "server/train/objective.h"

#include <utility>

namespace featurescope {

void Objective::Begin(const StepSettings& settings, const torch::Tensor& decoder_norms) {
  settings_ = settings;
  decoder_norms_ = decoder_norms;
  parts_.clear();
  norm_gradient_ = torch::Tensor();
  uniform_dz_ = torch::Tensor();
  penalty_ = 0;
  l1_ = 0;
}

SparseRows Objective::TakeSelected() {
  SparseRows all = Concatenate(parts_);
  parts_.clear();
  return all;
}

bool Objective::has_penalty() const {
  return spec_.sparsity_penalty == SparsityPenalty::kL1 ||
         spec_.sparsity_penalty == SparsityPenalty::kTanh;
}

// What the penalty, summed over features and tokens, is multiplied by besides its coefficient.
double Objective::PenaltyFactor() const {
  switch (spec_.sparsity_scale) {
    case SparsityScale::kSumFeatures:
      return 1 / n_tokens();
    case SparsityScale::kMeanAll:
      return 1 / (n_tokens() * static_cast<double>(spec_.d_sae));
    case SparsityScale::kSumAll:
      break;
  }
  return 1;
}

// phi(f n) with phi(t) = t or tanh(s t); its gradients are phi' n by f and phi' f by n.
void Objective::AddPenalty(const Units& units, const torch::Tensor& acts, torch::Tensor& d_acts) {
  l1_ += acts.sum(torch::kFloat64).item<double>();
  if (!has_penalty()) return;
  const double factor = spec_.l1_coefficient * settings_.sparsity * PenaltyFactor();
  const bool weighted = *spec_.l1_weighted_by_decoder_norm;
  const bool is_tanh = spec_.sparsity_penalty == SparsityPenalty::kTanh;
  if (!weighted && !is_tanh) {
    penalty_ = l1_;
    d_acts.add_(factor);
    return;
  }
  const torch::Tensor norms = weighted ? units.Of(decoder_norms_) : torch::Tensor();
  torch::Tensor slope;  // phi', undefined: 1
  torch::Tensor value = weighted ? acts * norms : acts;
  if (is_tanh) {
    value = (value * spec_.tanh_scale).tanh_();
    slope = (1 - value * value).mul_(spec_.tanh_scale);
  }
  penalty_ += value.sum(torch::kFloat64).item<double>();
  if (!weighted) {
    d_acts.add_(slope, factor);
    return;
  }
  d_acts.add_(slope.defined() ? norms * slope : norms, factor);
  if (!norm_gradient_.defined()) norm_gradient_ = torch::zeros_like(decoder_norms_);
  units.AddSums((slope.defined() ? acts * slope : acts) * factor, norm_gradient_);
}

void Objective::Finish(const BatchSums& /*sums*/, Gradients& /*gradients*/, StepResult* result) {
  result->l1 = l1_ / n_tokens();
  if (!has_penalty()) return;
  // Reported per token, or as the mean of all where the penalty is that.
  result->sparsity_loss = penalty_ * PenaltyFactor();
  result->loss += spec_.l1_coefficient * settings_.sparsity * result->sparsity_loss;
}

std::unique_ptr<Objective> MakeObjective(const TrainingSpec& spec, const TrainState& state) {
  switch (TraitsOf(spec).family) {
    case ActivationFamily::kTopK:
      return MakeTopKObjective(spec, state);
    case ActivationFamily::kBatchTopK:
    case ActivationFamily::kMatryoshka:
      return MakeBatchTopKObjective(spec, state);
    case ActivationFamily::kJumpRelu:
      return MakeJumpReluObjective(spec, state);
    case ActivationFamily::kGated:
      return MakeGatedObjective(spec, state);
    case ActivationFamily::kRelu:
      break;
  }
  return MakeReluObjective(spec, state);
}

}  // namespace featurescope
