// GPT-NeoX and Pythia: LayerNorm, rotary positions on a part of each head, attention and MLP side
// by side (or one after the other), weights stored [d_out, d_in].
//
// Source: HF transformers, modeling_gpt_neox.py. The rows of query_key_value are ordered head by
// head, each with its q, k and v. attention.bias and attention.masked_bias are causal masks;
// rotary_emb.inv_freq may be rounded and is computed anew.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/model/architecture.h"
#include "server/model/limits.h"
#include "server/model/rotary.h"

namespace featurescope {
namespace {

// How much of each head is rotated: rotary_pct, partial_rotary_factor in newer files.
absl::StatusOr<double> ReadRotaryShare(ConfigReader& reader) {
  const bool old_name = reader.Has("rotary_pct");
  const bool new_name = reader.Has("partial_rotary_factor");
  ASSIGN_OR_RETURN(const double by_old, reader.FloatOr("rotary_pct", 0.25, 0, 1));
  ASSIGN_OR_RETURN(const double by_new, reader.FloatOr("partial_rotary_factor", by_old, 0, 1));
  if (old_name && by_new != by_old) {
    return InvalidArgument(reader.what(), ": rotary_pct ", by_old, " and partial_rotary_factor ",
                           by_new, " differ");
  }
  const nlohmann::json* parameters = reader.Find("rope_parameters");
  if (old_name || new_name || parameters == nullptr) return by_new;
  return JsonFloatOr(*parameters, "partial_rotary_factor", reader.what(), by_new, 0, 1);
}

absl::Status ReadRotaryPositions(ConfigReader& reader, ModelConfig* config) {
  ASSIGN_OR_RETURN(const double share, ReadRotaryShare(reader));
  const bool old_name = reader.Has("rotary_emb_base");
  if (old_name) {
    ASSIGN_OR_RETURN(const double base, reader.Float("rotary_emb_base", 0, 1e12));
    RETURN_IF_ERROR(reader.Require("rope_theta", base));
  }
  return ReadRotary(reader, old_name ? "rotary_emb_base" : "rope_theta", share, config);
}

absl::StatusOr<ModelConfig> ReadConfig(ConfigReader& reader) {
  ModelConfig config;
  ASSIGN_OR_RETURN(int64_t n_layers, reader.Int("num_hidden_layers", 1, kMaxLayers));
  config.n_layers = static_cast<int>(n_layers);
  ASSIGN_OR_RETURN(config.d_model, reader.Int("hidden_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.n_heads, reader.Int("num_attention_heads", 1, kMaxHeads));
  if (config.d_model % config.n_heads != 0) {
    return InvalidArgument(reader.what(), ": hidden_size ", config.d_model,
                           " is not a multiple of num_attention_heads ", config.n_heads);
  }
  config.n_kv_heads = config.n_heads;
  config.d_head = config.d_model / config.n_heads;
  ASSIGN_OR_RETURN(config.d_mlp, reader.Int("intermediate_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.d_vocab, reader.Int("vocab_size", 1, kMaxVocabulary));
  ASSIGN_OR_RETURN(config.n_ctx, reader.IntOr("max_position_embeddings", 2048, 1, kMaxContext));
  ASSIGN_OR_RETURN(config.norm_eps, reader.FloatOr("layer_norm_eps", 1e-5, 0, 1));
  ASSIGN_OR_RETURN(const std::string activation, reader.StringOr("hidden_act", "gelu"));
  ASSIGN_OR_RETURN(config.activation, ParseActivation(activation, "hidden_act", reader.what()));
  RETURN_IF_ERROR(ReadRotaryPositions(reader, &config));
  ASSIGN_OR_RETURN(config.parallel_residual, reader.BoolOr("use_parallel_residual", true));
  ASSIGN_OR_RETURN(config.attention_bias, reader.BoolOr("attention_bias", true));
  config.attention_out_bias = config.attention_bias;
  ASSIGN_OR_RETURN(config.tied_embeddings, reader.BoolOr("tie_word_embeddings", false));
  return config;
}

// `stacked` has the rows of all q, then those of k, then those of v: its parts in the file's order.
std::vector<torch::Tensor> PartsByHead(const ModelConfig& config, const torch::Tensor& stacked) {
  std::vector<torch::Tensor> parts;
  for (int64_t head = 0; head < config.n_heads; ++head) {
    for (int64_t which = 0; which < 3; ++which) {
      const int64_t row = (which * config.n_heads + head) * config.d_head;
      parts.push_back(stacked.narrow(0, row, config.d_head));
    }
  }
  return parts;
}

absl::StatusOr<LinearWeights> ReadQkv(const ModelConfig& config, const std::string& name,
                                      WeightReader& reader) {
  const int64_t shape[] = {3 * config.d_model, config.d_model};
  const absl::Span<const int64_t> columns = absl::MakeConstSpan(shape).first(1);
  const std::string weight = absl::StrCat(name, ".weight");
  const std::string bias = absl::StrCat(name, ".bias");
  LinearWeights qkv;
  ASSIGN_OR_RETURN(qkv.weight, reader.NewTensorFor(weight, shape));
  RETURN_IF_ERROR(reader.ReadParts(weight, shape, PartsByHead(config, qkv.weight)));
  qkv.weight = qkv.weight.t();
  if (config.attention_bias) {
    ASSIGN_OR_RETURN(qkv.bias, reader.NewTensorFor(bias, columns));
    RETURN_IF_ERROR(reader.ReadParts(bias, columns, PartsByHead(config, qkv.bias)));
  }
  return qkv;
}

absl::StatusOr<BlockWeights> ReadBlock(const ModelConfig& config, const std::string& name,
                                       WeightReader& reader) {
  const int64_t d = config.d_model;
  const std::string attention = absl::StrCat(name, ".attention");
  BlockWeights block;
  ASSIGN_OR_RETURN(block.ln1, reader.ReadNorm(absl::StrCat(name, ".input_layernorm"), d, true));
  ASSIGN_OR_RETURN(block.qkv, ReadQkv(config, absl::StrCat(attention, ".query_key_value"), reader));
  ASSIGN_OR_RETURN(block.attn_out, reader.ReadLinearTransposed(absl::StrCat(attention, ".dense"), d,
                                                               d, config.attention_out_bias));
  ASSIGN_OR_RETURN(block.ln2,
                   reader.ReadNorm(absl::StrCat(name, ".post_attention_layernorm"), d, true));
  ASSIGN_OR_RETURN(
      block.mlp_in,
      reader.ReadLinearTransposed(absl::StrCat(name, ".mlp.dense_h_to_4h"), d, config.d_mlp, true));
  ASSIGN_OR_RETURN(
      block.mlp_out,
      reader.ReadLinearTransposed(absl::StrCat(name, ".mlp.dense_4h_to_h"), config.d_mlp, d, true));
  for (const char* buffer : {".bias", ".masked_bias", ".rotary_emb.inv_freq"}) {
    reader.Skip(absl::StrCat(attention, buffer));
  }
  return block;
}

absl::StatusOr<ModelWeights> ReadWeights(const ModelConfig& config, WeightReader& reader) {
  const int64_t d = config.d_model;
  const std::string prefix = reader.Has("gpt_neox.embed_in.weight") ? "gpt_neox." : "";
  ModelWeights weights;
  ASSIGN_OR_RETURN(weights.embed,
                   reader.Read(absl::StrCat(prefix, "embed_in.weight"), {config.d_vocab, d}));
  for (int layer = 0; layer < config.n_layers; ++layer) {
    ASSIGN_OR_RETURN(BlockWeights block,
                     ReadBlock(config, absl::StrCat(prefix, "layers.", layer), reader));
    weights.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(weights.ln_final,
                   reader.ReadNorm(absl::StrCat(prefix, "final_layer_norm"), d, true));
  RETURN_IF_ERROR(ReadUnembedding(config, "embed_out", reader, &weights));
  reader.Skip(absl::StrCat(prefix, "rotary_emb.inv_freq"));
  return weights;
}

}  // namespace

const Architecture kGptNeox = {"gpt_neox", ReadConfig, ReadWeights};

}  // namespace featurescope
