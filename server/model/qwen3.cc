// Qwen3: Llama with an RMSNorm on each head's q and k, and heads of a width of their own.
//
// Source: HF transformers, modeling_qwen3.py. hook_q and hook_k are before the norm, as in
// TransformerLens.
#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/llama_family.h"

namespace featurescope {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  LlamaFamilyDefaults defaults;
  defaults.n_ctx = 32768;
  defaults.d_head = 128;
  ASSIGN_OR_RETURN(ModelConfig config, ReadLlamaFamilyConfig(reader, defaults));
  config.qk_norm = true;
  RETURN_IF_ERROR(ReadAttentionBias(reader, &config));
  RETURN_IF_ERROR(ReadQwenWindows(reader, &config));
  return config;
}

}  // namespace

const Architecture kQwen3 = {"qwen3", ReadConfig, ReadLlamaFamilyWeights};

}  // namespace featurescope
