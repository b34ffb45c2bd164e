// Each loop is written once with GCC vector extensions as an always-inline function and then
// instantiated inside functions of different target attributes.
#include "server/tensor/sparse_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace featurescope {
namespace {

#define FS_INLINE inline __attribute__((always_inline))

// Sixteen floats, and the same at any address. Macros, not functions: a function that returns a
// vector has another calling convention for each instruction set.
using V16 = float __attribute__((vector_size(64)));
struct __attribute__((packed, may_alias)) Unaligned16 {
  V16 v;
};
#define FS_LOAD(p) (reinterpret_cast<const Unaligned16*>(p)->v)
#define FS_AT(p) (reinterpret_cast<Unaligned16*>(p)->v)
constexpr int64_t kLanes = 16;

FS_INLINE float Sum(const V16& v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof(lanes));
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

FS_INLINE float Dot(const float* a, const float* b, int64_t n) {
  V16 sum0 = {};
  V16 sum1 = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sum0 += FS_LOAD(a + i) * FS_LOAD(b + i);
    sum1 += FS_LOAD(a + i + kLanes) * FS_LOAD(b + i + kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) sum0 += FS_LOAD(a + i) * FS_LOAD(b + i);
  float tail = 0;
  for (; i < n; ++i) tail += a[i] * b[i];
  sum0 += sum1;
  return Sum(sum0) + tail;
}

FS_INLINE void Axpy(float a, const float* x, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) FS_AT(out + i) += a * FS_LOAD(x + i);
  for (; i < n; ++i) out[i] += a * x[i];
}

FS_INLINE void Scale(float a, const float* x, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) FS_AT(out + i) = a * FS_LOAD(x + i);
  for (; i < n; ++i) out[i] = a * x[i];
}

// Four rows at a time, while the next four are on their way from memory.
FS_INLINE void AddWeightedRows(const float* W, int64_t d, const int32_t* indices,
                               const float* values, int64_t n, float* out) {
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const float* r0 = W + indices[j] * d;
    const float* r1 = W + indices[j + 1] * d;
    const float* r2 = W + indices[j + 2] * d;
    const float* r3 = W + indices[j + 3] * d;
    const bool more = j + 8 <= n;
    const float* p0 = more ? W + indices[j + 4] * d : r0;
    const float* p1 = more ? W + indices[j + 5] * d : r1;
    const float* p2 = more ? W + indices[j + 6] * d : r2;
    const float* p3 = more ? W + indices[j + 7] * d : r3;
    const float v0 = values[j];
    const float v1 = values[j + 1];
    const float v2 = values[j + 2];
    const float v3 = values[j + 3];
    int64_t i = 0;
    for (; i + kLanes <= d; i += kLanes) {
      __builtin_prefetch(p0 + i);
      __builtin_prefetch(p1 + i);
      __builtin_prefetch(p2 + i);
      __builtin_prefetch(p3 + i);
      FS_AT(out + i) += v0 * FS_LOAD(r0 + i) + v1 * FS_LOAD(r1 + i) +
                        (v2 * FS_LOAD(r2 + i) + v3 * FS_LOAD(r3 + i));
    }
    for (; i < d; ++i) out[i] += v0 * r0[i] + v1 * r1[i] + (v2 * r2[i] + v3 * r3[i]);
  }
  for (; j < n; ++j) Axpy(values[j], W + indices[j] * d, out, d);
}

FS_INLINE void RowDots(const float* W, int64_t d, const int32_t* indices, int64_t n, const float* g,
                       float* out) {
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const float* r0 = W + indices[j] * d;
    const float* r1 = W + indices[j + 1] * d;
    const float* r2 = W + indices[j + 2] * d;
    const float* r3 = W + indices[j + 3] * d;
    V16 s0 = {};
    V16 s1 = {};
    V16 s2 = {};
    V16 s3 = {};
    int64_t i = 0;
    for (; i + kLanes <= d; i += kLanes) {
      const V16 gi = FS_LOAD(g + i);
      s0 += gi * FS_LOAD(r0 + i);
      s1 += gi * FS_LOAD(r1 + i);
      s2 += gi * FS_LOAD(r2 + i);
      s3 += gi * FS_LOAD(r3 + i);
    }
    float t0 = Sum(s0);
    float t1 = Sum(s1);
    float t2 = Sum(s2);
    float t3 = Sum(s3);
    for (; i < d; ++i) {
      t0 += g[i] * r0[i];
      t1 += g[i] * r1[i];
      t2 += g[i] * r2[i];
      t3 += g[i] * r3[i];
    }
    out[j] = t0;
    out[j + 1] = t1;
    out[j + 2] = t2;
    out[j + 3] = t3;
  }
  for (; j < n; ++j) out[j] = Dot(W + indices[j] * d, g, d);
}

