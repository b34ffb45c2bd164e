#include "server/sae/saelens_config.h"

#include <cmath>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

using nlohmann::json;

absl::StatusOr<NormalizeActivations> ParseNormalization(const json& cfg, absl::string_view path) {
  const json* value = JsonFind(cfg, "normalize_activations");
  if (value == nullptr) return NormalizeActivations::kNone;
  // The oldest files have a flag.
  if (value->is_boolean()) {
    return value->get<bool>() ? NormalizeActivations::kExpectedAverageOnlyIn
                              : NormalizeActivations::kNone;
  }
  ASSIGN_OR_RETURN(const std::string name, JsonString(cfg, "normalize_activations", path));
  const std::optional<NormalizeActivations> mode = FindNormalizeActivations(name);
  if (mode.has_value()) return *mode;
  return Unimplemented(path, ": normalize_activations '", name, "' is not supported");
}

// What tells where and how the SAE was trained; `metadata` is cfg itself before version 6.
absl::Status ReadMetadata(const json& metadata, absl::string_view path, SaeRecognition* found) {
  ASSIGN_OR_RETURN(found->model_name, JsonStringOr(metadata, "model_name", path, ""));
  ASSIGN_OR_RETURN(found->context_size,
                   JsonIntOr(metadata, "context_size", path, 0, 0, kMaxSaeContext));
  if (JsonFind(metadata, "prepend_bos") != nullptr) {
    ASSIGN_OR_RETURN(found->prepend_bos, JsonBool(metadata, "prepend_bos", path));
  }
  for (const char* key : {"hook_head_index", "hook_point_head_index", "hook_head_index_out"}) {
    if (JsonFind(metadata, key) != nullptr) {
      return Unimplemented(path, ": ", key, " is set; SAEs of a single head are not supported");
    }
  }
  ASSIGN_OR_RETURN(found->hook_as_given, JsonStringOr(metadata, "hook_point", path, ""));
  ASSIGN_OR_RETURN(found->hook_as_given,
                   JsonStringOr(metadata, "hook_name", path, found->hook_as_given));
  found->hook_name = found->hook_as_given;
  ASSIGN_OR_RETURN(found->hook_name_out, JsonStringOr(metadata, "hook_name_out", path, ""));
  const json* arguments = JsonFind(metadata, "model_from_pretrained_kwargs");
  if (arguments != nullptr && JsonFind(*arguments, "center_writing_weights") != nullptr) {
    ASSIGN_OR_RETURN(found->center_writing_weights,
                     JsonBool(*arguments, "center_writing_weights", path));
  }
  const json* positions = JsonFind(metadata, "seqpos_slice");
  if (positions != nullptr && positions->is_array() && !positions->empty() &&
      *positions != json::array({nullptr})) {
    found->notes.push_back(absl::StrCat("trained on positions ", positions->dump()));
  }
  return absl::OkStatus();
}

// What both generations of cfg.json spell alike.
absl::Status ReadCommon(const json& cfg, const json& metadata, absl::string_view path,
                        SaeLensConfig* result) {
  SaeConfig& config = result->config;
  ASSIGN_OR_RETURN(config.architecture, JsonStringOr(cfg, "architecture", path, "standard"));
  ASSIGN_OR_RETURN(config.d_in, JsonInt(cfg, "d_in", path, 1, kMaxSaeWidth));
  ASSIGN_OR_RETURN(config.d_sae, JsonInt(cfg, "d_sae", path, 1, kMaxSaeWidth));
  ASSIGN_OR_RETURN(config.apply_b_dec_to_input,
                   JsonBoolOr(cfg, "apply_b_dec_to_input", path, true));
  ASSIGN_OR_RETURN(config.normalize_activations, ParseNormalization(cfg, path));
  RETURN_IF_ERROR(ReadMetadata(metadata, path, &result->recognition));
  config.d_out = config.d_in;
  if (IsTranscoder(config.architecture)) {
    config.apply_b_dec_to_input = false;  // SAELens does not look at the setting either
    ASSIGN_OR_RETURN(config.d_out, JsonInt(cfg, "d_out", path, 1, kMaxSaeWidth));
  }
  return absl::OkStatus();
}

// Widths of nested groups become sizes; what is left of d_sae is a last group, as SAELens has it.
absl::Status ReadGroups(const json& cfg, absl::string_view path, SaeConfig* config) {
  int64_t last = 0;
  const json* widths = JsonFind(cfg, "matryoshka_widths");
  if (widths != nullptr) {
    if (!widths->is_array()) return InvalidArgument(path, ": matryoshka_widths is no list");
    for (const json& width : *widths) {
      if (!width.is_number_integer() || width < last + 1 || width > config->d_sae) {
        return InvalidArgument(path, ": matryoshka_widths has ", width.dump(),
                               "; widths rise up to d_sae ", config->d_sae);
      }
      config->group_sizes.push_back(width.get<int64_t>() - last);
      last = width.get<int64_t>();
    }
  }
  if (last < config->d_sae) config->group_sizes.push_back(config->d_sae - last);
  return absl::OkStatus();
}

