#include "server/model/elementwise.h"

#include <cmath>

namespace featurescope {

void LayerNormInto(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   double eps, torch::Tensor& out) {
  out.copy_(torch::layer_norm(x, {x.size(1)}, weight, bias, eps));
}

void RmsNormInto(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                 torch::Tensor& out) {
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor scale = wide.square().mean(-1, true).add_(eps).rsqrt_();
  torch::Tensor normed = (wide * scale).to(out.scalar_type());
  if (weight.defined()) normed.mul_(weight);
  out.copy_(normed);
}

torch::Tensor RotaryFrequencies(const RotaryConfig& config) {
  const int64_t n = config.rotary_dims / 2;
  torch::Tensor frequencies = torch::empty({n});
  float* out = frequencies.data_ptr<float>();
  for (int64_t i = 0; i < n; ++i) {
    // In float32, as the reference implementations do.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dims);
    out[i] = 1.0f / std::pow(static_cast<float>(config.theta), exponent);
    if (config.factor == 1.0) continue;
    const double frequency = out[i];
    const double wave_length = 2 * M_PI / frequency;
    const auto original = static_cast<double>(config.original_context);
    if (wave_length > original / config.low_freq_factor) {
      out[i] = static_cast<float>(frequency / config.factor);
    } else if (wave_length >= original / config.high_freq_factor) {
      const double share = (original / wave_length - config.low_freq_factor) /
                           (config.high_freq_factor - config.low_freq_factor);
      out[i] = static_cast<float>((1 - share) * frequency / config.factor + share * frequency);
    }
  }
  return frequencies;
}

torch::Tensor Rotated(const torch::Tensor& x, const torch::Tensor& cosine,
                      const torch::Tensor& sine) {
  const int64_t r = cosine.size(1);
  const torch::Tensor c = cosine.unsqueeze(1).to(x.scalar_type());
  const torch::Tensor s = sine.unsqueeze(1).to(x.scalar_type());
  const torch::Tensor a = x.narrow(2, 0, r);
  const torch::Tensor b = x.narrow(2, r, r);
  torch::Tensor out = torch::empty(x.sizes(), x.options());
  out.narrow(2, 0, r).copy_(a * c - b * s);
  out.narrow(2, r, r).copy_(b * c + a * s);
  const int64_t rest = x.size(2) - 2 * r;
  if (rest > 0) out.narrow(2, 2 * r, rest).copy_(x.narrow(2, 2 * r, rest));
  return out;
}

}  // namespace featurescope