FS_INLINE void AdamRow(const AdamStep& s, float* __restrict w, float* __restrict m,
                       float* __restrict v, const float* __restrict gradient, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient == nullptr ? 0.0F : gradient[i] * s.gradient_scale;
    const float mi = s.beta1 * m[i] + s.one_minus_beta1 * g;
    const float vi = s.beta2 * v[i] + s.one_minus_beta2 * g * g;
    m[i] = mi;
    v[i] = vi;
    w[i] = s.keep * w[i] -
           s.step_size * mi / (__builtin_sqrtf(vi) * s.inverse_sqrt_correction + s.epsilon);
  }
}

FS_INLINE void SignumRow(const SignumStep& s, float* __restrict w, float* __restrict m,
                         const float* __restrict gradient, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient == nullptr ? 0.0F : gradient[i] * s.gradient_scale;
    const float mi = s.momentum * m[i] + (1.0F - s.momentum) * g;
    m[i] = mi;
    const float sign = static_cast<float>(mi > 0) - static_cast<float>(mi < 0);
    w[i] = s.keep * w[i] - s.step_size * sign;
  }
}

// A positive float and its index as one number: larger values first, then smaller indices.
FS_INLINE uint64_t Packed(float value, int64_t index) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return (static_cast<uint64_t>(bits) << 32) | static_cast<uint32_t>(~static_cast<uint32_t>(index));
}
FS_INLINE float ValueOf(uint64_t packed) {
  const auto bits = static_cast<uint32_t>(packed >> 32);
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Keeps the k best of the n candidates.
void KeepBest(uint64_t* candidates, int64_t n, int64_t k) {
  std::nth_element(candidates, candidates + k - 1, candidates + n, std::greater<>());
}

// The candidates of one row so far, and the value a newcomer has to exceed.
struct Candidates {
  uint64_t* packed;
  int64_t k;
  int64_t n = 0;
  float threshold = 0;

  FS_INLINE void Add(float value, int64_t index) {
    packed[n++] = Packed(value, index);
    if (n == TopKScratch(k)) Prune();
  }
  void Prune() {
    KeepBest(packed, n, k);
    n = k;
    threshold = ValueOf(packed[k - 1]);
  }
  int64_t Finish(int32_t* indices, float* values) {
    if (n > k) Prune();
    // By rising index: the low half holds its complement.
    std::sort(packed, packed + n, [](uint64_t a, uint64_t b) {
      return static_cast<uint32_t>(a) > static_cast<uint32_t>(b);
    });
    for (int64_t i = 0; i < n; ++i) {
      indices[i] = static_cast<int32_t>(~static_cast<uint32_t>(packed[i]));
      values[i] = ValueOf(packed[i]);
    }
    return n;
  }
};

FS_INLINE int64_t TopKPortable(const float* row, const float* bias, int64_t m, int64_t k,
                               uint64_t* scratch, int32_t* indices, float* values) {
  Candidates best{scratch, k};
  for (int64_t begin = 0; begin < m; begin += kLanes) {
    const int64_t n = std::min(kLanes, m - begin);
    float x[kLanes];
    for (int64_t i = 0; i < n; ++i) x[i] = row[begin + i] + (bias == nullptr ? 0 : bias[begin + i]);
    int any = 0;
    for (int64_t i = 0; i < n; ++i) any |= static_cast<int>(x[i] > best.threshold);
    if (any == 0) continue;
    for (int64_t i = 0; i < n; ++i) {
      if (x[i] > best.threshold) best.Add(x[i], begin + i);
    }
  }
  return best.Finish(indices, values);
}

FS_INLINE int64_t PositivePortable(const float* row, const float* bias, int64_t m, int32_t* indices,
                                   float* values) {
  int64_t n = 0;
  for (int64_t i = 0; i < m; ++i) {
    const float x = bias == nullptr ? row[i] : row[i] + bias[i];
    if (x > 0) {
      indices[n] = static_cast<int32_t>(i);
      values[n++] = x;
    }
  }
  return n;
}

#if defined(__x86_64__)
#define FS_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))

FS_AVX512 FS_INLINE __m512 LoadBiased(const float* row, const float* bias, __mmask16 lanes) {
  const __m512 x = _mm512_maskz_loadu_ps(lanes, row);
  return bias == nullptr ? x : _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, bias));
}

