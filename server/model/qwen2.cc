// Qwen2 and Qwen2.5 (also DeepSeek-R1-Distill-Qwen): Llama with biases of q, k and v.
//
// Source: HF transformers, modeling_qwen2.py.
#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/llama_family.h"

namespace featurescope {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  RETURN_IF_ERROR(reader.Require("attention_bias", true));
  LlamaFamilyDefaults defaults;
  defaults.n_ctx = 32768;
  ASSIGN_OR_RETURN(ModelConfig config, ReadLlamaFamilyConfig(reader, defaults));
  config.attention_bias = true;
  RETURN_IF_ERROR(ReadQwenWindows(reader, &config));
  return config;
}

}  // namespace

const Architecture kQwen2 = {"qwen2", ReadConfig, ReadLlamaFamilyWeights};

}  // namespace featurescope
