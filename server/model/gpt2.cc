// GPT-2: learned positions, LayerNorm before attention and MLP, Conv1D weights stored [d_in,
// d_out].
//
// Source: HF transformers, modeling_gpt2.py. Checkpoints exist with and without the "transformer."
// prefix; attn.bias and attn.masked_bias are causal masks, not biases.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/limits.h"

namespace featurescope {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  RETURN_IF_ERROR(reader.Require("scale_attn_weights", true));
  RETURN_IF_ERROR(reader.Require("scale_attn_by_inverse_layer_idx", false));
  reader.Ignore({"reorder_and_upcast_attn", "n_ctx"});  // precision only; as n_positions

  ModelConfig config;
  ASSIGN_OR_RETURN(int64_t n_layers, reader.Int("n_layer", 1, kMaxLayers));
  config.n_layers = static_cast<int>(n_layers);
  ASSIGN_OR_RETURN(config.d_model, reader.Int("n_embd", 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.n_heads, reader.Int("n_head", 1, kMaxHeads));
  if (config.d_model % config.n_heads != 0) {
    return InvalidArgument(reader.what(), ": n_embd ", config.d_model,
                           " is not a multiple of n_head ", config.n_heads);
  }
  config.n_kv_heads = config.n_heads;
  config.d_head = config.d_model / config.n_heads;
  ASSIGN_OR_RETURN(config.d_mlp, reader.IntOr("n_inner", 4 * config.d_model, 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.d_vocab, reader.Int("vocab_size", 1, kMaxVocabulary));
  const absl::string_view context = reader.Has("n_positions") ? "n_positions" : "n_ctx";
  ASSIGN_OR_RETURN(config.n_ctx, reader.Int(context, 1, kMaxContext));
  ASSIGN_OR_RETURN(config.norm_eps, reader.FloatOr("layer_norm_epsilon", 1e-5, 0, 1));
  ASSIGN_OR_RETURN(std::string activation, reader.StringOr("activation_function", "gelu_new"));
  ASSIGN_OR_RETURN(config.activation,
                   ParseActivation(activation, "activation_function", reader.what()));
  ASSIGN_OR_RETURN(config.tied_embeddings, reader.BoolOr("tie_word_embeddings", true));
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
  RETURN_IF_ERROR(ReadUnembedding(config, "lm_head", reader, &weights));
  return weights;
}

}  // namespace

const Architecture kGpt2 = {"gpt2", ReadConfig, ReadWeights};

}  // namespace featurescope
