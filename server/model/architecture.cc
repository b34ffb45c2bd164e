#include "server/model/architecture.h"

#include <string>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

constexpr const Architecture* kArchitectures[] = {&kGpt2, &kLlama};

}  // namespace

const Architecture* FindArchitecture(absl::string_view model_type) {
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->model_type == model_type) return architecture;
  }
  return nullptr;
}

std::string SupportedArchitectures() {
  return absl::StrJoin(kArchitectures, ", ", [](std::string* out, const Architecture* a) {
    absl::StrAppend(out, a->model_type);
  });
}

absl::StatusOr<ActivationKind> ParseActivation(absl::string_view name, absl::string_view key,
                                               absl::string_view what) {
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return ActivationKind::kGeluTanh;
  }
  if (name == "gelu") return ActivationKind::kGeluExact;
  if (name == "silu" || name == "swish") return ActivationKind::kSilu;
  if (name == "relu") return ActivationKind::kRelu;
  return Unimplemented(what, ": ", key, " \"", name,
                       "\" is not supported; supported: gelu, gelu_new, gelu_pytorch_tanh, "
                       "gelu_fast, silu, swish, relu");
}

absl::Status RequireSetting(const nlohmann::json& json, absl::string_view key,
                            const nlohmann::json& harmless, absl::string_view what) {
  const nlohmann::json* value = JsonFind(json, key);
  if (value == nullptr || *value == harmless) return absl::OkStatus();
  return Unimplemented(
      what, ": ", key, " = ", value->dump(), " is not supported",
      harmless.is_null() ? std::string() : absl::StrCat("; only ", harmless.dump()));
}

}  // namespace featurescope
