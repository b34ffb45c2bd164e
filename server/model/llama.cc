// Llama 1 to 3, and what is built like them (TinyLlama, DeepSeek-R1-Distill-Llama).
//
// Source: HF transformers, modeling_llama.py.
#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/llama_family.h"

namespace featurescope {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  RETURN_IF_ERROR(reader.Require("sliding_window", nullptr));
  reader.Ignore({"is_llama_config"});
  ASSIGN_OR_RETURN(ModelConfig config, ReadLlamaFamilyConfig(reader, {}));
  RETURN_IF_ERROR(ReadAttentionBias(reader, &config));
  ASSIGN_OR_RETURN(config.mlp_bias, reader.BoolOr("mlp_bias", false));
  return config;
}

}  // namespace

const Architecture kLlama = {"llama", ReadConfig, ReadLlamaFamilyWeights};

}  // namespace featurescope
