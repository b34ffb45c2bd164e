#include "server/model/llama_family.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/model/architecture.h"
#include "server/model/limits.h"
#include "server/model/rotary.h"

namespace featurescope {
namespace {

absl::Status ReadHeads(ConfigReader& reader, int64_t default_d_head, ModelConfig* config) {
  ASSIGN_OR_RETURN(config->n_heads, reader.Int("num_attention_heads", 1, kMaxHeads));
  ASSIGN_OR_RETURN(config->n_kv_heads,
                   reader.IntOr("num_key_value_heads", config->n_heads, 1, kMaxHeads));
  if (config->n_heads % config->n_kv_heads != 0) {
    return InvalidArgument(reader.what(), ": num_attention_heads ", config->n_heads,
                           " is not a multiple of num_key_value_heads ", config->n_kv_heads);
  }
  if (default_d_head == 0) {
    if (!reader.Has("head_dim") && config->d_model % config->n_heads != 0) {
      return InvalidArgument(reader.what(), ": hidden_size ", config->d_model,
                             " is not a multiple of num_attention_heads ", config->n_heads);
    }
    default_d_head = config->d_model / config->n_heads;
  }
  ASSIGN_OR_RETURN(config->d_head, reader.IntOr("head_dim", default_d_head, 1, kMaxWidth));
  return absl::OkStatus();
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

absl::Status ReadAttention(const ModelConfig& config, const std::string& block_name,
                           WeightReader& reader, BlockWeights* block) {
  const std::string name = absl::StrCat(block_name, ".self_attn");
  ASSIGN_OR_RETURN(block->qkv, ReadQkv(config, name, reader));
  if (config.qk_norm) {
    ASSIGN_OR_RETURN(block->q_norm,
                     reader.ReadNorm(absl::StrCat(name, ".q_norm"), config.d_head, false));
    ASSIGN_OR_RETURN(block->k_norm,
                     reader.ReadNorm(absl::StrCat(name, ".k_norm"), config.d_head, false));
  }
  ASSIGN_OR_RETURN(
      block->attn_out,
      reader.ReadLinearTransposed(absl::StrCat(name, ".o_proj"), config.n_heads * config.d_head,
                                  config.d_model, config.attention_out_bias));
  reader.Skip(absl::StrCat(name, ".rotary_emb.inv_freq"));  // recomputed, it may be rounded
  return absl::OkStatus();
}

absl::Status ReadMlp(const ModelConfig& config, const std::string& block_name, WeightReader& reader,
                     BlockWeights* block) {
  const std::string name = absl::StrCat(block_name, ".mlp");
  const int64_t d = config.d_model;
  ASSIGN_OR_RETURN(block->mlp_in, reader.ReadLinearTransposed(absl::StrCat(name, ".gate_proj"), d,
                                                              config.d_mlp, config.mlp_bias));
  ASSIGN_OR_RETURN(block->mlp_up, reader.ReadLinearTransposed(absl::StrCat(name, ".up_proj"), d,
                                                              config.d_mlp, config.mlp_bias));
  ASSIGN_OR_RETURN(block->mlp_out, reader.ReadLinearTransposed(absl::StrCat(name, ".down_proj"),
                                                               config.d_mlp, d, config.mlp_bias));
  return absl::OkStatus();
}

absl::StatusOr<BlockWeights> ReadBlock(const ModelConfig& config, const std::string& name,
                                       WeightReader& reader) {
  const auto norm = [&](absl::string_view which) {
    return reader.ReadNorm(absl::StrCat(name, ".", which), config.d_model, false,
                           config.norm_weight_offset);
  };
  BlockWeights block;
  ASSIGN_OR_RETURN(block.ln1, norm("input_layernorm"));
  RETURN_IF_ERROR(ReadAttention(config, name, reader, &block));
  if (config.post_norms) {
    ASSIGN_OR_RETURN(block.attn_post_norm, norm("post_attention_layernorm"));
    ASSIGN_OR_RETURN(block.ln2, norm("pre_feedforward_layernorm"));
    ASSIGN_OR_RETURN(block.mlp_post_norm, norm("post_feedforward_layernorm"));
  } else {
    ASSIGN_OR_RETURN(block.ln2, norm("post_attention_layernorm"));
  }
  RETURN_IF_ERROR(ReadMlp(config, name, reader, &block));
  return block;
}

}  // namespace

absl::StatusOr<ModelConfig> ReadLlamaFamilyConfig(ConfigReader& reader,
                                                  const LlamaFamilyDefaults& defaults) {
  ModelConfig config;
  ASSIGN_OR_RETURN(int64_t n_layers, reader.Int("num_hidden_layers", 1, kMaxLayers));
  config.n_layers = static_cast<int>(n_layers);
  ASSIGN_OR_RETURN(config.d_model, reader.Int("hidden_size", 1, kMaxWidth));
  RETURN_IF_ERROR(ReadHeads(reader, defaults.d_head, &config));
  ASSIGN_OR_RETURN(config.d_mlp, reader.Int("intermediate_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.d_vocab, reader.Int("vocab_size", 1, kMaxVocabulary));
  ASSIGN_OR_RETURN(config.n_ctx,
                   reader.IntOr("max_position_embeddings", defaults.n_ctx, 1, kMaxContext));
  config.norm = NormKind::kRmsNorm;
  ASSIGN_OR_RETURN(config.norm_eps, reader.FloatOr("rms_norm_eps", 1e-6, 0, 1));
  ASSIGN_OR_RETURN(const std::string activation,
                   reader.StringOr(defaults.activation_key, defaults.activation));
  ASSIGN_OR_RETURN(config.activation,
                   ParseActivation(activation, defaults.activation_key, reader.what()));
  config.gated_mlp = true;
  RETURN_IF_ERROR(reader.Require("partial_rotary_factor", 1.0));
  RETURN_IF_ERROR(ReadRotary(reader, "rope_theta", 1.0, &config));
  // Files of stretched models may say their context here only; unread where scaling depends on it.
  ASSIGN_OR_RETURN(const int64_t longest,
                   reader.IntOr("max_sequence_length", config.n_ctx, 1, kMaxContext));
  if (config.rotary.scaling != RopeScaling::kDynamic) {
    config.n_ctx = std::max(config.n_ctx, longest);
  }
  config.attention_bias = false;
  config.attention_out_bias = false;
  config.mlp_bias = false;
  ASSIGN_OR_RETURN(config.tied_embeddings,
                   reader.BoolOr("tie_word_embeddings", defaults.tied_embeddings));
  return config;
}

absl::Status ReadAttentionBias(ConfigReader& reader, ModelConfig* config) {
  ASSIGN_OR_RETURN(config->attention_bias, reader.BoolOr("attention_bias", false));
  config->attention_out_bias = config->attention_bias;
  return absl::OkStatus();
}

absl::Status ReadWindows(ConfigReader& reader, int64_t absent,
                         const std::function<bool(int64_t layer)>& has_window,
                         ModelConfig* config) {
  const int64_t otherwise = reader.Mentions("sliding_window") ? 0 : absent;
  ASSIGN_OR_RETURN(const int64_t window, reader.IntOr("sliding_window", otherwise, 1, kMaxContext));
  RETURN_IF_ERROR(reader.Require("sliding_window_size", window));
  const nlohmann::json* types = reader.Find("layer_types");
  if (types != nullptr &&
      (!types->is_array() || std::ssize(*types) != static_cast<int64_t>(config->n_layers))) {
    return InvalidArgument(reader.what(),
                           ": layer_types is no list of num_hidden_layers = ", config->n_layers,
                           " names");
  }
  bool any = false;
  std::vector<int64_t> windows;
  for (int64_t layer = 0; layer < config->n_layers; ++layer) {
    bool here = has_window(layer);
    if (types != nullptr) {
      const nlohmann::json& type = (*types)[static_cast<size_t>(layer)];
      here = type == "sliding_attention";
      if (!here && type != "full_attention") {
        return Unimplemented(reader.what(), ": layer_types[", layer, "] = ", type.dump(),
                             " is not supported; supported: full_attention, sliding_attention");
      }
    }
    if (here && types != nullptr && window == 0) {
      return InvalidArgument(reader.what(), ": layer_types[", layer,
                             "] is sliding_attention, but there is no sliding_window");
    }
    windows.push_back(here ? window : 0);
    any = any || windows.back() != 0;
  }
  if (any) config->windows = std::move(windows);
  return absl::OkStatus();
}

absl::Status ReadQwenWindows(ConfigReader& reader, ModelConfig* config) {
  ASSIGN_OR_RETURN(const bool used, reader.BoolOr("use_sliding_window", false));
  ASSIGN_OR_RETURN(const int64_t first, reader.IntOr("max_window_layers", 28, 0, kMaxLayers));
  if (!used) {
    reader.Ignore({"sliding_window"});  // HF drops it, too
    const nlohmann::json* types = reader.Find("layer_types");
    if (types == nullptr || !types->is_array()) return absl::OkStatus();
    for (const nlohmann::json& type : *types) {
      if (type != "full_attention") {
        return InvalidArgument(reader.what(), ": layer_types has ", type.dump(),
                               ", but use_sliding_window is false");
      }
    }
    return absl::OkStatus();
  }
  return ReadWindows(
      reader, 4096, [first](int64_t layer) { return layer >= first; }, config);
}

absl::StatusOr<ModelWeights> ReadLlamaFamilyWeights(const ModelConfig& config,
                                                    WeightReader& reader) {
  const std::string prefix = reader.Has("model.embed_tokens.weight") ? "model." : "";
  ModelWeights weights;
  ASSIGN_OR_RETURN(weights.embed, reader.Read(absl::StrCat(prefix, "embed_tokens.weight"),
                                              {config.d_vocab, config.d_model}));
  for (int layer = 0; layer < config.n_layers; ++layer) {
    ASSIGN_OR_RETURN(BlockWeights block,
                     ReadBlock(config, absl::StrCat(prefix, "layers.", layer), reader));
    weights.blocks.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(weights.ln_final, reader.ReadNorm(absl::StrCat(prefix, "norm"), config.d_model,
                                                     false, config.norm_weight_offset));
  RETURN_IF_ERROR(ReadUnembedding(config, "lm_head", reader, &weights));
  reader.Skip(absl::StrCat(prefix, "rotary_emb.inv_freq"));
  return weights;
}

}  // namespace featurescope
