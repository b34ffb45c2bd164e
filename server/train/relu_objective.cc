// ReLU: standard SAEs and transcoders.
//
//   acts = relu(z),  loss = |y - y_hat|^2 + c sum_f penalty(acts_f |W_dec_f|)
//
// Sources: Bricken et al. 2023, "Towards Monosemanticity"; the weight by the decoder's norm:
// Anthropic, "Circuits Updates - April 2024".
#include "server/train/objective.h"

namespace featurescope {
namespace {

class ReluObjective : public Objective {
 public:
  using Objective::Objective;

  bool needs_decoder_norms() const override {
    return has_penalty() && *spec_.l1_weighted_by_decoder_norm;
  }

  void SelectRows(torch::Tensor& pre) override {
    parts_.push_back(PositiveEntries(pre, state_.b_enc.value));
  }

  void Activate(Units& units) override { units.acts = units.sparse() ? units.z : units.z.relu_(); }

  void Backward(Units& units, Gradients& /*gradients*/) override {
    AddPenalty(units, units.acts, units.dots);
    units.dz = units.dots;
    if (!units.sparse()) units.dz.mul_(units.acts > 0);
  }
};

}  // namespace

std::unique_ptr<Objective> MakeReluObjective(const TrainingSpec& spec, const TrainState& state) {
  return std::make_unique<ReluObjective>(spec, state);
}

}  // namespace featurescope
