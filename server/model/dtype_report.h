// How far activations move when a model computes in another dtype (bfloat16 for float32).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"
#include "server/base/hook_point.h"
#include "server/model/transformer.h"
#include "server/tensor/torch.h"

namespace featurescope {

// At one hook point, over all tokens.
struct HookDifference {
  HookPoint hook;
  double relative_l2 = 0;    // ||other - reference|| / ||reference||
  double max_abs = 0;        // the largest |other - reference|
  double reference_rms = 0;  // root of the mean square of the reference, to judge max_abs by
  double min_cosine = 1;     // of the worst token, between its two activation vectors
};

struct DtypeReport {
  torch::ScalarType reference_dtype = torch::kFloat32;
  torch::ScalarType dtype = torch::kBFloat16;
  int64_t n_tokens = 0;
  std::vector<HookDifference> hooks;  // in the order of the pass
  // Of the next-token distributions.
  double mean_kl = 0;         // KL(reference || other), nats per token
  double max_kl = 0;          // of the worst token
  double top1_agreement = 1;  // share of tokens with the same likeliest next token
  double ce_difference = 0;   // mean over tokens of other's less reference's loss, nats
};

// Runs the same tokens through two loadings of one model.
//
//   hooks    where to compare; empty: the residual stream into every block and out of the last
//   errors   InvalidArgument     a hook or token that the model does not have, a sequence that is
//                                too long, a hook of attention scores or patterns
//            FailedPrecondition  they are not loadings of the same files
//            Cancelled
absl::StatusOr<DtypeReport> CompareDtypes(const Transformer& reference, const Transformer& other,
                                          const std::vector<std::vector<uint32_t>>& sequences,
                                          absl::Span<const HookPoint> hooks,
                                          const CancelToken& cancel);

// The same for a model directory: loads it in float32 and in `options.dtype`, one after the other,
// so that there is never more than one in memory. Also errors of Transformer::Load.
absl::StatusOr<DtypeReport> MeasureDtype(absl::string_view directory, const LoadOptions& options,
                                         const std::vector<std::vector<uint32_t>>& sequences,
                                         absl::Span<const HookPoint> hooks,
                                         const CancelToken& cancel);

// A table, one line a hook and one for the predictions.
std::string FormatDtypeReport(const DtypeReport& report);

}  // namespace featurescope
