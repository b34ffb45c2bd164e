// Gemma: Llama with scaled embeddings, tied; norm weights stored less 1; tanh-GELU; heads of a
// width of their own.
//
// Source: HF transformers, modeling_gemma.py.
#include "server/model/gemma.h"

#include <cmath>

#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/llama_family.h"

namespace featurescope {

absl::StatusOr<ModelConfig> ReadGemmaConfig(ConfigReader& reader) {
  reader.Ignore({"hidden_act"});
  RETURN_IF_ERROR(reader.Require("use_bidirectional_attention", false));
  LlamaFamilyDefaults defaults;
  defaults.n_ctx = 8192;
  defaults.d_head = 256;
  defaults.tied_embeddings = true;
  defaults.activation_key = "hidden_activation";
  defaults.activation = "gelu_pytorch_tanh";
  ASSIGN_OR_RETURN(ModelConfig config, ReadLlamaFamilyConfig(reader, defaults));
  RETURN_IF_ERROR(ReadAttentionBias(reader, &config));
  config.embed_scale = std::sqrt(static_cast<double>(config.d_model));
  config.norm_weight_offset = 1;
  return config;
}

const Architecture kGemma = {"gemma", ReadGemmaConfig, ReadLlamaFamilyWeights};

}  // namespace featurescope
