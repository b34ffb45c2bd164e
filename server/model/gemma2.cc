// Gemma 2: Gemma with norms after attention and MLP, too, soft caps on scores and logits, windows
// on every other layer beginning with the first, and a scale of its own for the scores.
//
// Source: HF transformers, modeling_gemma2.py; Gemma Team 2024, arXiv:2408.00118.
// TransformerLens' table for the published sizes has the windows on the odd layers.
#include <cmath>

#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/gemma.h"
#include "server/model/llama_family.h"

namespace featurescope {
namespace {

// null: no cap.
absl::StatusOr<double> ReadCap(ConfigReader& reader, absl::string_view key, double absent) {
  return reader.FloatOr(key, reader.Mentions(key) ? 0 : absent, 1e-3, 1e6);
}

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadGemmaConfig(reader));
  config.post_norms = true;
  ASSIGN_OR_RETURN(const double scalar, reader.FloatOr("query_pre_attn_scalar", 256, 1e-3, 1e9));
  config.attention_scale = 1 / std::sqrt(scalar);
  ASSIGN_OR_RETURN(config.attention_soft_cap, ReadCap(reader, "attn_logit_softcapping", 50));
  ASSIGN_OR_RETURN(config.logit_soft_cap, ReadCap(reader, "final_logit_softcapping", 30));
  RETURN_IF_ERROR(ReadWindows(
      reader, 4096, [](int64_t layer) { return layer % 2 == 0; }, &config));
  return config;
}

}  // namespace

const Architecture kGemma2 = {"gemma2", ReadConfig, ReadLlamaFamilyWeights};

}  // namespace featurescope