// A batch's k is a mean: it need not be whole.
absl::Status ReadBatchTopK(const json& cfg, absl::string_view path, SaeLensConfig* result) {
  SaeConfig& config = result->config;
  ASSIGN_OR_RETURN(const double k, JsonFloat(cfg, "k", path, 0, static_cast<double>(config.d_sae)));
  config.k = std::llround(k);
  ASSIGN_OR_RETURN(config.whole_batch, JsonBoolOr(cfg, "selects_over_whole_batch", path, true));
  if (config.whole_batch && static_cast<double>(config.k) != k) {
    config.whole_batch = false;
    result->recognition.notes.push_back(absl::StrCat(
        "batchtopk, by its threshold: k ", k, " is no whole number of features for any batch"));
  }
  if (config.architecture == "matryoshka_batchtopk") return ReadGroups(cfg, path, &config);
  return absl::OkStatus();
}

absl::Status ReadVersion6(const json& cfg, absl::string_view path, SaeLensConfig* result) {
  const json& metadata = *JsonFind(cfg, "metadata");
  SaeConfig& config = result->config;
  RETURN_IF_ERROR(ReadCommon(cfg, metadata, path, result));
  ASSIGN_OR_RETURN(const std::string reshape,
                   JsonStringOr(cfg, "reshape_activations", path, "none"));
  if (reshape != "none" && reshape != "hook_z") {
    return Unimplemented(path, ": reshape_activations '", reshape, "' is not supported");
  }
  config.reshape_hook_z = reshape == "hook_z";
  ASSIGN_OR_RETURN(config.rescale_acts_by_decoder_norm,
                   JsonBoolOr(cfg, "rescale_acts_by_decoder_norm", path, false));
  if (absl::StartsWith(config.architecture, "topk") || config.architecture == "groupmax") {
    ASSIGN_OR_RETURN(config.k, JsonInt(cfg, "k", path, 1, config.d_sae));
  } else if (absl::EndsWith(config.architecture, "batchtopk")) {
    RETURN_IF_ERROR(ReadBatchTopK(cfg, path, result));
  }
  ASSIGN_OR_RETURN(const std::string version,
                   JsonStringOr(metadata, "sae_lens_version", path, "6"));
  result->recognition.format = absl::StrCat("SAELens ", version);
  return absl::OkStatus();
}

// The activation function of a flat cfg.json turns a "standard" architecture into another one.
absl::Status ReadActivationFunction(const json& cfg, absl::string_view path, SaeConfig* config) {
  std::string function = config->architecture == "topk" ? "topk" : "relu";
  for (const char* key : {"activation_fn", "activation_fn_str"}) {
    ASSIGN_OR_RETURN(function, JsonStringOr(cfg, key, path, function));
  }
  const bool standard = config->architecture == "standard";
  if (standard && function == "topk") config->architecture = "topk";
  if (standard && function == "tanh-relu") config->architecture = "tanh_relu";
  const bool fits = config->architecture == "topk"        ? function == "topk" || function == "relu"
                    : config->architecture == "tanh_relu" ? true
                                                          : function == "relu";
  if (!fits) {
    return Unimplemented(path, ": activation function '", function, "' of a ", config->architecture,
                         " SAE is not supported");
  }
  if (config->architecture != "topk") return absl::OkStatus();
  const json* arguments = JsonFind(cfg, "activation_fn_kwargs");
  const json& holder = arguments != nullptr && arguments->contains("k") ? *arguments : cfg;
  ASSIGN_OR_RETURN(config->k, JsonInt(holder, "k", path, 1, config->d_sae));
  return absl::OkStatus();
}

absl::Status ReadFlat(const json& cfg, absl::string_view path, SaeLensConfig* result) {
  RETURN_IF_ERROR(ReadCommon(cfg, cfg, path, result));
  SaeConfig& config = result->config;
  config.reshape_hook_z = absl::StrContains(result->recognition.hook_name, "hook_z");
  RETURN_IF_ERROR(ReadActivationFunction(cfg, path, &config));
  const json* scaling = JsonFind(cfg, "finetuning_scaling_factor");
  result->finetuning_scale = scaling != nullptr && (!scaling->is_boolean() || scaling->get<bool>());
  ASSIGN_OR_RETURN(std::string version, JsonStringOr(cfg, "sae_lens_version", path, ""));
  ASSIGN_OR_RETURN(version, JsonStringOr(cfg, "sae_lens_training_version", path, version));
  result->recognition.format =
      version.empty() ? "SAELens, before 6" : absl::StrCat("SAELens ", version);
  return absl::OkStatus();
}

// True where "metadata" says nothing or a version from 6 on.
bool IsVersion6(const json& cfg) {
  const json* metadata = JsonFind(cfg, "metadata");
  if (metadata == nullptr || !metadata->is_object()) return false;
  const json* version = JsonFind(*metadata, "sae_lens_version");
  if (version == nullptr || !version->is_string()) return true;
  int major = 0;
  const std::vector<std::string> parts = absl::StrSplit(version->get<std::string>(), '.');
  return !absl::SimpleAtoi(parts[0], &major) || major >= 6;
}

}  // namespace

absl::StatusOr<SaeLensConfig> ParseSaeLensConfig(const json& cfg, absl::string_view path) {
  if (!cfg.is_object()) return InvalidArgument(path, ": not a JSON object");
  SaeLensConfig result;
  RETURN_IF_ERROR(IsVersion6(cfg) ? ReadVersion6(cfg, path, &result)
                                  : ReadFlat(cfg, path, &result));
  // Only training has a use for these.
  for (const char* key : {"l1_coefficient", "l0_coefficient", "aux_loss_coefficient",
                          "topk_threshold_lr", "decoder_init_norm"}) {
    if (IsVersion6(cfg) && cfg.contains(key)) {
      absl::StrAppend(&result.recognition.format, ", training checkpoint");
      break;
    }
  }
  return result;
}

}  // namespace featurescope
