#include "server/model/config.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/model/architecture.h"
#include "server/model/config_reader.h"

namespace featurescope {
namespace {

constexpr HookKind kAllKinds[] = {HookKind::kEmbed,
                                  HookKind::kPosEmbed,
                                  HookKind::kResidPre,
                                  HookKind::kLn1Normalized,
                                  HookKind::kQ,
                                  HookKind::kK,
                                  HookKind::kV,
                                  HookKind::kAttnScores,
                                  HookKind::kPattern,
                                  HookKind::kZ,
                                  HookKind::kAttnOut,
                                  HookKind::kResidMid,
                                  HookKind::kLn2Normalized,
                                  HookKind::kMlpPre,
                                  HookKind::kMlpPreLinear,
                                  HookKind::kMlpPost,
                                  HookKind::kMlpOut,
                                  HookKind::kResidPost,
                                  HookKind::kLnFinal};

// Whether the pass of this model has hooks of this kind at all.
absl::Status CheckKind(const ModelConfig& config, const HookPoint& hook) {
  if (hook.kind == HookKind::kPosEmbed && config.positions != PositionKind::kLearned) {
    return InvalidArgument("no hook point ", hook.name(), ": a ", config.model_type,
                           " model has rotary positions, not learned ones");
  }
  if (hook.kind == HookKind::kResidMid && config.parallel_residual) {
    return InvalidArgument("no hook point ", hook.name(),
                           ": attention and MLP of this model run side by side, there is nothing "
                           "between them");
  }
  if (hook.kind == HookKind::kMlpPreLinear && !config.gated_mlp) {
    return InvalidArgument("no hook point ", hook.name(), ": the MLP of a ", config.model_type,
                           " model is not gated");
  }
  return absl::OkStatus();
}

// A token id, or a list of them.
absl::Status ReadTokenIds(ConfigReader& reader, absl::string_view key, int64_t d_vocab,
                          std::vector<uint32_t>* ids) {
  const nlohmann::json* value = reader.Find(key);
  if (value == nullptr) return absl::OkStatus();
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  for (const nlohmann::json& id : list) {
    if (!id.is_number_integer()) {
      return InvalidArgument(reader.what(), ": ", key, " is neither a token id nor a list of them");
    }
    const int64_t number = id.get<int64_t>();
    // Fine-tuned checkpoints carry ids outside their vocabulary; those can never be generated.
    if (number >= 0 && number < d_vocab) ids->push_back(static_cast<uint32_t>(number));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> ModelConfig::HookShape(const HookPoint& hook) const {
  RETURN_IF_ERROR(CheckKind(*this, hook));
  if (IsInBlock(hook.kind) && (hook.layer < 0 || hook.layer >= n_layers)) {
    return InvalidArgument("no hook point ", hook.name(), ": layer ", hook.layer,
                           " is out of range [0, ", n_layers, ")");
  }
  switch (hook.kind) {
    case HookKind::kQ:
    case HookKind::kZ:
      return std::vector<int64_t>{n_heads, d_head};
    case HookKind::kK:
    case HookKind::kV:
      return std::vector<int64_t>{n_kv_heads, d_head};
    case HookKind::kAttnScores:
    case HookKind::kPattern:
      return std::vector<int64_t>{n_heads, -1, -1};
    case HookKind::kMlpPre:
    case HookKind::kMlpPreLinear:
    case HookKind::kMlpPost:
      return std::vector<int64_t>{d_mlp};
    default:
      return std::vector<int64_t>{d_model};
  }
}

absl::StatusOr<int64_t> ModelConfig::HookWidth(const HookPoint& hook) const {
  ASSIGN_OR_RETURN(const std::vector<int64_t> shape, HookShape(hook));
  int64_t width = 1;
  for (int64_t size : shape) {
    if (size < 0) {
      return InvalidArgument("hook point ", hook.name(),
                             " has no width: it holds a matrix per head");
    }
    width *= size;
  }
  return width;
}

std::vector<HookPoint> ModelConfig::AllHooks() const {
  std::vector<HookPoint> before;
  std::vector<HookPoint> after;
  std::vector<HookKind> in_block;
  for (HookKind kind : kAllKinds) {
    if (!CheckKind(*this, HookPoint{kind, 0}).ok()) continue;
    if (IsInBlock(kind)) {
      in_block.push_back(kind);
    } else {
      (in_block.empty() ? before : after).push_back(HookPoint{kind, -1});
    }
  }
  std::vector<HookPoint> hooks = std::move(before);
  for (int layer = 0; layer < n_layers; ++layer) {
    for (HookKind kind : in_block) hooks.push_back(HookPoint{kind, layer});
  }
  hooks.insert(hooks.end(), after.begin(), after.end());
  return hooks;
}

absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view directory) {
  const std::string path = JoinPath(directory, "config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  return ParseModelConfig(text, path);
}

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view text, absl::string_view path) {
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, path));
  ASSIGN_OR_RETURN(const std::string model_type, JsonString(json, "model_type", path));
  const Architecture* architecture = FindArchitecture(model_type);
  if (architecture == nullptr) {
    return Unimplemented(path, ": model_type \"", model_type,
                         "\" is not supported; supported: ", SupportedArchitectures());
  }
  ConfigReader reader(json, path);
  RETURN_IF_ERROR(reader.Require("quantization_config", nullptr));
  RETURN_IF_ERROR(reader.Require("is_encoder_decoder", false));
  RETURN_IF_ERROR(reader.Require("add_cross_attention", false));
  RETURN_IF_ERROR(reader.Require("is_causal", true));
  ASSIGN_OR_RETURN(ModelConfig config, architecture->read_config(reader));
  config.model_type = model_type;
  if (config.attention_scale == 0) {
    config.attention_scale = 1 / std::sqrt(static_cast<double>(config.d_head));
  }
  std::vector<uint32_t> bos;
  RETURN_IF_ERROR(ReadTokenIds(reader, "bos_token_id", config.d_vocab, &bos));
  if (!bos.empty()) config.bos_id = bos.front();
  RETURN_IF_ERROR(ReadTokenIds(reader, "eos_token_id", config.d_vocab, &config.eos_ids));
  RETURN_IF_ERROR(reader.CheckAllKnown());
  return config;
}

}  // namespace featurescope
