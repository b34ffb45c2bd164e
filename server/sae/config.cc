#include "server/sae/config.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace featurescope {
namespace {

constexpr NormalizeActivations kModes[] = {
    NormalizeActivations::kNone, NormalizeActivations::kExpectedAverageOnlyIn,
    NormalizeActivations::kConstantNormRescale, NormalizeActivations::kLayerNorm};

}  // namespace

absl::string_view NormalizeActivationsName(NormalizeActivations mode) {
  switch (mode) {
    case NormalizeActivations::kNone:
      return "none";
    case NormalizeActivations::kExpectedAverageOnlyIn:
      return "expected_average_only_in";
    case NormalizeActivations::kConstantNormRescale:
      return "constant_norm_rescale";
    case NormalizeActivations::kLayerNorm:
      return "layer_norm";
  }
  return "";
}

std::optional<NormalizeActivations> FindNormalizeActivations(absl::string_view name) {
  for (const NormalizeActivations mode : kModes) {
    if (name == NormalizeActivationsName(mode)) return mode;
  }
  return std::nullopt;
}

bool IsTranscoder(absl::string_view architecture) {
  return absl::EndsWith(architecture, "transcoder");
}

std::string DescribeActivation(const SaeConfig& config) {
  const absl::string_view name = config.architecture;
  const std::string k = config.k > 0 ? absl::StrCat(config.k) : "k";
  if (absl::StartsWith(name, "topk")) return absl::StrCat("the ", k, " largest of a token");
  if (name == "groupmax") return absl::StrCat("the largest of each of ", k, " groups");
  if (absl::StartsWith(name, "jumprelu")) return "what exceeds a threshold per feature";
  if (name == "gated") return "ReLU behind a gate";
  if (name == "tanh_relu") return "tanh of ReLU";
  if (absl::EndsWith(name, "batchtopk")) {
    return config.whole_batch ? absl::StrCat("the ", k, " n largest of n tokens encoded together")
                              : "what exceeds one threshold";
  }
  return "ReLU";
}

}  // namespace featurescope
