#include "server/model/elementwise.h"

#include <algorithm>
#include <cmath>

#include "server/model/elementwise_kernel.h"
#include "server/tensor/parallel.h"

namespace featurescope {

namespace {

bool IsFloatOnCpu(const torch::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == torch::kFloat32;
}

// Rows for one thread at least: less is not worth waking it.
int64_t RowGrain(int64_t d) { return std::max<int64_t>(1, 16384 / d); }

}  // namespace

void LayerNormInto(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   double eps, torch::Tensor& out) {
  const int64_t d = x.size(1);
  if (!IsFloatOnCpu(x) || !x.is_contiguous()) {
    out.copy_(torch::layer_norm(x, {d}, weight, bias, eps));
    return;
  }
  const float* from = x.data_ptr<float>();
  const float* w = weight.data_ptr<float>();
  const float* b = bias.data_ptr<float>();
  float* to = out.data_ptr<float>();
  ParallelFor(0, x.size(0), RowGrain(d), [&](int64_t begin, int64_t end) {
    LayerNormRows(from + begin * d, w, b, static_cast<float>(eps), end - begin, d, to + begin * d);
  });
}

void RmsNormInto(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                 torch::Tensor& out) {
  const int64_t d = x.size(1);
  if (!IsFloatOnCpu(x) || !x.is_contiguous()) {
    const torch::Tensor wide = x.to(torch::kFloat32);
    const torch::Tensor scale = wide.square().mean(-1, true).add_(eps).rsqrt_();
    out.copy_(wide * scale);
    if (weight.defined()) out.mul_(weight);
    return;
  }
  const float* from = x.data_ptr<float>();
  const float* w = weight.defined() ? weight.data_ptr<float>() : nullptr;
  float* to = out.data_ptr<float>();
  ParallelFor(0, x.size(0), RowGrain(d), [&](int64_t begin, int64_t end) {
    RmsNormRows(from + begin * d, w, static_cast<float>(eps), end - begin, d, to + begin * d);
  });
}

void ActivateInPlace(ActivationKind activation, torch::Tensor& x) {
  // LibTorch's tanh is slower than the matrix product before it.
  const bool gated = activation == ActivationKind::kGeluTanh || activation == ActivationKind::kSilu;
  if (gated && IsFloatOnCpu(x) && x.is_contiguous()) {
    // 0.5 (1 + tanh(u)) = sigmoid(2 u)
    const bool gelu = activation == ActivationKind::kGeluTanh;
    const float linear = gelu ? 2 * 0.7978845608028654f : 1.0f;
    const float cubic = gelu ? linear * 0.044715f : 0.0f;
    float* values = x.data_ptr<float>();
    ParallelFor(0, x.numel(), 16384, [&](int64_t begin, int64_t end) {
      SigmoidGate(linear, cubic, end - begin, values + begin);
    });
    return;
  }
  switch (activation) {
    case ActivationKind::kRelu:
      at::relu_(x);
      break;
    case ActivationKind::kGeluExact:
      at::gelu_(x, "none");
      break;
    case ActivationKind::kGeluTanh:
      at::gelu_(x, "tanh");
      break;
    case ActivationKind::kSilu:
      at::silu_(x);
      break;
  }
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
                      const torch::Tensor& sine, bool in_place) {
  const int64_t r = cosine.size(1);
  if (IsFloatOnCpu(x) && x.stride(2) == 1 && x.stride(1) == x.size(2)) {
    torch::Tensor out = in_place ? x : torch::empty(x.sizes(), x.options());
    const float* from = x.data_ptr<float>();
    const float* c = cosine.data_ptr<float>();
    const float* s = sine.data_ptr<float>();
    float* to = out.data_ptr<float>();
    ParallelFor(0, x.size(0), RowGrain(x.size(1) * x.size(2)), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        RotateHeads(from + t * x.stride(0), c + t * r, s + t * r, r, x.size(1), x.size(2),
                    to + t * out.stride(0));
      }
    });
    return out;
  }
  const torch::Tensor c = cosine.unsqueeze(1);
  const torch::Tensor s = sine.unsqueeze(1);
  const torch::Tensor a = x.narrow(2, 0, r).to(torch::kFloat32);
  const torch::Tensor b = x.narrow(2, r, r).to(torch::kFloat32);
  torch::Tensor out = torch::empty(x.sizes(), x.options());
  out.narrow(2, 0, r).copy_(a * c - b * s);
  out.narrow(2, r, r).copy_(b * c + a * s);
  const int64_t rest = x.size(2) - 2 * r;
  if (rest > 0) out.narrow(2, 2 * r, rest).copy_(x.narrow(2, 2 * r, rest));
  return out;
}

}  // namespace featurescope
