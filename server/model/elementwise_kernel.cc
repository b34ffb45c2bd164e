#include "server/model/elementwise_kernel.h"

#include <cmath>

#include "server/model/vector_math.h"

namespace featurescope {
namespace {

FS_INLINE float SumOf(const float* x, int64_t d) {
  Vec sums = {};
  Vec v;
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    Load(x + i, v);
    sums += v;
  }
  float sum = Sum(sums);
  for (; i < d; ++i) sum += x[i];
  return sum;
}

// The sum of (x - mean)^2.
FS_INLINE float SquaresOf(const float* x, float mean, int64_t d) {
  Vec sums = {};
  Vec v;
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    Load(x + i, v);
    v -= mean;
    sums += v * v;
  }
  float sum = Sum(sums);
  for (; i < d; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

FS_INLINE void LayerNormRowsLoop(const float* x, const float* weight, const float* bias, float eps,
                                 int64_t n_rows, int64_t d, float* out) {
  for (int64_t row = 0; row < n_rows; ++row, x += d, out += d) {
    const float mean = SumOf(x, d) / static_cast<float>(d);
    const float variance = SquaresOf(x, mean, d) / static_cast<float>(d);
    const float scale = 1.0f / std::sqrt(variance + eps);
    for (int64_t i = 0; i < d; ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  }
}

FS_INLINE void RmsNormRowsLoop(const float* x, const float* weight, float eps, int64_t n_rows,
                               int64_t d, float* out) {
  for (int64_t row = 0; row < n_rows; ++row, x += d, out += d) {
    const float scale = 1.0f / std::sqrt(SquaresOf(x, 0, d) / static_cast<float>(d) + eps);
    if (weight == nullptr) {
      for (int64_t i = 0; i < d; ++i) out[i] = x[i] * scale;
    } else {
      for (int64_t i = 0; i < d; ++i) out[i] = x[i] * scale * weight[i];
    }
  }
}

FS_INLINE void GateVec(float linear, float cubic, Vec& v) {
  // Beyond these the gate is 0 or 1; what is exponentiated stays finite. NaN passes through.
  const Vec reach = 1e4f - Vec{};
  const Vec largest = 87.0f - Vec{};
  Vec w = v > reach ? reach : v;
  w = w < -reach ? -reach : w;
  Vec e = -w * (linear + cubic * (w * w));
  e = e > largest ? largest : e;
  ExpInPlace(e);
  v = v / (e + 1.0f);
}

FS_INLINE void SigmoidGateLoop(float linear, float cubic, int64_t n, const float* factor,
                               float* x) {
  Vec v;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(x + i, v);
    GateVec(linear, cubic, v);
    if (factor != nullptr) {
      Vec f;
      Load(factor + i, f);
      v *= f;
    }
    Store(v, x + i);
  }
  float rest[kLanes] = {};
  std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
  Load(rest, v);
  GateVec(linear, cubic, v);
  Store(v, rest);
  for (int64_t j = i; j < n; ++j) x[j] = rest[j - i] * (factor == nullptr ? 1.0f : factor[j]);
}

FS_INLINE void SoftCapLoop(float cap, int64_t n, float* x) {
  Vec v;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(x + i, v);
    SoftCapVec(cap, v);
    Store(v, x + i);
  }
  float rest[kLanes] = {};
  std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
  Load(rest, v);
  SoftCapVec(cap, v);
  Store(v, rest);
  std::memcpy(x + i, rest, static_cast<size_t>(n - i) * sizeof(float));
}

FS_INLINE void WidenBfloat16Loop(const uint16_t* from, int64_t n, float* to) {
  Vec v;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    LoadBfloat16(from + i, v);
    Store(v, to + i);
  }
  uint16_t rest[kLanes] = {};
  float wide[kLanes];
  std::memcpy(rest, from + i, static_cast<size_t>(n - i) * sizeof(uint16_t));
  LoadBfloat16(rest, v);
  Store(v, wide);
  std::memcpy(to + i, wide, static_cast<size_t>(n - i) * sizeof(float));
}

FS_INLINE void NarrowToBfloat16Loop(const float* from, int64_t n, uint16_t* to) {
  Vec v;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(from + i, v);
    StoreBfloat16(v, to + i);
  }
  float rest[kLanes] = {};
  uint16_t half[kLanes];
  std::memcpy(rest, from + i, static_cast<size_t>(n - i) * sizeof(float));
  Load(rest, v);
  StoreBfloat16(v, half);
  std::memcpy(to + i, half, static_cast<size_t>(n - i) * sizeof(uint16_t));
}

FS_INLINE void RotateHeadsLoop(const float* x, const float* cosine, const float* sine, int64_t r,
                               int64_t n_heads, int64_t d_head, float* out) {
  for (int64_t head = 0; head < n_heads; ++head, x += d_head, out += d_head) {
    for (int64_t i = 0; i < r; ++i) {
      const float a = x[i];
      const float b = x[i + r];
      out[i] = a * cosine[i] - b * sine[i];
      out[i + r] = b * cosine[i] + a * sine[i];
    }
    for (int64_t i = 2 * r; i < d_head; ++i) out[i] = x[i];
  }
}

}  // namespace

FS_FOR_EACH_CPU(LayerNormRows,
                (const float* x, const float* weight, const float* bias, float eps, int64_t n_rows,
                 int64_t d, float* out),
                (x, weight, bias, eps, n_rows, d, out))
FS_FOR_EACH_CPU(RmsNormRows,
                (const float* x, const float* weight, float eps, int64_t n_rows, int64_t d,
                 float* out),
                (x, weight, eps, n_rows, d, out))
FS_FOR_EACH_CPU(SigmoidGate, (float linear, float cubic, int64_t n, const float* factor, float* x),
                (linear, cubic, n, factor, x))
FS_FOR_EACH_CPU(SoftCap, (float cap, int64_t n, float* x), (cap, n, x))
FS_FOR_EACH_CPU(WidenBfloat16, (const uint16_t* from, int64_t n, float* to), (from, n, to))
FS_FOR_EACH_CPU(NarrowToBfloat16, (const float* from, int64_t n, uint16_t* to), (from, n, to))
FS_FOR_EACH_CPU(RotateHeads,
                (const float* x, const float* cosine, const float* sine, int64_t r, int64_t n_heads,
                 int64_t d_head, float* out),
                (x, cosine, sine, r, n_heads, d_head, out))

}  // namespace featurescope
