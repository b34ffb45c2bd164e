// Bounds on what a config.json may claim, so that sizes computed from it cannot overflow.
#pragma once

#include <cstdint>

namespace featurescope {

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxWidth = int64_t{1} << 20;  // d_model, d_mlp, d_head
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxContext = int64_t{1} << 24;  // tokens

}  // namespace featurescope
