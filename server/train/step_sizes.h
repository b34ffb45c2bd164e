// How a step is cut into blocks. All sizes depend on shapes only, never on timing: results must not
// depend on how fast the machine was.
#pragma once

#include <algorithm>
#include <cstdint>

#include "server/tensor/amx_product.h"
#include "server/train/spec.h"

namespace featurescope {

inline constexpr int64_t kDecodeRowsPerBlock = 512;
inline constexpr int64_t kAuxKRowsPerBlock = 512;

// Added to norms before dividing by them: float32's machine epsilon, as dictionary_learning does.
inline constexpr float kNormEpsilon = 1.1920929e-7F;

// An architecture of which more than this share of features fires takes the dense path: where
// `train_bench breakeven` finds both equally fast. The encoder's product is the same on both.
inline constexpr double kDenseAbove = 0.12;

// Rows of the encoder's product that are computed, and selected from, at a time. Where LibTorch
// multiplies: at most 64 MB of pre-activations, and at most some 100 ms. Where the product is
// several times faster and waits for memory sooner: few enough that the selection finds them in
// cache.
inline int64_t EncodeRowsPerBlock(const TrainingSpec& spec, int64_t d_in) {
  constexpr int64_t kBytes = 64 << 20;
  constexpr int64_t kMultiplications = 10'000'000'000;
  constexpr int64_t kRowsOfFastProduct = 256;
  int64_t rows = std::min(kBytes / (4 * spec.d_sae), kMultiplications / (d_in * spec.d_sae));
  if (spec.compute_dtype == ComputeDtype::kBFloat16 || AmxProduct::Available()) {
    rows = std::min(rows, kRowsOfFastProduct);
  }
  return std::clamp<int64_t>(rows / 64 * 64, std::min(spec.batch_size, int64_t{16}),
                             spec.batch_size);
}

// Features whose gradients or updates are computed at a time: some 20 ms.
inline int64_t FeaturesPerBlock(int64_t d_in, int64_t d_sae) {
  return std::clamp<int64_t>((int64_t{1} << 22) / d_in, 64, std::max<int64_t>(d_sae, 64));
}

}  // namespace featurescope
