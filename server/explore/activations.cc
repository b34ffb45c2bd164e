#include "server/explore/activations.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/base/status.h"
#include "server/explore/activations_task.h"

namespace featurescope {
namespace {

absl::Status CheckFeatures(const std::vector<uint32_t>& features, const SaeRef& sae) {
  if (features.empty()) return InvalidArgument("features: the list is empty");
  if (static_cast<int64_t>(features.size()) > sae.sae->config().d_sae) {
    return InvalidArgument("features: the list has ", features.size(), " ids, SAE ", sae.id,
                           " has ", sae.sae->config().d_sae, " features");
  }
  for (const uint32_t feature : features) {
    if (feature >= sae.sae->config().d_sae) {
      return InvalidArgument("feature ", feature, " is out of range [0, ", sae.sae->config().d_sae,
                             ") of SAE ", sae.id);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSelection(const ActivationsRequest& request,
                            const std::vector<std::vector<uint32_t>>& ids) {
  if (!(request.min_activation >= 0) || !std::isfinite(request.min_activation)) {
    return InvalidArgument("min_activation is ", request.min_activation,
                           ", it must be finite and at least 0");
  }
  if (const auto* these = std::get_if<TheseFeatures>(&request.selection)) {
    for (const SaeRef& sae : request.saes) RETURN_IF_ERROR(CheckFeatures(these->ids, sae));
  } else if (const auto* top = std::get_if<TopKPerToken>(&request.selection)) {
    if (top->k == 0) return InvalidArgument("top_k_per_token must be at least 1");
  } else if (const auto* over = std::get_if<TopOverText>(&request.selection)) {
    if (over->k == 0) return InvalidArgument("top_over_text.k must be at least 1");
    const auto last = std::max_element(over->positions.begin(), over->positions.end());
    for (size_t i = 0; last != over->positions.end() && i < ids.size(); ++i) {
      if (*last >= ids[i].size()) {
        return InvalidArgument("position ", *last, " is out of range [0, ", ids[i].size(),
                               ") in inputs[", i, "]");
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<uint32_t>>> CheckRequest(const ActivationsRequest& request) {
  if (request.inputs.empty() || request.inputs.size() > kMaxInputs) {
    return InvalidArgument("there are ", request.inputs.size(), " inputs, it must be 1 to ",
                           kMaxInputs);
  }
  if (request.saes.empty() || request.saes.size() > kMaxSaesPerRequest) {
    return InvalidArgument("there are ", request.saes.size(), " SAEs, it must be 1 to ",
                           kMaxSaesPerRequest);
  }
  for (const SaeRef& sae : request.saes) {
    RETURN_IF_ERROR(CheckSaeFits(sae, *request.model.model));
  }
  std::vector<std::vector<uint32_t>> ids;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    ASSIGN_OR_RETURN(ids.emplace_back(),
                     TokenIdsOf(request.model, request.inputs[i], absl::StrCat("inputs[", i, "]")));
  }
  RETURN_IF_ERROR(CheckSelection(request, ids));
  return ids;
}

}  // namespace

absl::Status CheckSaeFits(const SaeRef& sae, const Transformer& model) {
  const auto check = [&](const HookPoint& hook, absl::string_view what, int64_t expected) {
    const auto width = model.config().HookWidth(hook);
    if (!width.ok()) return Annotate(width.status(), absl::StrCat("SAE ", sae.id));
    if (*width == expected) return absl::OkStatus();
    return InvalidArgument("SAE ", sae.id, " has ", what, " ", expected, ", but ", hook.name(),
                           " of the model is ", *width, " wide");
  };
  RETURN_IF_ERROR(check(sae.hook, "d_in", sae.sae->config().d_in));
  if (sae.output_unknown()) return absl::OkStatus();
  RETURN_IF_ERROR(check(sae.output_hook(), "d_out", sae.sae->config().d_out));
  const int n_layers = model.config().n_layers;
  if (ExecutionOrder(sae.output_hook(), n_layers) < ExecutionOrder(sae.hook, n_layers)) {
    return InvalidArgument("SAE ", sae.id, " writes ", sae.output_hook().name(),
                           ", which the model reaches before ", sae.hook.name(),
                           ", which it reads");
  }
  return absl::OkStatus();
}

absl::StatusOr<ActivationsResponse> ComputeActivations(const ActivationsRequest& request,
                                                       DeviceWorker& worker) {
  ASSIGN_OR_RETURN(auto ids, CheckRequest(request));
  auto task = std::make_shared<ActivationsTask>(request, std::move(ids));
  RETURN_IF_ERROR(worker.Post(task));
  RETURN_IF_ERROR(task->Wait());

  ActivationsResponse response;
  response.texts.resize(request.inputs.size());
  for (size_t i = 0; i < response.texts.size(); ++i) {
    response.texts[i].tokens = MakeTokens(request.model, task->ids()[i]);
    response.texts[i].saes = std::move(task->results()[i]);
  }
  return response;
}

}  // namespace featurescope
