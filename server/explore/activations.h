// Feature activations of texts, token by token.
//
// Requests of many callers on the same model and SAEs share one packed forward pass and one
// encoding; the pass ends after the last hook point needed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/base/hook_point.h"
#include "server/engine/device_worker.h"
#include "server/explore/sparse_activations.h"
#include "server/explore/text_input.h"
#include "server/sae/sae.h"

namespace featurescope {

// An SAE that is asked something, and where it sits in the model.
struct SaeRef {
  std::string id;
  std::shared_ptr<const Sae> sae;
  HookPoint hook;  // what it reads
  // What it writes: unset, the same. A transcoder's is unset where it is not known.
  std::optional<HookPoint> hook_out = {};
  bool center_writing_weights = false;  // see server/catalog/hook_values.h

  HookPoint output_hook() const { return hook_out.value_or(hook); }
  // A transcoder of which it is not known what it writes: its output can only be computed.
  bool output_unknown() const { return sae->is_transcoder() && !hook_out.has_value(); }
};

// What to return of each SAE's activations. AllPositive: everything.
struct AllPositive {};
struct TheseFeatures {
  std::vector<uint32_t> ids;
};
struct TopKPerToken {
  uint32_t k = 0;  // at least 1
};
enum class TextScore { kMax, kMean, kSum };
// The strongest features of the whole text, and their activations at every token.
struct TopOverText {
  uint32_t k = 0;  // at least 1
  TextScore score = TextScore::kMax;
  std::vector<uint32_t> positions;  // that count; empty: all
};
using ActivationSelection = std::variant<AllPositive, TheseFeatures, TopKPerToken, TopOverText>;

struct ActivationsRequest {
  ModelRef model;
  std::vector<TextInput> inputs;  // at most kMaxInputs
  std::vector<SaeRef> saes;
  ActivationSelection selection;
  float min_activation = 0;             // smaller ones are left out
  bool include_special_tokens = false;  // unset: the rows of BOS and the like are empty
  // L0 and explained variance. Without them, TheseFeatures encodes only the features asked for.
  bool statistics = true;
  uint64_t max_entries = 2'000'000;  // activations in one answer
  CancelToken cancel;
};

constexpr size_t kMaxInputs = 64;
constexpr size_t kMaxSaesPerRequest = 64;

struct SaeActivations {
  std::string sae_id;
  SparseActivations acts;  // one row per token, in the SAE's own units
  // TopOverText only: the features in falling order of their score (ties: smaller id first).
  std::vector<uint32_t> top_features;
  std::vector<float> top_scores;
  // Over the text's non-special tokens; NaN where it is not defined (no such tokens, no variance)
  // or not asked for.
  float l0 = 0;  // mean
  // 1 - sum |y - y_hat|^2 / sum |y - mean(y)|^2; y is what the SAE reads, of a transcoder what it
  // writes (NaN where that is not known)
  float explained_variance = 0;
};

struct TextActivations {
  std::vector<Token> tokens;
  std::vector<SaeActivations> saes;  // in the request's order
};

struct ActivationsResponse {
  std::vector<TextActivations> texts;  // in the request's order
};

// Runs the texts up to the SAEs' hook points and encodes them there. Blocks; for request threads.
//
//   errors  InvalidArgument     no or too many inputs or SAEs; an input that TokenIdsOf refuses; a
//                               feature or position out of range; an SAE whose hook the model does
//                               not have or whose d_in is another width
//           FailedPrecondition  a text, but the model has no tokenizer
//           ResourceExhausted   the device's queue is full; more than max_entries activations
//           Cancelled, DeadlineExceeded
absl::StatusOr<ActivationsResponse> ComputeActivations(const ActivationsRequest& request,
                                                       DeviceWorker& worker);

// Whether `sae` can be used at its hooks in `model`.
//   errors  InvalidArgument  the model has no such hook, or it has another width than d_in or
//   d_out;
//                            the hook that is written comes before the one that is read
absl::Status CheckSaeFits(const SaeRef& sae, const Transformer& model);

}  // namespace featurescope
