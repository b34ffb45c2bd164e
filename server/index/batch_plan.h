// How a corpus is cut into batches and device quanta.
//
// The cut is a function of sizes alone, never of measured time, so that two runs over a corpus
// compute the same products and give the same file.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "server/base/hook_point.h"
#include "server/model/config.h"
#include "server/sae/sae.h"

namespace featurescope {

struct BatchPlan {
  // Accumulated together, and the grain of checkpoints.
  int64_t contexts_per_batch = 1;
  // What one quantum takes: as many whole contexts, or a piece of one that is longer.
  int64_t tokens_per_quantum = 1;
};

// Floating-point operations of one token's way to the hook and through the encoder.
double FlopsPerToken(const ModelConfig& model, const HookPoint& hook, const SaeConfig& sae,
                     int64_t context_size);

BatchPlan PlanBatches(const ModelConfig& model, const HookPoint& hook, const SaeConfig& sae,
                      int64_t context_size, bool on_gpu, absl::Duration quantum);

}  // namespace featurescope
