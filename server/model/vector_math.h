// Sixteen floats at a time, for the loops that are no matrix products.
//
// A loop is written once as an FS_INLINE function and compiled for each instruction set by
// FS_FOR_EACH_CPU; which copy runs is chosen when it is first called. Include only in .cc files.
#pragma once

#include <cstdint>
#include <cstring>

#define FS_INLINE inline __attribute__((always_inline))

// Defines `name parameters`, which calls the FS_INLINE function name##Loop with `arguments`, as
// compiled for the best instruction set that the processor has.
#if defined(__x86_64__)
#define FS_FOR_EACH_CPU(name, parameters, arguments)                                              \
  __attribute__((target(                                                                          \
      "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))) static void name##Avx512 parameters {      \
    name##Loop arguments;                                                                         \
  }                                                                                               \
  __attribute__((target("avx2,fma"))) static void name##Avx2 parameters { name##Loop arguments; } \
  static void name##Portable parameters { name##Loop arguments; }                                 \
  void name parameters {                                                                          \
    static const auto chosen = HasAvx512() ? name##Avx512                                         \
                               : HasAvx2() ? name##Avx2                                           \
                                           : name##Portable;                                      \
    chosen arguments;                                                                             \
  }
#else
#define FS_FOR_EACH_CPU(name, parameters, arguments) \
  void name parameters { name##Loop arguments; }
#endif

namespace featurescope {
namespace {

#if defined(__x86_64__)
inline bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
inline bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

constexpr int64_t kLanes = 16;
using Vec = float __attribute__((vector_size(kLanes * sizeof(float))));
using IntVec = int32_t __attribute__((vector_size(kLanes * sizeof(float))));
using BitsVec = uint32_t __attribute__((vector_size(kLanes * sizeof(float))));
using HalfBitsVec = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));

// By reference: how such a vector is passed by value depends on the instruction set.
FS_INLINE void Load(const float* from, Vec& to) { std::memcpy(&to, from, sizeof(to)); }
FS_INLINE void Store(const Vec& from, float* to) { std::memcpy(to, &from, sizeof(from)); }

// x = exp(x) for x <= 88, to 2 units in the last place; exactly 0 below -87, NaN stays NaN.
// Cephes' expf.
FS_INLINE void ExpInPlace(Vec& x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRounder = 12582912.0f;  // adding it leaves the nearest integer in the low bits
  constexpr int32_t kRounderBits = 0x4b400000;
  const IntVec is_zero = x < -87.0f;
  const Vec shifted = x * kLog2E + kRounder;
  const Vec n = shifted - kRounder;
  const Vec r = (x - n * kLn2High) - n * kLn2Low;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // Multiplies by 2^n by adding n to the exponent.
  const IntVec exponent = (reinterpret_cast<IntVec>(shifted) - kRounderBits) << 23;
  x = reinterpret_cast<Vec>((reinterpret_cast<IntVec>(p) + exponent) & ~is_zero);
}

// x = cap tanh(x / cap), to about cap * 1e-7. NaN stays NaN.
FS_INLINE void SoftCapVec(float cap, Vec& x) {
  const Vec largest = 40.0f - Vec{};  // tanh of more than 20 is 1
  Vec e = x * (2.0f / cap);
  e = e > largest ? largest : e;
  ExpInPlace(e);
  x = cap - 2.0f * cap / (e + 1.0f);
}

// bfloat16 is the upper half of a float's bits.
FS_INLINE void LoadBfloat16(const uint16_t* from, Vec& to) {
  HalfBitsVec bits;
  std::memcpy(&bits, from, sizeof(bits));
  to = reinterpret_cast<Vec>(__builtin_convertvector(bits, BitsVec) << 16);
}
// Rounds to nearest, ties to even; NaN stays NaN.
FS_INLINE void StoreBfloat16(const Vec& from, uint16_t* to) {
  const BitsVec bits = reinterpret_cast<BitsVec>(from);
  const BitsVec rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const BitsVec quiet = (bits >> 16) | 0x40u;
  const BitsVec is_nan = reinterpret_cast<BitsVec>(from != from);
  const HalfBitsVec half =
      __builtin_convertvector((rounded & ~is_nan) | (quiet & is_nan), HalfBitsVec);
  std::memcpy(to, &half, sizeof(half));
}

FS_INLINE float Sum(const Vec& v) {
  float t[kLanes];
  std::memcpy(t, &v, sizeof(t));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) t[i] += t[i + half];
  }
  return t[0];
}

FS_INLINE float Max(const Vec& v) {
  float max = v[0];
  for (int64_t i = 1; i < kLanes; ++i) max = v[i] > max ? v[i] : max;
  return max;
}

}  // namespace
}  // namespace featurescope
