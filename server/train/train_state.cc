#include "server/train/train_state.h"

#include <utility>

namespace featurescope {

Trained MakeTrained(torch::Tensor value) {
  Trained trained;
  trained.m = torch::zeros_like(value);
  trained.v = torch::zeros_like(value);
  trained.value = std::move(value);
  return trained;
}

TrainState InitialState(const TrainingSpec& spec, int64_t d_in, torch::Device device) {
  const double row_norm = spec.architecture == "standard" ? 0.1 : 1.0;
  at::Generator generator = at::detail::createCPUGenerator(spec.seed);
  torch::Tensor W_dec = torch::empty({spec.d_sae, d_in});
  W_dec.normal_(0, 1, generator);
  W_dec.mul_(row_norm / W_dec.norm(2, {1}, /*keepdim=*/true).clamp_min_(1e-12));
  W_dec = W_dec.to(device);
  TrainState state;
  state.W_enc = MakeTrained(W_dec.clone());
  state.b_enc = MakeTrained(torch::zeros({spec.d_sae}, W_dec.options()));
  state.b_dec = MakeTrained(torch::zeros({d_in}, W_dec.options()));
  state.W_dec = MakeTrained(std::move(W_dec));
  state.tokens_since_fired = torch::zeros({spec.d_sae}, torch::kInt64);
  return state;
}

torch::Tensor GeometricMedian(const torch::Tensor& x) {
  constexpr int kRounds = 100;
  constexpr float kEnough = 1e-5F;
  torch::Tensor guess = x.mean(0);  // [d]
  for (int round = 0; round < kRounds; ++round) {
    torch::Tensor weights = (x - guess).norm(2, {1}).clamp_min_(1e-12).reciprocal_();  // [n]
    weights.div_(weights.sum());
    const torch::Tensor next = torch::mv(x.t(), weights);
    const bool enough = (next - guess).norm().item<float>() < kEnough;
    guess = next;
    if (enough) break;
  }
  return guess;
}

torch::Tensor InitialDecoderBias(DecoderBiasInit init, const torch::Tensor& x) {
  switch (init) {
    case DecoderBiasInit::kGeometricMedian:
      return GeometricMedian(x);
    case DecoderBiasInit::kMean:
      return x.mean(0);
    case DecoderBiasInit::kZeros:
      break;
  }
  return torch::zeros({x.size(1)}, x.options());
}

SaeParameters ExportParameters(const TrainState& state, double input_scale) {
  return {state.W_enc.value.t().contiguous(), state.b_enc.value / input_scale,
          state.W_dec.value.clone(), state.b_dec.value / input_scale};
}

}  // namespace featurescope
