// Gated: one path says whether a feature fires, another how much; they share their directions.
//
//   u = x W_enc,  gate = u + b_gate,  magnitude = exp(r_mag) u + b_mag
//   acts = [gate > 0] relu(magnitude)
//   loss = |y - y_hat|^2 + |y - relu(gate) W_dec - b_dec|^2 + c sum_f penalty(relu(gate_f))
//
// The gate learns from the second and third terms alone. One product serves both paths.
//
// Source: Rajamanoharan et al. 2024, arXiv:2404.16014.
#include "server/train/objective.h"

namespace featurescope {
namespace {

class GatedObjective : public Objective {
 public:
  using Objective::Objective;

  bool has_gate() const override { return true; }
  bool needs_decoder_norms() const override {
    return has_penalty() && *spec_.l1_weighted_by_decoder_norm;
  }

  void Begin(const StepSettings& settings, const torch::Tensor& decoder_norms) override {
    Objective::Begin(settings, decoder_norms);
    gain_ = state_.r_mag.value.exp();
  }

  void SelectRows(torch::Tensor& pre) override {
    parts_.push_back(PositiveEntries(pre, state_.b_gate.value));
  }
  const torch::Tensor& selection_bias() const override { return state_.b_gate.value; }

  void Activate(Units& units) override {
    const torch::Tensor u = units.z - units.Of(state_.b_gate.value);
    units.acts = (u * units.Of(gain_)).add_(units.Of(state_.b_mag.value)).relu_();
    if (!units.sparse()) units.acts.mul_(units.z > 0);
    units.gate_acts = units.sparse() ? units.z : units.z.relu_();
    u_ = u;
  }

  int64_t CountSelected(const Units& units) const override {
    return units.gate_acts.ne(0).sum().item<int64_t>();
  }

  void Backward(Units& units, Gradients& gradients) override {
    AddPenalty(units, units.gate_acts, units.gate_dots);
    if (!units.sparse()) units.gate_dots.mul_(units.gate_acts > 0);
    units.AddSums(units.gate_dots, gradients.b_gate);
    const torch::Tensor d_magnitude = units.dots.mul_(units.acts > 0);
    units.AddSums(d_magnitude, gradients.b_mag);
    const torch::Tensor d_u = d_magnitude * units.Of(gain_);
    units.AddSums(d_u * u_, gradients.r_mag);
    units.dz = units.gate_dots.add_(d_u);
    u_ = torch::Tensor();
  }

 private:
  torch::Tensor gain_;  // exp(r_mag), [d_sae]
  torch::Tensor u_;     // of the current piece
};

}  // namespace

std::unique_ptr<Objective> MakeGatedObjective(const TrainingSpec& spec, const TrainState& state) {
  return std::make_unique<GatedObjective>(spec, state);
}

}  // namespace featurescope
