// Whether an SAE fits the model and hook point that it is bound to, and if not, what would.
//
// An SAE that is read with the wrong normalisation, at another layer or from another base model
// computes without complaint; only its reconstruction tells. So it is measured on a text, and where
// it is bad, cheap changes of the binding are tried: the one that repairs it names the cause.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/engine/device_worker.h"
#include "server/explore/activations.h"

namespace featurescope {

// Means over the non-special tokens looked at; y is what the SAE reads, of a transcoder what it
// writes.
struct SaeFit {
  std::string change;             // against the SAE's own binding, in words; empty: none
  double explained_variance = 0;  // 1 - sum |y - y_hat|^2 / sum |y - mean(y)|^2
  double l0 = 0;                  // features per token
  double norm_ratio = 0;          // |y_hat| / |y|
  double cosine = 0;              // of y and y_hat
};

enum class SaeVerdict {
  kFits,
  kDoubtful,    // usable, but something is unusual
  kDoesNotFit,  // the reconstruction says that something is wrong
};

struct SaeCheck {
  SaeVerdict verdict = SaeVerdict::kFits;
  SaeFit as_bound;
  std::vector<SaeFit> better;         // clearly better bindings, the best first
  std::vector<std::string> findings;  // what is out of order, why, and what to do
  uint64_t n_tokens = 0;              // non-special ones
  uint32_t n_tried = 0;               // other bindings
};

struct CheckSaeRequest {
  ModelRef model;
  SaeRef sae;
  std::string trained_on;  // the model as the SAE's files name it; empty: they do not say
  // Token ids without BOS, at least kMinCheckTokens altogether, each at most n_ctx - 1 long.
  std::vector<std::vector<uint32_t>> texts;
  // What goes in front of each text when BOS is used; unset: the model has none.
  std::optional<uint32_t> bos;
  bool with_bos = false;  // whether the model's texts get it by default
  CancelToken cancel;
};

constexpr uint64_t kMinCheckTokens = 32;

// Blocks; for request threads. Computes in quanta of one text, between interactive requests.
//
//   errors  InvalidArgument     too few tokens, a text too long, an SAE that does not fit by width
//           FailedPrecondition  a transcoder of which it is not known what it writes
//           Cancelled, DeadlineExceeded
absl::StatusOr<SaeCheck> CheckSae(const CheckSaeRequest& request, DeviceWorker& worker);

}  // namespace featurescope
