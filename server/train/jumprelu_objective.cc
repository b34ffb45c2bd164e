// JumpReLU: a trained threshold per feature.
//
//   acts = z [z > theta],  loss = |y - y_hat|^2 + c penalty
//   penalty: L0, or (L0 / target - 1)^2, or that of ReLU
//
// The jump has no useful gradient; a kernel K of width eps around it stands in (straight through):
//
//   d acts / d theta      = -(theta / eps) K((z - theta) / eps)
//   d [z > theta] / d theta =  -(1 / eps) K((z - theta) / eps)      and by z: 0
//
// so units within half a bandwidth below their threshold count besides those that fire. theta is
// held as it is, not as its logarithm, which Adam hardly moves.
//
// Sources: Rajamanoharan et al. 2024, arXiv:2407.14435; the target and the step of activations:
// saprmarks/dictionary_learning, trainers/jumprelu.py; the loss of dead features' hidden_pre:
// Anthropic, "Circuits Updates - January 2025".
#include "server/train/objective.h"

namespace featurescope {
namespace {

// K(u) of each element; may overwrite u.
torch::Tensor Kernel(SteKernel kernel, torch::Tensor u) {
  const torch::Tensor distance = u.abs_();
  const torch::Tensor inside = distance < 0.5;
  switch (kernel) {
    case SteKernel::kTriangle:
      return distance.mul_(-4).add_(2).mul_(inside);
    case SteKernel::kEpanechnikov:
      return distance.square_().mul_(-6).add_(1.5).mul_(inside);
    case SteKernel::kRectangle:
      break;
  }
  return inside.to(torch::kFloat32);
}

class JumpReluObjective : public Objective {
 public:
  using Objective::Objective;

  bool needs_decoder_norms() const override {
    return spec_.pre_act_coefficient > 0 || (has_penalty() && *spec_.l1_weighted_by_decoder_norm);
  }

  void Begin(const StepSettings& settings, const torch::Tensor& decoder_norms) override {
    Objective::Begin(settings, decoder_norms);
    lowest_ = theta() - spec_.bandwidth / 2;
    lowered_bias_ = state_.b_enc.value - lowest_;
    window_ = torch::zeros_like(theta());
    n_firing_ = 0;
  }

  void SelectRows(torch::Tensor& pre) override {
    SparseRows part = PositiveEntries(pre, lowered_bias_);
    part.values.add_(lowest_.index_select(0, part.indices));
    parts_.push_back(std::move(part));
  }

  void Activate(Units& units) override {
    units.acts = units.z.masked_fill(units.z <= units.Of(theta()), 0);
  }

  int64_t CountSelected(const Units& units) const override {
    return units.z.gt(lowest_).sum().item<int64_t>();
  }

  void Backward(Units& units, Gradients& gradients) override {
    const torch::Tensor theta_of = units.Of(theta());
    const torch::Tensor fires = units.z > theta_of;
    AddPenalty(units, units.acts, units.dots);
    const torch::Tensor near = Kernel(spec_.ste_kernel, (units.z - theta_of).div_(spec_.bandwidth));
    units.AddSums((near * units.dots).mul_(theta_of).mul_(-1 / spec_.bandwidth),
                  gradients.threshold);
    if (has_l0()) {
      if (of_activation()) {
        units.AddSums(Kernel(spec_.ste_kernel, (units.acts - theta_of).div_(spec_.bandwidth)),
                      window_);
        n_firing_ += (units.acts > theta_of).sum().item<double>();
      } else {
        units.AddSums(near, window_);
        n_firing_ += fires.sum().item<double>();
      }
    }
    units.dz = units.dots.mul_(fires);
  }

  void Finish(const BatchSums& sums, Gradients& gradients, StepResult* result) override {
    Objective::Finish(sums, gradients, result);
    result->threshold = theta().mean(torch::kFloat64).item<double>();
    if (has_l0()) AddL0(sums, gradients, result);
    if (spec_.pre_act_coefficient > 0) AddPreActLoss(sums, gradients, result);
  }

 private:
  const torch::Tensor& theta() const { return state_.threshold.value; }
  bool has_l0() const { return spec_.sparsity_penalty == SparsityPenalty::kL0; }
  bool of_activation() const { return spec_.l0_step_input == L0StepInput::kActivation; }

  void AddL0(const BatchSums& sums, Gradients& gradients, StepResult* result) {
    if (of_activation()) {  // units that were not looked at have the activation 0
      const torch::Tensor others = -(sums.units_of - n_tokens());
      window_.add_(Kernel(spec_.ste_kernel, -theta() / spec_.bandwidth) * others);
      n_firing_ += others.masked_select(theta() < 0).sum().item<double>();
    }
    const double l0 = n_firing_ / n_tokens();
    const double target = *spec_.target_l0;
    const double off = target > 0 ? l0 / target - 1 : 0;
    result->sparsity_loss = target > 0 ? off * off : l0;
    const double coefficient = spec_.l0_coefficient * settings_.sparsity;
    result->loss += coefficient * result->sparsity_loss;
    const double slope = coefficient * (target > 0 ? 2 * off / target : 1);
    gradients.threshold.add_(window_, -slope / (n_tokens() * spec_.bandwidth));
  }

  // c mean_tokens sum over dead f of relu(theta_f - z_f) |W_dec_f|. A feature that does not fire
  // has z <= theta everywhere, so its part is linear in the mean of x.
  void AddPreActLoss(const BatchSums& sums, Gradients& gradients, StepResult* result) {
    const double c = spec_.pre_act_coefficient;
    torch::Tensor dead = state_.tokens_since_fired.ge(static_cast<int64_t>(spec_.dead_after_tokens))
                             .to(theta().device());
    dead.logical_and_(sums.fired.logical_not());
    const torch::Tensor mean_z =
        torch::mv(state_.W_enc.value, sums.sum_x / n_tokens()).add_(state_.b_enc.value);
    const torch::Tensor below = (theta() - mean_z).mul_(dead);
    result->loss += c * (below * decoder_norms_).sum(torch::kFloat64).item<double>();
    uniform_dz_ = decoder_norms_ * dead * (-c / n_tokens());
    gradients.threshold.add_(decoder_norms_ * dead, c);
    norm_gradient_ = norm_gradient_.defined() ? norm_gradient_ + c * below : c * below;
  }

  torch::Tensor lowest_;        // [d_sae], of z that still gets a gradient
  torch::Tensor lowered_bias_;  // [d_sae]
  torch::Tensor window_;        // [d_sae], sums of the L0 penalty's kernel
  double n_firing_ = 0;
};

}  // namespace

std::unique_ptr<Objective> MakeJumpReluObjective(const TrainingSpec& spec,
                                                 const TrainState& state) {
  return std::make_unique<JumpReluObjective>(spec, state);
}

}  // namespace featurescope