FS_AVX512 FS_INLINE __mmask16 LanesFrom(int64_t i, int64_t m) {
  return m - i >= kLanes ? static_cast<__mmask16>(0xffff)
                         : static_cast<__mmask16>((1U << (m - i)) - 1);
}

// A value that at least k entries reach: the k-th largest of the maxima of groups of 64. 0 where
// there are too few groups to say.
FS_AVX512 float LowerBound(const float* row, const float* bias, int64_t m, int64_t k) {
  constexpr int64_t kGroup = 4 * kLanes;
  constexpr int64_t kMaxGroups = 1024;
  const int64_t groups = std::min(m / kGroup, kMaxGroups);
  if (groups < 2 * k) return 0;
  float maxima[kMaxGroups];
  for (int64_t g = 0; g < groups; ++g) {
    __m512 most = _mm512_setzero_ps();  // the second operand wins over a NaN
    for (int64_t i = g * kGroup; i < (g + 1) * kGroup; i += kLanes) {
      most = _mm512_max_ps(LoadBiased(row + i, bias == nullptr ? nullptr : bias + i, 0xffff), most);
    }
    maxima[g] = _mm512_reduce_max_ps(most);
  }
  std::nth_element(maxima, maxima + k - 1, maxima + groups, std::greater<>());
  return maxima[k - 1];
}

FS_AVX512 void AddAbove(Candidates& best, __m512 x, __mmask16 above, int64_t begin) {
  float lanes[kLanes];
  _mm512_storeu_ps(lanes, x);
  for (unsigned mask = above; mask != 0; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    if (lanes[lane] > best.threshold) best.Add(lanes[lane], begin + lane);
  }
}

FS_AVX512 FS_INLINE int64_t TopKAvx512(const float* row, const float* bias, int64_t m, int64_t k,
                                       uint64_t* scratch, int32_t* indices, float* values) {
  Candidates best{scratch, k};
  // What equals the bound may be among the best: the threshold is the next smaller float.
  const float bound = LowerBound(row, bias, m, k);
  if (bound > 0) best.threshold = std::nextafter(bound, 0.0F);
  int64_t i = 0;
  for (; i + 4 * kLanes <= m; i += 4 * kLanes) {
    const __m512 threshold = _mm512_set1_ps(best.threshold);
    __m512 x[4];
    __mmask16 above[4];
    for (int b = 0; b < 4; ++b) {
      const int64_t at = i + b * kLanes;
      x[b] = LoadBiased(row + at, bias == nullptr ? nullptr : bias + at, 0xffff);
      above[b] = _mm512_cmp_ps_mask(x[b], threshold, _CMP_GT_OQ);
    }
    if ((above[0] | above[1] | above[2] | above[3]) == 0) continue;
    for (int b = 0; b < 4; ++b) {
      if (above[b] != 0) AddAbove(best, x[b], above[b], i + b * kLanes);
    }
  }
  for (; i < m; i += kLanes) {
    const __mmask16 lanes = LanesFrom(i, m);
    const __m512 x = LoadBiased(row + i, bias == nullptr ? nullptr : bias + i, lanes);
    const __mmask16 above =
        _mm512_mask_cmp_ps_mask(lanes, x, _mm512_set1_ps(best.threshold), _CMP_GT_OQ);
    if (above != 0) AddAbove(best, x, above, i);
  }
  return best.Finish(indices, values);
}

// Writes the entries of `x`, whose first column is `at`, that `above` marks; returns how many.
FS_AVX512 FS_INLINE int64_t WriteAbove(__m512 x, __mmask16 above, int64_t at, int32_t* indices,
                                       float* values) {
  const __m512i ramp = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i columns = _mm512_add_epi32(ramp, _mm512_set1_epi32(static_cast<int>(at)));
  _mm512_mask_compressstoreu_epi32(indices, above, columns);
  _mm512_mask_compressstoreu_ps(values, above, x);
  return __builtin_popcount(above);
}

