// Llama: rotary positions, RMSNorm, grouped-query attention, gated MLP; weights stored
// [d_out, d_in].
//
// Source: HF transformers, modeling_llama.py and modeling_rope_utils.py ("llama3" scaling).
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/model/architecture.h"
#include "server/model/limits.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// `scaling` is rope_scaling, or rope_parameters in the files of newer releases.
absl::Status ReadRopeScaling(const nlohmann::json& scaling, absl::string_view what,
                             RotaryConfig* rotary) {
  const bool old_key = JsonFind(scaling, "rope_type") == nullptr;
  ASSIGN_OR_RETURN(std::string type,
                   JsonStringOr(scaling, old_key ? "type" : "rope_type", what, "default"));
  ASSIGN_OR_RETURN(rotary->theta,
                   JsonFloatOr(scaling, "rope_theta", what, rotary->theta, 1e-3, 1e12));
  if (type == "default") return absl::OkStatus();
  if (type != "llama3") {
    return Unimplemented(what, ": rope type \"", type,
                         "\" is not supported; supported: default, llama3");
  }
  ASSIGN_OR_RETURN(rotary->factor, JsonFloat(scaling, "factor", what, 1, 1e6));
  ASSIGN_OR_RETURN(rotary->low_freq_factor, JsonFloat(scaling, "low_freq_factor", what, 1e-3, 1e6));
  ASSIGN_OR_RETURN(rotary->high_freq_factor,
                   JsonFloat(scaling, "high_freq_factor", what, 1e-3, 1e6));
  if (rotary->high_freq_factor <= rotary->low_freq_factor) {
    return InvalidArgument(what, ": high_freq_factor ", rotary->high_freq_factor,
                           " is not above low_freq_factor ", rotary->low_freq_factor);
  }
  ASSIGN_OR_RETURN(rotary->original_context,
                   JsonInt(scaling, "original_max_position_embeddings", what, 1, kMaxContext));
  return absl::OkStatus();
}

