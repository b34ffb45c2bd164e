// How rates, penalties and k change over the steps of a run.
#pragma once

#include <cstdint>

#include "server/train/spec.h"

namespace featurescope {

// What one step is told.
struct StepSettings {
  double learning_rate = 0;
  double threshold_learning_rate = 0;  // jumprelu
  double sparsity = 1;                 // factor of the sparsity penalty's coefficient
  int64_t k = 0;                       // topk family
};

// Of step `step` (counted from 0) of `total_steps`.
//   REQUIRES: spec is resolved, 0 <= step < total_steps.
StepSettings SettingsOfStep(const TrainingSpec& spec, int64_t step, int64_t total_steps);

// Whether dead features are resampled after step `step`; what the step number of the last time
// before or at `step` was, or 0.
bool ResamplesAfter(const TrainingSpec& spec, int64_t step);
int64_t LastResamplingBefore(const TrainingSpec& spec, int64_t step);

}  // namespace featurescope
