#include "server/catalog/sae_overrides.h"

#include <optional>
#include <type_traits>

#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

constexpr char kWhat[] = "settings of an SAE";

template <typename T>
absl::Status ReadField(const nlohmann::json& json, const char* key, std::optional<T>* out) {
  const nlohmann::json* field = JsonFind(json, key);
  if (field == nullptr) return absl::OkStatus();
  if constexpr (std::is_same_v<T, bool>) {
    if (!field->is_boolean()) return InvalidArgument(kWhat, ": ", key, " is no boolean");
  } else {
    if (!field->is_number()) return InvalidArgument(kWhat, ": ", key, " is no number");
  }
  *out = field->get<T>();
  return absl::OkStatus();
}

}  // namespace

std::string ToJson(const LoadSaeOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  const auto put = [&json](const char* key, const auto& value) {
    if (value) json[key] = *value;
  };
  put("apply_b_dec_to_input", options.apply_b_dec_to_input);
  put("rescale_acts_by_decoder_norm", options.rescale_acts_by_decoder_norm);
  put("norm_scaling_factor", options.norm_scaling_factor);
  put("threshold", options.threshold);
  put("k", options.k);
  if (options.normalize_activations) {
    const absl::string_view name = NormalizeActivationsName(*options.normalize_activations);
    json["normalize_activations"] = std::string(name);
  }
  if (options.selection != SaeSelection::kAsStored) {
    const absl::string_view name = SaeSelectionName(options.selection);
    json["selection"] = std::string(name);
  }
  return json.empty() ? "" : json.dump();
}

absl::StatusOr<LoadSaeOptions> SaeOverridesFromJson(absl::string_view text) {
  LoadSaeOptions options;
  if (text.empty()) return options;
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, kWhat));
  if (!json.is_object()) return InvalidArgument(kWhat, ": no JSON object");
  RETURN_IF_ERROR(ReadField(json, "apply_b_dec_to_input", &options.apply_b_dec_to_input));
  RETURN_IF_ERROR(
      ReadField(json, "rescale_acts_by_decoder_norm", &options.rescale_acts_by_decoder_norm));
  RETURN_IF_ERROR(ReadField(json, "norm_scaling_factor", &options.norm_scaling_factor));
  RETURN_IF_ERROR(ReadField(json, "threshold", &options.threshold));
  RETURN_IF_ERROR(ReadField(json, "k", &options.k));
  ASSIGN_OR_RETURN(const std::string mode, JsonStringOr(json, "normalize_activations", kWhat, ""));
  if (!mode.empty()) {
    options.normalize_activations = FindNormalizeActivations(mode);
    if (!options.normalize_activations) {
      return InvalidArgument(kWhat, ": normalize_activations is '", mode, "'");
    }
  }
  ASSIGN_OR_RETURN(const std::string selection,
                   JsonStringOr(json, "selection", kWhat, "as_stored"));
  const std::optional<SaeSelection> known = FindSaeSelection(selection);
  if (!known) return InvalidArgument(kWhat, ": selection is '", selection, "'");
  options.selection = *known;
  return options;
}

}  // namespace featurescope
