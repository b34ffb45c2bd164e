#include "server/explore/intervention.h"

#include <algorithm>
#include <cmath>

#include "server/base/status.h"

namespace featurescope {
namespace {

absl::Status CheckOperation(const Intervention& edit, absl::string_view name) {
  const bool takes_value = edit.operation != EditOperation::kAblateZero;
  if (!takes_value && edit.value != 0) {
    return InvalidArgument(name, ": ABLATE_ZERO takes no value, got ", edit.value);
  }
  const bool adds = edit.operation == EditOperation::kAdd;
  const bool sets = edit.operation == EditOperation::kSet;
  switch (edit.unit) {
    case EditUnit::kFeature:
      return absl::OkStatus();
    case EditUnit::kResidual:
      if (adds) return absl::OkStatus();
      return InvalidArgument(name, ": the unit RESIDUAL goes with ADD only");
    case EditUnit::kFeatureMax:
    case EditUnit::kFeatureP99:
      break;
  }
  if (!adds && !sets) {
    return InvalidArgument(name,
                           ": the units FEATURE_MAX and FEATURE_P99 go with ADD and SET only");
  }
  if (!(edit.unit_size > 0) || !std::isfinite(edit.unit_size)) {
    return InvalidArgument(name, ": the size of the unit is ", edit.unit_size,
                           ", it must be finite and greater than 0");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const Intervention& intervention, const Transformer& model,
                      absl::string_view name) {
  if (const absl::Status fits = CheckSaeFits(intervention.sae, model); !fits.ok()) {
    return Annotate(fits, name);
  }
  if (intervention.sae.output_unknown()) {
    return FailedPrecondition(name, ": SAE ", intervention.sae.id,
                              " is a transcoder of which it is not known where its output belongs; "
                              "add it again and say so, e.g. with --hook-out");
  }
  const int64_t d_sae = intervention.sae.sae->config().d_sae;
  if (intervention.feature >= d_sae) {
    return InvalidArgument(name, ": feature ", intervention.feature, " is out of range [0, ", d_sae,
                           ") of SAE ", intervention.sae.id);
  }
  if (!std::isfinite(intervention.value)) {
    return InvalidArgument(name, ": the value is ", intervention.value, ", it must be finite");
  }
  if (static_cast<int64_t>(intervention.positions.indices.size()) > model.config().n_ctx) {
    return InvalidArgument(name, ": there are ", intervention.positions.indices.size(),
                           " indices, the model's context has ", model.config().n_ctx,
                           " positions");
  }
  return CheckOperation(intervention, name);
}

bool AppliesTo(const EditPositions& positions, uint32_t position, uint32_t n_prompt_tokens,
               bool special) {
  if (special && !positions.include_special_tokens) return false;
  const bool in_prompt = position < n_prompt_tokens;
  if (positions.scope == PositionScope::kPrompt && !in_prompt) return false;
  if (positions.scope == PositionScope::kGenerated && in_prompt) return false;
  const std::vector<uint32_t>& indices = positions.indices;
  return indices.empty() || std::binary_search(indices.begin(), indices.end(), position);
}

}  // namespace featurescope
