// Activations of the corpus' held-out contexts, on which a run measures its SAEs.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/run_context.h"
#include "server/tensor/torch.h"
#include "server/train/spec.h"

namespace featurescope {

// Forwards held-out contexts of inputs.corpus, from the first on, until spec.heldout_tokens rows
// are there or the contexts end; one tensor [n, width] for each hook. Nothing where that gives no
// row.   errors  those of the forward pass
absl::StatusOr<std::vector<torch::Tensor>> CollectHeldOutRows(const TrainingInputs& inputs,
                                                              const std::vector<HookPoint>& hooks,
                                                              const TrainingSpec& spec,
                                                              const RunContext& ctx);

}  // namespace featurescope
