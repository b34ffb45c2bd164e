// How good an SAE is on a corpus: its reconstruction, its features, and what the language model
// still predicts when the reconstruction takes the activation's place.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/hook_point.h"
#include "server/engine/run_context.h"
#include "server/explore/evaluation_metrics.h"
#include "server/formats/token_file.h"
#include "server/model/transformer.h"
#include "server/sae/sae.h"

namespace featurescope {

enum class EvaluationPart {
  kAuto,     // what the corpus holds out, or all of it where nothing is
  kHeldOut,  // FailedPrecondition where nothing is held out
  kAll,
};

struct EvaluationSpec {
  EvaluationPart part = EvaluationPart::kAuto;
  uint64_t max_tokens = 65536;  // in whole contexts, at least one; 1 to 2^32
  // Also the model with the activation set to zero and to its mean: the baselines of "loss
  // recovered". Two more passes.
  bool ablations = true;
  // Counts and replaces special tokens (BOS, EOS, padding), too. SAEs trained here have not seen
  // them, and a BOS token's activation is often a hundred times longer than all others.
  bool special_tokens = false;
};

struct EvaluationInputs {
  std::string sae_id;  // for messages
  std::shared_ptr<const Transformer> model;
  std::shared_ptr<const Sae> sae;
  HookPoint hook;                       // what the SAE reads
  std::optional<HookPoint> hook_out;    // what it writes; unset: the same
  bool center_writing_weights = false;  // see server/catalog/hook_values.h
  std::shared_ptr<const TokenFile> corpus;
  std::vector<uint32_t> special_tokens;

  HookPoint output_hook() const { return hook_out.value_or(hook); }
};

// Runs the contexts through the model as it is, with the SAE's output in place of the activation
// and, with spec.ablations, with zero and with the mean in its place; only counted tokens are
// replaced. All of a context's tokens but the first are predicted, whatever was replaced. The same
// inputs give the same numbers. All computing happens on context.device, in quanta.
//
// context.on_metrics gets the metrics so far a few times a minute.
//
//   errors  InvalidArgument     a field of the spec; a hook that the model does not have
//           FailedPrecondition  model, SAE and corpus do not fit together; the message says how
//           Cancelled
absl::StatusOr<EvaluationResult> Evaluate(const EvaluationInputs& inputs,
                                          const EvaluationSpec& spec, const RunContext& context);

}  // namespace featurescope
