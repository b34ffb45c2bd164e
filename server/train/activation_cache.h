// Writes a model's activations on a corpus to disk, for many training runs to read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/engine/run_context.h"
#include "server/formats/safetensors.h"
#include "server/train/spec.h"

namespace featurescope {

struct ActivationCacheSpec {
  std::vector<HookPoint> hooks;       // one channel each
  DType dtype = DType::kBF16;         // F16, BF16 or F32
  uint64_t rows_per_shard = 1 << 18;  // about; a shard holds whole contexts
  // Which tokens: as in TrainingSpec.
  bool exclude_special_tokens = true;
  TokenPositions positions = TokenPositions::kAll;
};

// Writes the activations of the training contexts of inputs.corpus to `dir` (see
// activation_files.h), one shard after the other; a shard that is there already, of an earlier call
// with the same arguments, is kept. inputs.hook is not used.
//
//   returns  OK when the cache is complete
//   errors   InvalidArgument     no hooks, hooks that the model does not have, a dtype
//            FailedPrecondition  activations that are not finite, or too large for float16; another
//                                cache is in `dir`
//            ResourceExhausted   the disk is full
//            Cancelled           ctx.cancel was set
absl::Status WriteActivationCache(const TrainingInputs& inputs, const ActivationCacheSpec& spec,
                                  const RunContext& ctx, const std::string& dir);

// The bytes that it will take.
absl::StatusOr<uint64_t> ActivationCacheBytes(const TrainingInputs& inputs,
                                              const ActivationCacheSpec& spec);

}  // namespace featurescope
