// How the learning rate and the sparsity penalty change over the steps of a run.
#pragma once

#include <algorithm>
#include <cstdint>

#include "server/train/spec.h"

namespace featurescope {

// 1 / n, 2 / n, ... 1 over the first n steps, then 1.
inline double WarmUp(int64_t step, int64_t n) {
  return step >= n ? 1.0 : static_cast<double>(step + 1) / static_cast<double>(n);
}

// Linear warm-up, constant, linear decay that would reach 0 one step after the last.
//   REQUIRES: spec is resolved, 0 <= step < total_steps.
inline double LearningRate(const TrainingSpec& spec, int64_t step, int64_t total_steps) {
  const int64_t decay = std::min(*spec.lr_decay_steps, total_steps);
  const int64_t left = total_steps - step;
  const double decayed =
      left < decay ? static_cast<double>(left) / static_cast<double>(decay) : 1.0;
  return spec.learning_rate * WarmUp(step, *spec.lr_warmup_steps) * decayed;
}

inline double L1Coefficient(const TrainingSpec& spec, int64_t step) {
  return spec.l1_coefficient * WarmUp(step, *spec.l1_warmup_steps);
}

}  // namespace featurescope
