#include "server/sae/openmoss_config.h"

#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "server/base/hook_point.h"
#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

using nlohmann::json;

constexpr double kTiny = std::numeric_limits<float>::min();
constexpr double kHuge = std::numeric_limits<float>::max();

absl::Status ReadWidths(const json& cfg, absl::string_view path, SaeConfig* config) {
  ASSIGN_OR_RETURN(config->d_in, JsonInt(cfg, "d_model", path, 1, kMaxSaeWidth));
  config->d_out = config->d_in;
  if (JsonFind(cfg, "d_sae") != nullptr) {
    ASSIGN_OR_RETURN(config->d_sae, JsonInt(cfg, "d_sae", path, 1, kMaxSaeWidth));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const double factor, JsonFloat(cfg, "expansion_factor", path, 0, kMaxSaeWidth));
  const double d_sae = std::floor(factor * static_cast<double>(config->d_in));
  if (!(d_sae >= 1 && d_sae <= kMaxSaeWidth)) {
    return InvalidArgument(path, ": expansion_factor ", factor, " times d_model ", config->d_in,
                           " is no number of features in [1, ", kMaxSaeWidth, "]");
  }
  config->d_sae = static_cast<int64_t>(d_sae);
  return absl::OkStatus();
}

absl::Status ReadHooks(const json& cfg, absl::string_view path, SaeRecognition* found,
                       bool* transcoder) {
  ASSIGN_OR_RETURN(const std::string in, JsonStringOr(cfg, "hook_point_in", path, ""));
  ASSIGN_OR_RETURN(const std::string out, JsonStringOr(cfg, "hook_point_out", path, in));
  *transcoder = in != out;
  found->hook_as_given = *transcoder ? absl::StrCat(in, " -> ", out) : in;
  if (HookPoint::Parse(in).ok()) found->hook_name = in;
  if (*transcoder && HookPoint::Parse(out).ok()) found->hook_name_out = out;
  return absl::OkStatus();
}

absl::Status ReadActivation(const json& cfg, absl::string_view path, bool transcoder,
                            OpenMossConfig* result) {
  SaeConfig& config = result->config;
  ASSIGN_OR_RETURN(std::string function, JsonStringOr(cfg, "act_fn", path, "relu"));
  absl::AsciiStrToLower(&function);
  if (JsonFind(cfg, "jump_relu_threshold") != nullptr) {
    ASSIGN_OR_RETURN(const double threshold, JsonFloat(cfg, "jump_relu_threshold", path, 0, kHuge));
    if (threshold > 0) result->jump_relu_threshold = threshold;
  }
  if (function == "topk" && result->jump_relu_threshold.has_value()) {
    result->recognition.notes.push_back(
        absl::StrCat("jumprelu, not topk: jump_relu_threshold is set, and by it OpenMOSS runs the "
                     "SAE outside of training"));
    function = "jumprelu";
  }
  if (function == "topk" || function == "batchtopk") {
    ASSIGN_OR_RETURN(config.k, JsonInt(cfg, "top_k", path, 1, config.d_sae));
  }
  const bool known = function == "relu" || function == "topk" || function == "jumprelu" ||
                     (function == "batchtopk" && !transcoder);
  if (!known) {
    return Unimplemented(path, ": act_fn '", function, "'", transcoder ? " of a transcoder" : "",
                         " is not supported");
  }
  config.architecture = function == "relu"
                            ? (transcoder ? "transcoder" : "standard")
                            : absl::StrCat(function, transcoder ? "_transcoder" : "");
  return absl::OkStatus();
}

absl::Status ReadNorm(const json& cfg, absl::string_view path, OpenMossConfig* result) {
  ASSIGN_OR_RETURN(const std::string norm,
                   JsonStringOr(cfg, "norm_activation", path, "dataset-wise"));
  if (norm == "inference") return absl::OkStatus();
  if (norm == "token-wise") {
    result->norm = OpenMossNorm::kTokenWise;
    return absl::OkStatus();
  }
  if (norm != "dataset-wise") {
    return Unimplemented(path, ": norm_activation '", norm, "' is not supported");
  }
  result->norm = OpenMossNorm::kDatasetWise;
  const json* average = JsonFind(cfg, "dataset_average_activation_norm");
  if (average == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(result->average_norm_in, JsonFloat(*average, "in", path, kTiny, kHuge));
  ASSIGN_OR_RETURN(result->average_norm_out,
                   JsonFloatOr(*average, "out", path, *result->average_norm_in, kTiny, kHuge));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OpenMossConfig> ParseOpenMossConfig(const json& cfg, absl::string_view path) {
  if (!cfg.is_object()) return InvalidArgument(path, ": not a JSON object");
  OpenMossConfig result;
  RETURN_IF_ERROR(ReadWidths(cfg, path, &result.config));
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(cfg, "sae_type", path, "sae"));
  if (type != "sae") return Unimplemented(path, ": sae_type '", type, "' is not supported");
  ASSIGN_OR_RETURN(const bool glu, JsonBoolOr(cfg, "use_glu_encoder", path, false));
  if (glu) return Unimplemented(path, ": use_glu_encoder is not supported");
  bool transcoder = false;
  RETURN_IF_ERROR(ReadHooks(cfg, path, &result.recognition, &transcoder));
  result.config.reshape_hook_z = absl::EndsWith(result.recognition.hook_name, "hook_z");
  RETURN_IF_ERROR(ReadActivation(cfg, path, transcoder, &result));
  RETURN_IF_ERROR(ReadNorm(cfg, path, &result));
  ASSIGN_OR_RETURN(result.use_decoder_bias, JsonBoolOr(cfg, "use_decoder_bias", path, true));
  ASSIGN_OR_RETURN(result.sparsity_include_decoder_norm,
                   JsonBoolOr(cfg, "sparsity_include_decoder_norm", path, true));
  ASSIGN_OR_RETURN(result.config.apply_b_dec_to_input,
                   JsonBoolOr(cfg, "apply_decoder_bias_to_pre_encoder", path, false));
  if (transcoder && result.config.apply_b_dec_to_input) {
    return Unimplemented(path, ": apply_decoder_bias_to_pre_encoder of a transcoder");
  }
  return result;
}

}  // namespace featurescope
