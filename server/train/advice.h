// What the curves of a training run say is going wrong, while it can still be mended.
//
// Each rule looks at the metrics that a run reports (see run_training.h), names the numbers it
// found, and says what to try.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/engine/run_context.h"
#include "server/train/spec.h"

namespace featurescope {

struct Advice {
  std::string rule;      // e.g. "l0_high"; stable, for links and tests
  std::string evidence;  // e.g. "412 features fire per token (mean of steps 900 to 1000)"
  std::string suggestion;
};

// The advice that the points so far give, most pressing first; nothing while the learning rate or
// the penalty still warm up.
//
//   points  of one SAE, in the order of their steps, with metrics' names without a member's prefix
//   spec    resolved
std::vector<Advice> AdviseOnTraining(absl::Span<const RunMetrics> points, const TrainingSpec& spec);

}  // namespace featurescope
