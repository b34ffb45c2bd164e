// How a step is cut into blocks. All sizes depend on shapes only, never on timing: results must not
// depend on how fast the machine was.
#pragma once

#include <algorithm>
#include <cstdint>

namespace featurescope {

// Columns of the per-row sums of a step.
inline constexpr int kSquaredError = 0;
inline constexpr int kSquaredInput = 1;
inline constexpr int kL1 = 2;
inline constexpr int kRowSums = 3;

// Rows whose column sums are added up by one thread.
inline constexpr int64_t kRowGroup = 64;
inline constexpr int64_t kDecodeRowsPerBlock = 8 * kRowGroup;
inline constexpr int64_t kAuxKRowsPerBlock = 4 * kRowGroup;

// Added to norms before dividing by them: float32's machine epsilon, as dictionary_learning does.
inline constexpr float kNormEpsilon = 1.1920929e-7F;

// A standard SAE of which more than this share of features fires takes the dense path.
inline constexpr double kDenseAbove = 0.08;

inline int64_t RowGroups(int64_t rows) { return (rows + kRowGroup - 1) / kRowGroup; }

// Rows of the encoder's product that are computed, and selected from, at a time: at most 64 MB of
// pre-activations, and at most some 100 ms.
inline int64_t EncodeRowsPerBlock(int64_t d_in, int64_t d_sae, int64_t batch) {
  constexpr int64_t kBytes = 64 << 20;
  constexpr int64_t kMultiplications = 10'000'000'000;
  const int64_t by_memory = kBytes / (4 * d_sae);
  const int64_t by_time = kMultiplications / (d_in * d_sae);
  const int64_t rows = std::min(by_memory, by_time) / kRowGroup * kRowGroup;
  return std::clamp<int64_t>(rows, std::min(batch, int64_t{16}), batch);
}

// Features whose gradients or updates are computed at a time: some 20 ms.
inline int64_t FeaturesPerBlock(int64_t d_in, int64_t d_sae) {
  return std::clamp<int64_t>((int64_t{1} << 22) / d_in, 64, std::max<int64_t>(d_sae, 64));
}

}  // namespace featurescope