FS_AVX512 FS_INLINE int64_t PositiveAvx512(const float* row, const float* bias, int64_t m,
                                           int32_t* indices, float* values) {
  const __m512 zero = _mm512_setzero_ps();
  int64_t n = 0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= m; i += 4 * kLanes) {
    __m512 x[4];
    __mmask16 above[4];
    for (int b = 0; b < 4; ++b) {
      const int64_t at = i + b * kLanes;
      x[b] = LoadBiased(row + at, bias == nullptr ? nullptr : bias + at, 0xffff);
      above[b] = _mm512_cmp_ps_mask(x[b], zero, _CMP_GT_OQ);
    }
    if ((above[0] | above[1] | above[2] | above[3]) == 0) continue;
    for (int b = 0; b < 4; ++b) {
      if (above[b] != 0) {
        n += WriteAbove(x[b], above[b], i + b * kLanes, indices + n, values + n);
      }
    }
  }
  for (; i < m; i += kLanes) {
    const __mmask16 lanes = LanesFrom(i, m);
    const __m512 x = LoadBiased(row + i, bias == nullptr ? nullptr : bias + i, lanes);
    const __mmask16 above = _mm512_mask_cmp_ps_mask(lanes, x, zero, _CMP_GT_OQ);
    n += WriteAbove(x, above, i, indices + n, values + n);
  }
  return n;
}

// Denormals count as zero while it lives.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040U); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned saved_;
};
#else
class FlushDenormals {
 public:
  FlushDenormals() {}
};
#endif

// A struct of functions compiled for TARGET, with their own ways of selecting entries.
#define FS_DEFINE_KERNELS(NAME, TARGET, TOP_K, POSITIVE)                                          \
  struct NAME {                                                                                   \
    TARGET static void add_weighted_rows(const float* W, int64_t d, const int32_t* indices,       \
                                         const float* values, int64_t n, float* out) {            \
      AddWeightedRows(W, d, indices, values, n, out);                                             \
    }                                                                                             \
    TARGET static void row_dots(const float* W, int64_t d, const int32_t* indices, int64_t n,     \
                                const float* g, float* out) {                                     \
      RowDots(W, d, indices, n, g, out);                                                          \
    }                                                                                             \
    TARGET static float dot(const float* a, const float* b, int64_t n) { return Dot(a, b, n); }   \
    TARGET static void axpy(float a, const float* x, float* out, int64_t n) {                     \
      Axpy(a, x, out, n);                                                                         \
    }                                                                                             \
    TARGET static void scale(float a, const float* x, float* out, int64_t n) {                    \
      Scale(a, x, out, n);                                                                        \
    }                                                                                             \
    TARGET static int64_t top_k(const float* row, const float* bias, int64_t m, int64_t k,        \
                                uint64_t* scratch, int32_t* indices, float* values) {             \
      return TOP_K(row, bias, m, k, scratch, indices, values);                                    \
    }                                                                                             \
    TARGET static int64_t positive(const float* row, const float* bias, int64_t m,                \
                                   int32_t* indices, float* values) {                             \
      return POSITIVE(row, bias, m, indices, values);                                             \
    }                                                                                             \
    TARGET static void adam(const AdamStep& step, float* w, float* m, float* v,                   \
                            const float* gradient, int64_t n) {                                   \
      const FlushDenormals flush;                                                                 \
      if (gradient == nullptr) {                                                                  \
        AdamRow(step, w, m, v, nullptr, n);                                                       \
      } else {                                                                                    \
        AdamRow(step, w, m, v, gradient, n);                                                      \
      }                                                                                           \
    }                                                                                             \
    TARGET static void signum(const SignumStep& step, float* w, float* m, const float* gradient,  \
                              int64_t n) {                                                        \
      const FlushDenormals flush;                                                                 \
      if (gradient == nullptr) {                                                                  \
        SignumRow(step, w, m, nullptr, n);                                                        \
      } else {                                                                                    \
        SignumRow(step, w, m, gradient, n);                                                       \
      }                                                                                           \
    }                                                                                             \
    static constexpr RowKernels kTable = {add_weighted_rows, row_dots, dot,   axpy, scale, top_k, \
                                          positive,          adam,     signum};                   \
  };

FS_DEFINE_KERNELS(Portable, , TopKPortable, PositivePortable)
#if defined(__x86_64__)
FS_DEFINE_KERNELS(Avx2, __attribute__((target("avx2,fma"))), TopKPortable, PositivePortable)
FS_DEFINE_KERNELS(Avx512, FS_AVX512, TopKAvx512, PositiveAvx512)
#endif

const RowKernels& Choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("fma")) {
    return Avx512::kTable;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Avx2::kTable;
#endif
  return Portable::kTable;
}

}  // namespace

const RowKernels& BestRowKernels() {
  static const RowKernels& kernels = Choose();
  return kernels;
}

}  // namespace featurescope
