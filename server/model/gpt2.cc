// GPT-2: learned positions, LayerNorm before attention and MLP, Conv1D weights stored [d_in,
// d_out].
//
// Source: HF transformers, modeling_gpt2.py. Checkpoints exist with and without the "transformer."
// prefix; attn.bias and attn.masked_bias are causal masks, not biases.
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/model/architecture.h"
#include "server/model/limits.h"

namespace featurescope {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(const nlohmann::json& json, absl::string_view what) {
  RETURN_IF_ERROR(RequireSetting(json, "scale_attn_weights", true, what));
  RETURN_IF_ERROR(RequireSetting(json, "scale_attn_by_inverse_layer_idx", false, what));
  RETURN_IF_ERROR(RequireSetting(json, "add_cross_attention", false, what));

  ModelConfig config;
  ASSIGN_OR_RETURN(int64_t n_layers, JsonInt(json, "n_layer", what, 1, kMaxLayers));
  config.n_layers = static_cast<int>(n_layers);
  ASSIGN_OR_RETURN(config.d_model, JsonInt(json, "n_embd", what, 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.n_heads, JsonInt(json, "n_head", what, 1, kMaxHeads));
  if (config.d_model % config.n_heads != 0) {
    return InvalidArgument(what, ": n_embd ", config.d_model, " is not a multiple of n_head ",
                           config.n_heads);
  }
  config.n_kv_heads = config.n_heads;
  config.d_head = config.d_model / config.n_heads;
  ASSIGN_OR_RETURN(config.d_mlp,
                   JsonIntOr(json, "n_inner", what, 4 * config.d_model, 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.d_vocab, JsonInt(json, "vocab_size", what, 1, kMaxVocabulary));
  const bool has_positions = JsonFind(json, "n_positions") != nullptr;
  ASSIGN_OR_RETURN(config.n_ctx,
                   JsonInt(json, has_positions ? "n_positions" : "n_ctx", what, 1, kMaxContext));

  config.norm = NormKind::kLayerNorm;
  ASSIGN_OR_RETURN(config.norm_eps, JsonFloatOr(json, "layer_norm_epsilon", what, 1e-5, 0, 1));
  ASSIGN_OR_RETURN(std::string activation,
                   JsonStringOr(json, "activation_function", what, "gelu_new"));
  ASSIGN_OR_RETURN(config.activation, ParseActivation(activation, "activation_function", what));
  config.positions = PositionKind::kLearned;
  ASSIGN_OR_RETURN(config.tied_embeddings, JsonBoolOr(json, "tie_word_embeddings", what, true));
  return config;
}

absl::StatusOr<BlockWeights> ReadBlock(const ModelConfig& config, const std::string& name,
                                       WeightReader& reader) {
  const int64_t d = config.d_model;
  BlockWeights block;
  ASSIGN_OR_RETURN(block.ln1, reader.ReadNorm(absl::StrCat(name, ".ln_1"), d, true));
  ASSIGN_OR_RETURN(block.qkv,
                   reader.ReadLinear(absl::StrCat(name, ".attn.c_attn"), d, 3 * d, true));
  ASSIGN_OR_RETURN(block.attn_out,
                   reader.ReadLinear(absl::StrCat(name, ".attn.c_proj"), d, d, true));
  ASSIGN_OR_RETURN(block.ln2, reader.ReadNorm(absl::StrCat(name, ".ln_2"), d, true));
  ASSIGN_OR_RETURN(block.mlp_in,
                   reader.ReadLinear(absl::StrCat(name, ".mlp.c_fc"), d, config.d_mlp, true));
  ASSIGN_OR_RETURN(block.mlp_out,
                   reader.ReadLinear(absl::StrCat(name, ".mlp.c_proj"), config.d_mlp, d, true));
  reader.Skip(absl::StrCat(name, ".attn.bias"));
  reader.Skip(absl::StrCat(name, ".attn.masked_bias"));
  return block;
}

absl::StatusOr<ModelWeights> ReadWeights(const ModelConfig& config, WeightReader& reader) {
  const int64_t d = config.d_model;
  const std::string prefix = reader.Has("transformer.wte.weight") ? "transformer." : "";
  ModelWeights weights;
  ASSIGN_OR_RETURN(weights.embed,
                   reader.Read(absl::StrCat(prefix, "wte.weight"), {config.d_vocab, d}));
  ASSIGN_OR_RETURN(weights.pos_embed,
                   reader.Read(absl::StrCat(prefix, "wpe.weight"), {config.n_ctx, d}));
  for (int layer = 0; layer < config.n_layers; ++layer) {
    ASSIGN_OR_RETURN(BlockWeights block,
                     ReadBlock(config, absl::StrCat(prefix, "h.", layer), reader));
    weights.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(weights.ln_final, reader.ReadNorm(absl::StrCat(prefix, "ln_f"), d, true));
  if (config.tied_embeddings) {
    weights.unembed = weights.embed.t();
    reader.Skip("lm_head.weight");  // some checkpoints hold the tied matrix twice
  } else {
    ASSIGN_OR_RETURN(LinearWeights head,
                     reader.ReadLinearTransposed("lm_head", d, config.d_vocab, false));
    weights.unembed = head.weight;
  }
  return weights;
}

}  // namespace

const Architecture kGpt2 = {"gpt2", ReadConfig, ReadWeights};

}  // namespace featurescope
