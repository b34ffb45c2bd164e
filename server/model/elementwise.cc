#include "server/model/elementwise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "server/model/elementwise_kernel.h"
#include "server/tensor/parallel.h"

namespace featurescope {
namespace {

constexpr int64_t kPiece = 4096;  // values converted at a time: in the first-level cache

// Rows for one thread at least: less is not worth waking it.
int64_t RowGrain(int64_t d) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(d, 1)); }

// Whether `x` [n, ...] lies on the CPU in a dtype that the loops know, each row without gaps.
bool HasPlainRows(const torch::Tensor& x) {
  if (!x.device().is_cpu() ||
      (x.scalar_type() != torch::kFloat32 && x.scalar_type() != torch::kBFloat16)) {
    return false;
  }
  int64_t stride = 1;
  for (int64_t dim = x.dim() - 1; dim > 0; --dim) {
    if (x.size(dim) != 1 && x.stride(dim) != stride) return false;
    stride *= x.size(dim);
  }
  return true;
}

// out[i] = f(i, x[i]) for every row: f(i, from, to) on float32, where `to` may be `from`.
//   REQUIRES: HasPlainRows of both, of equal dtype and sizes.
template <typename F>
void ForEachRow(const torch::Tensor& x, const torch::Tensor& out, const F& f) {
  const int64_t n = x.size(0);
  const int64_t width = n == 0 ? 0 : x.numel() / n;
  const int64_t from_stride = x.stride(0);
  const int64_t to_stride = out.stride(0);
  if (x.scalar_type() == torch::kFloat32) {
    const float* from = x.data_ptr<float>();
    float* to = out.data_ptr<float>();
    ParallelFor(0, n, RowGrain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i, from + i * from_stride, to + i * to_stride);
    });
    return;
  }
  const auto* from = static_cast<const uint16_t*>(x.data_ptr());
  auto* to = static_cast<uint16_t*>(out.data_ptr());
  ParallelFor(0, n, RowGrain(width), [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(width));
    for (int64_t i = begin; i < end; ++i) {
      WidenBfloat16(from + i * from_stride, width, row.data());
      f(i, row.data(), row.data());
      NarrowToBfloat16(row.data(), width, to + i * to_stride);
    }
  });
}

const float* FloatsOf(const torch::Tensor& t) {
  return t.defined() ? t.data_ptr<float>() : nullptr;
}

torch::Tensor RmsNormed(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  const torch::Tensor wide = x.to(torch::kFloat32);
  torch::Tensor out = wide * wide.square().mean(-1, true).add_(eps).rsqrt_();
  if (weight.defined()) out.mul_(weight);
  return out;
}

// x = x * sigmoid(cubic * x^3 + linear * x) * factor on plain, contiguous x and factor.
void GateInPlace(float linear, float cubic, torch::Tensor& x, const torch::Tensor& factor) {
  if (x.scalar_type() == torch::kFloat32) {
    float* values = x.data_ptr<float>();
    const float* factors = FloatsOf(factor);
    ParallelFor(0, x.numel(), 16384, [&](int64_t begin, int64_t end) {
      SigmoidGate(linear, cubic, end - begin, factors == nullptr ? nullptr : factors + begin,
                  values + begin);
    });
    return;
  }
  auto* values = static_cast<uint16_t*>(x.data_ptr());
  const auto* factors =
      factor.defined() ? static_cast<const uint16_t*>(factor.data_ptr()) : nullptr;
  ParallelFor(0, x.numel(), 16384, [&](int64_t begin, int64_t end) {
    float wide[kPiece];
    float wide_factors[kPiece];
    for (int64_t at = begin; at < end; at += kPiece) {
      const int64_t n = std::min(kPiece, end - at);
      WidenBfloat16(values + at, n, wide);
      if (factors != nullptr) WidenBfloat16(factors + at, n, wide_factors);
      SigmoidGate(linear, cubic, n, factors == nullptr ? nullptr : wide_factors, wide);
      NarrowToBfloat16(wide, n, values + at);
    }
  });
}

}  // namespace

void LayerNormInto(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   double eps, torch::Tensor& out) {
  const int64_t d = x.size(1);
  if (!HasPlainRows(x)) {
    out.copy_(torch::layer_norm(x.to(torch::kFloat32), {d}, weight, bias, eps));
    return;
  }
  const float* w = FloatsOf(weight);
  const float* b = FloatsOf(bias);
  ForEachRow(x, out, [&](int64_t, const float* from, float* to) {
    LayerNormRows(from, w, b, static_cast<float>(eps), 1, d, to);
  });
}

void RmsNormInto(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                 torch::Tensor& out) {
  const int64_t d = x.size(1);
  if (!HasPlainRows(x)) {
    out.copy_(RmsNormed(x, weight, eps));
    return;
  }
  const float* w = FloatsOf(weight);
  ForEachRow(x, out, [&](int64_t, const float* from, float* to) {
    RmsNormRows(from, w, static_cast<float>(eps), 1, d, to);
  });
}

torch::Tensor RmsNormedHeads(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                             bool in_place) {
  if (!HasPlainRows(x)) return RmsNormed(x, weight, eps).to(x.scalar_type());
  const torch::Tensor out = in_place ? x : torch::empty(x.sizes(), x.options());
  const float* w = FloatsOf(weight);
  const int64_t n_heads = x.size(1);
  const int64_t d_head = x.size(2);
  ForEachRow(x, out, [&](int64_t, const float* from, float* to) {
    RmsNormRows(from, w, static_cast<float>(eps), n_heads, d_head, to);
  });
  return out;
}

void ActivateInPlace(ActivationKind activation, torch::Tensor& x, const torch::Tensor& factor) {
  // LibTorch's tanh is slower than the matrix product before it.
  const bool gate = activation == ActivationKind::kGeluTanh || activation == ActivationKind::kSilu;
  if (gate && HasPlainRows(x) && x.is_contiguous() &&
      (!factor.defined() || factor.is_contiguous())) {
    // 0.5 (1 + tanh(u)) = sigmoid(2 u)
    const bool gelu = activation == ActivationKind::kGeluTanh;
    const float linear = gelu ? 2 * 0.7978845608028654f : 1.0f;
    const float cubic = gelu ? linear * 0.044715f : 0.0f;
    GateInPlace(linear, cubic, x, factor);
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
  if (factor.defined()) x.mul_(factor);
}

void SoftCapInPlace(double cap, torch::Tensor& x) {
  if (x.scalar_type() == torch::kFloat32 && HasPlainRows(x) && x.is_contiguous()) {
    float* values = x.data_ptr<float>();
    ParallelFor(0, x.numel(), 16384, [&](int64_t begin, int64_t end) {
      SoftCap(static_cast<float>(cap), end - begin, values + begin);
    });
    return;
  }
  x.div_(cap).tanh_().mul_(cap);
}

torch::Tensor Rotated(const torch::Tensor& x, const torch::Tensor& cosine,
                      const torch::Tensor& sine, bool in_place) {
  const int64_t r = cosine.size(1);
  if (HasPlainRows(x)) {
    const torch::Tensor out = in_place ? x : torch::empty(x.sizes(), x.options());
    const float* c = cosine.data_ptr<float>();
    const float* s = sine.data_ptr<float>();
    const int64_t n_heads = x.size(1);
    const int64_t d_head = x.size(2);
    ForEachRow(x, out, [&](int64_t i, const float* from, float* to) {
      RotateHeads(from, c + i * r, s + i * r, r, n_heads, d_head, to);
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