absl::Status ReadRotary(const nlohmann::json& json, absl::string_view what, int64_t d_head,
                        RotaryConfig* rotary) {
  RETURN_IF_ERROR(RequireSetting(json, "partial_rotary_factor", 1.0, what));
  if (d_head % 2 != 0) {
    return InvalidArgument(what, ": head_dim ", d_head, " is odd; rotary positions need pairs");
  }
  rotary->rotary_dims = d_head;
  ASSIGN_OR_RETURN(rotary->theta, JsonFloatOr(json, "rope_theta", what, 10000.0, 1e-3, 1e12));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (const nlohmann::json* scaling = JsonFind(json, key); scaling != nullptr) {
      if (!scaling->is_object()) return InvalidArgument(what, ": ", key, " is not an object");
      RETURN_IF_ERROR(ReadRopeScaling(*scaling, absl::StrCat(what, ": ", key), rotary));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadHeads(const nlohmann::json& json, absl::string_view what, ModelConfig* config) {
  ASSIGN_OR_RETURN(config->n_heads, JsonInt(json, "num_attention_heads", what, 1, kMaxHeads));
  ASSIGN_OR_RETURN(config->n_kv_heads,
                   JsonIntOr(json, "num_key_value_heads", what, config->n_heads, 1, kMaxHeads));
  if (config->n_heads % config->n_kv_heads != 0) {
    return InvalidArgument(what, ": num_attention_heads ", config->n_heads,
                           " is not a multiple of num_key_value_heads ", config->n_kv_heads);
  }
  if (JsonFind(json, "head_dim") == nullptr && config->d_model % config->n_heads != 0) {
    return InvalidArgument(what, ": hidden_size ", config->d_model,
                           " is not a multiple of num_attention_heads ", config->n_heads);
  }
  ASSIGN_OR_RETURN(config->d_head, JsonIntOr(json, "head_dim", what,
                                             config->d_model / config->n_heads, 1, kMaxWidth));
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadConfig(const nlohmann::json& json, absl::string_view what) {
  RETURN_IF_ERROR(RequireSetting(json, "sliding_window", nullptr, what));

  ModelConfig config;
  ASSIGN_OR_RETURN(int64_t n_layers, JsonInt(json, "num_hidden_layers", what, 1, kMaxLayers));
  config.n_layers = static_cast<int>(n_layers);
  ASSIGN_OR_RETURN(config.d_model, JsonInt(json, "hidden_size", what, 1, kMaxWidth));
  RETURN_IF_ERROR(ReadHeads(json, what, &config));
  ASSIGN_OR_RETURN(config.d_mlp, JsonInt(json, "intermediate_size", what, 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.d_vocab, JsonInt(json, "vocab_size", what, 1, kMaxVocabulary));
  ASSIGN_OR_RETURN(config.n_ctx,
                   JsonIntOr(json, "max_position_embeddings", what, 2048, 1, kMaxContext));

  config.norm = NormKind::kRmsNorm;
  ASSIGN_OR_RETURN(config.norm_eps, JsonFloatOr(json, "rms_norm_eps", what, 1e-6, 0, 1));
  ASSIGN_OR_RETURN(std::string activation, JsonStringOr(json, "hidden_act", what, "silu"));
  ASSIGN_OR_RETURN(config.activation, ParseActivation(activation, "hidden_act", what));
  config.gated_mlp = true;
  config.positions = PositionKind::kRotary;
  RETURN_IF_ERROR(ReadRotary(json, what, config.d_head, &config.rotary));
  ASSIGN_OR_RETURN(config.attention_bias, JsonBoolOr(json, "attention_bias", what, false));
  config.attention_out_bias = config.attention_bias;
  ASSIGN_OR_RETURN(config.mlp_bias, JsonBoolOr(json, "mlp_bias", what, false));
  ASSIGN_OR_RETURN(config.tied_embeddings, JsonBoolOr(json, "tie_word_embeddings", what, false));
  return config;
}

// One matrix for q, k and v, so that one product computes all three.
absl::StatusOr<LinearWeights> ReadQkv(const ModelConfig& config, const std::string& attention,
                                      WeightReader& reader) {
  const int64_t rows[] = {config.n_heads * config.d_head, config.n_kv_heads * config.d_head,
                          config.n_kv_heads * config.d_head};
  std::string weights[3];
  std::string biases[3];
  for (int i = 0; i < 3; ++i) {
    const std::string name = absl::StrCat(attention, ".", absl::string_view("qkv").substr(i, 1));
    weights[i] = absl::StrCat(name, "_proj.weight");
    biases[i] = absl::StrCat(name, "_proj.bias");
  }
  LinearWeights qkv;
  ASSIGN_OR_RETURN(qkv.weight, reader.ReadStacked(weights, rows, config.d_model));
  qkv.weight = qkv.weight.t();
  if (config.attention_bias) {
    ASSIGN_OR_RETURN(qkv.bias, reader.ReadStacked(biases, rows, 0));
  }
  return qkv;
}

absl::StatusOr<BlockWeights> ReadBlock(const ModelConfig& config, const std::string& name,
                                       WeightReader& reader) {
  const int64_t d = config.d_model;
  const std::string attention = absl::StrCat(name, ".self_attn");
  const std::string mlp = absl::StrCat(name, ".mlp");
  BlockWeights block;
  ASSIGN_OR_RETURN(block.ln1, reader.ReadNorm(absl::StrCat(name, ".input_layernorm"), d, false));
  ASSIGN_OR_RETURN(block.qkv, ReadQkv(config, attention, reader));
  ASSIGN_OR_RETURN(block.attn_out, reader.ReadLinearTransposed(absl::StrCat(attention, ".o_proj"),
                                                               config.n_heads * config.d_head, d,
                                                               config.attention_out_bias));
  ASSIGN_OR_RETURN(block.ln2,
                   reader.ReadNorm(absl::StrCat(name, ".post_attention_layernorm"), d, false));
  ASSIGN_OR_RETURN(block.mlp_in, reader.ReadLinearTransposed(absl::StrCat(mlp, ".gate_proj"), d,
                                                             config.d_mlp, config.mlp_bias));
  ASSIGN_OR_RETURN(block.mlp_up, reader.ReadLinearTransposed(absl::StrCat(mlp, ".up_proj"), d,
                                                             config.d_mlp, config.mlp_bias));
  ASSIGN_OR_RETURN(block.mlp_out, reader.ReadLinearTransposed(absl::StrCat(mlp, ".down_proj"),
                                                              config.d_mlp, d, config.mlp_bias));
  reader.Skip(absl::StrCat(attention, ".rotary_emb.inv_freq"));  // recomputed, it may be rounded
  return block;
}

absl::StatusOr<ModelWeights> ReadWeights(const ModelConfig& config, WeightReader& reader) {
  const int64_t d = config.d_model;
  const std::string prefix = reader.Has("model.embed_tokens.weight") ? "model." : "";
  ModelWeights weights;
  ASSIGN_OR_RETURN(weights.embed,
                   reader.Read(absl::StrCat(prefix, "embed_tokens.weight"), {config.d_vocab, d}));
  for (int layer = 0; layer < config.n_layers; ++layer) {
    ASSIGN_OR_RETURN(BlockWeights block,
                     ReadBlock(config, absl::StrCat(prefix, "layers.", layer), reader));
    weights.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(weights.ln_final, reader.ReadNorm(absl::StrCat(prefix, "norm"), d, false));
  if (config.tied_embeddings) {
    weights.unembed = weights.embed.t();
    reader.Skip("lm_head.weight");
  } else {
    ASSIGN_OR_RETURN(LinearWeights head,
                     reader.ReadLinearTransposed("lm_head", d, config.d_vocab, false));
    weights.unembed = head.weight;
  }
  return weights;
}

}  // namespace

const Architecture kLlama = {"llama", ReadConfig, ReadWeights};

}  // namespace featurescope
