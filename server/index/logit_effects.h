// What a feature does to the next token's logits directly: W_dec[i] W_U, the final normalisation
// and later blocks left out.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/engine/run_context.h"
#include "server/model/transformer.h"
#include "server/sae/sae.h"
#include "server/store/index_db.h"

namespace featurescope {

// In logits per unit of activation.
struct LogitEffects {
  std::vector<LogitEffectRow> top;     // largest first; ties: the smaller token first
  std::vector<LogitEffectRow> bottom;  // smallest first; ties: the smaller token first

  // Offers the effects on tokens first_token, first_token + 1, ... REQUIRES: each token once, in
  // ascending order over all calls.
  void Offer(absl::Span<const float> effects, uint32_t first_token, size_t keep);
};

// The `keep` largest and smallest effects of every feature, in quanta on run.device. `progress` is
// called with the share that is done. REQUIRES: the SAE writes to the residual stream or
// to what is added to it.
absl::StatusOr<std::vector<LogitEffects>> ComputeLogitEffects(
    const Transformer& model, const Sae& sae, size_t keep, const RunContext& run,
    const std::function<void(double)>& progress);

}  // namespace featurescope
