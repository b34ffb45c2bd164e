#include "server/model/config.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "gtest/gtest.h"
#include "tests/model/support.h"

namespace featurescope {
namespace {

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "/config_test";
    std::filesystem::create_directories(directory_);
    gpt2_ = ReadJson(GoldenModel("gpt2") + "/config.json");
    llama_ = ReadJson(GoldenModel("llama") + "/config.json");
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static nlohmann::json Golden(const std::string& name) {
    return ReadJson(GoldenModel(name) + "/config.json");
  }

  absl::StatusOr<ModelConfig> Read(const nlohmann::json& json) {
    std::ofstream(directory_ + "/config.json") << json.dump();
    return ReadModelConfig(directory_);
  }
  // The status of `base` with one value changed.
  absl::Status With(nlohmann::json base, const std::string& key, const nlohmann::json& value) {
    base[key] = value;
    return Read(base).status();
  }

  std::string directory_;
  nlohmann::json gpt2_;
  nlohmann::json llama_;
};

void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(part), std::string::npos) << status;
}

TEST_F(ConfigTest, ReadsGpt2) {
  const auto config = Read(gpt2_);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "gpt2");
  EXPECT_EQ(config->n_layers, 3);
  EXPECT_EQ(config->d_model, 48);
  EXPECT_EQ(config->d_head, 12);
  EXPECT_EQ(config->d_mlp, 192);  // n_inner is null
  EXPECT_EQ(config->n_ctx, 64);
  EXPECT_TRUE(config->tied_embeddings);  // the default, absent from the file
  EXPECT_EQ(config->bos_id, 0u);
  EXPECT_EQ(config->eos_ids, std::vector<uint32_t>{0});
}

TEST_F(ConfigTest, ReadsLlama) {
  const auto config = Read(llama_);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_heads, 6);
  EXPECT_EQ(config->n_kv_heads, 2);
  EXPECT_EQ(config->d_head, 8);
  EXPECT_TRUE(config->gated_mlp);
  EXPECT_FALSE(config->attention_bias);
  EXPECT_FALSE(config->tied_embeddings);
  EXPECT_EQ(config->rotary.rotary_dims, 8);
}

TEST_F(ConfigTest, ReadsManyEndTokens) {
  llama_["eos_token_id"] = {2, 5, 100000};  // the last is outside the vocabulary
  const auto config = Read(llama_);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->eos_ids, (std::vector<uint32_t>{2, 5}));
}

TEST_F(ConfigTest, ReadsRopeParametersOfNewerReleases) {
  llama_.erase("rope_theta");
  llama_["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500000.0}};
  const auto config = Read(llama_);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rotary.theta, 500000.0);
}

TEST_F(ConfigTest, ReadsGptNeox) {
  const auto config = Read(Golden("gpt_neox"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->d_head, 16);
  EXPECT_EQ(config->rotary.rotary_dims, 4);
  EXPECT_TRUE(config->parallel_residual);
  EXPECT_EQ(config->activation, ActivationKind::kGeluExact);
  EXPECT_FALSE(Read(Golden("gpt_neox_sequential"))->parallel_residual);

  nlohmann::json newer = Golden("gpt_neox");  // as newer releases write it
  for (const char* key : {"rotary_pct", "rotary_emb_base", "partial_rotary_factor", "rope_theta"}) {
    newer.erase(key);
  }
  newer["rope_parameters"] = {
      {"rope_type", "default"}, {"rope_theta", 20000}, {"partial_rotary_factor", 0.5}};
  const auto same = Read(newer);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->rotary.rotary_dims, 8);
  EXPECT_EQ(same->rotary.theta, 20000);

  ExpectError(With(Golden("gpt_neox"), "partial_rotary_factor", 0.5),
              absl::StatusCode::kInvalidArgument, "rotary_pct 0.25 and partial_rotary_factor 0.5");
  ExpectError(With(Golden("gpt_neox"), "rope_theta", 5), absl::StatusCode::kUnimplemented,
              "rope_theta");
  // Three of twelve dimensions: no pairs; HF fails on it, too.
  ExpectError(With(Golden("gpt_neox"), "num_attention_heads", 4),
              absl::StatusCode::kInvalidArgument, "3 of head_dim 12");
}

TEST_F(ConfigTest, ReadsWindows) {
  using Windows = std::vector<int64_t>;
  EXPECT_EQ(Read(Golden("mistral"))->windows, (Windows{8, 8}));
  EXPECT_EQ(Read(Golden("gemma2"))->windows, (Windows{8, 0, 8}));
  EXPECT_EQ(Read(Golden("gemma2"))->WindowOf(2), 8);
  EXPECT_EQ(Read(Golden("llama"))->WindowOf(2), 0);

  nlohmann::json mistral = Golden("mistral");
  mistral["sliding_window"] = nullptr;
  EXPECT_TRUE(Read(mistral)->windows.empty());
  mistral.erase("sliding_window");
  EXPECT_EQ(Read(mistral)->windows, (Windows{4096, 4096}));

  nlohmann::json qwen = Golden("qwen2");
  qwen["sliding_window"] = 6;
  qwen["max_window_layers"] = 1;
  EXPECT_TRUE(Read(qwen)->windows.empty());
  qwen["use_sliding_window"] = true;
  EXPECT_EQ(Read(qwen)->windows, (Windows{0, 6}));
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_EQ(Read(qwen)->windows, (Windows{6, 0}));
  qwen["use_sliding_window"] = false;
  ExpectError(Read(qwen).status(), absl::StatusCode::kInvalidArgument, "use_sliding_window");
  qwen["use_sliding_window"] = true;
  qwen["layer_types"] = nlohmann::json::array({"full_attention"});
  ExpectError(Read(qwen).status(), absl::StatusCode::kInvalidArgument, "layer_types");
}

TEST_F(ConfigTest, ReadsGemma2) {
  nlohmann::json gemma2 = Golden("gemma2");
  const auto config = Read(gemma2);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_DOUBLE_EQ(config->attention_scale, 1 / std::sqrt(20.0));
  EXPECT_EQ(config->attention_soft_cap, 3);
  EXPECT_EQ(config->logit_soft_cap, 5);
  EXPECT_EQ(config->d_head, 16);
  EXPECT_DOUBLE_EQ(config->embed_scale, std::sqrt(48.0));
  EXPECT_EQ(config->norm_weight_offset, 1);
  gemma2["attn_logit_softcapping"] = nullptr;  // none
  gemma2.erase("final_logit_softcapping");     // HF's default
  EXPECT_EQ(Read(gemma2)->attention_soft_cap, 0);
  EXPECT_EQ(Read(gemma2)->logit_soft_cap, 30);
}

// The first Gemma files say "hidden_act": "gelu", which HF ignores.
TEST_F(ConfigTest, GemmaTakesTheTanhFormWhateverHiddenActSays) {
  nlohmann::json gemma = Golden("gemma");
  gemma["hidden_act"] = "gelu";
  gemma["hidden_activation"] = nullptr;
  EXPECT_EQ(Read(gemma)->activation, ActivationKind::kGeluTanh);
  gemma["hidden_activation"] = "gelu";
  EXPECT_EQ(Read(gemma)->activation, ActivationKind::kGeluExact);
}

TEST_F(ConfigTest, RefusesWhatChangesTheMathsByName) {
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  ExpectError(With(gpt2_, "model_type", "mamba"), kUnimplemented, "mamba");
  ExpectError(With(gpt2_, "scale_attn_by_inverse_layer_idx", true), kUnimplemented,
              "scale_attn_by_inverse_layer_idx");
  ExpectError(With(gpt2_, "scale_attn_weights", false), kUnimplemented, "scale_attn_weights");
  ExpectError(With(gpt2_, "add_cross_attention", true), kUnimplemented, "add_cross_attention");
  ExpectError(With(gpt2_, "activation_function", "mish"), kUnimplemented, "mish");
  ExpectError(With(llama_, "sliding_window", 4096), kUnimplemented, "sliding_window");
  ExpectError(With(llama_, "partial_rotary_factor", 0.5), kUnimplemented, "partial_rotary_factor");
  ExpectError(With(llama_, "quantization_config", {{"bits", 4}}), kUnimplemented,
              "quantization_config");
  ExpectError(With(llama_, "rope_scaling", {{"rope_type", "longrope"}, {"factor", 4.0}}),
              kUnimplemented, "longrope");
  ExpectError(
      With(llama_, "rope_scaling", {{"type", "linear"}, {"factor", 4.0}, {"mrope_section", {1}}}),
      kUnimplemented, "mrope_section");
  ExpectError(With(gpt2_, "is_causal", false), kUnimplemented, "is_causal");
  ExpectError(With(gpt2_, "is_encoder_decoder", true), kUnimplemented, "is_encoder_decoder");
  ExpectError(With(Golden("mistral"), "attention_bias", true), kUnimplemented, "attention_bias");
  ExpectError(With(Golden("qwen2"), "attention_bias", false), kUnimplemented, "attention_bias");
  ExpectError(With(Golden("gemma2"), "sliding_window_size", 16), kUnimplemented,
              "sliding_window_size");
  ExpectError(With(Golden("gemma2"), "use_bidirectional_attention", true), kUnimplemented,
              "use_bidirectional_attention");
  const nlohmann::json types = {"full_attention", "sliding_attention", "chunked_attention"};
  ExpectError(With(Golden("gemma2"), "layer_types", types), kUnimplemented, "chunked_attention");
}

// Of a key that no reader knows nobody can tell whether it matters.
TEST_F(ConfigTest, RefusesUnknownKeysByNameInEveryArchitecture) {
  for (const std::string name :
       {"gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"}) {
    const nlohmann::json base = Golden(name);
    ASSERT_TRUE(Read(base).ok()) << name << ": " << Read(base).status();
    for (const nlohmann::json& value :
         {nlohmann::json(0), nlohmann::json(0.5), nlohmann::json(true), nlohmann::json("alibi"),
          nlohmann::json({1, 2}), nlohmann::json({{"experts", 8}})}) {
      ExpectError(With(base, "residual_multiplier", value), absl::StatusCode::kUnimplemented,
                  "residual_multiplier");
    }
    for (const nlohmann::json& value : {nlohmann::json(), nlohmann::json(false), nlohmann::json(""),
                                        nlohmann::json::array(), nlohmann::json::object()}) {
      EXPECT_TRUE(With(base, "residual_multiplier", value).ok()) << name << value;
    }
    nlohmann::json custom = base;
    custom["auto_map"] = {{"AutoModelForCausalLM", "modeling_own.OwnForCausalLM"}};
    ExpectError(Read(custom).status(), absl::StatusCode::kUnimplemented, "auto_map");
  }
}

TEST_F(ConfigTest, AcceptsSettingsThatChangeNothing) {
  EXPECT_TRUE(With(gpt2_, "reorder_and_upcast_attn", true).ok());
  EXPECT_TRUE(With(llama_, "pretraining_tp", 2).ok());  // the same product in two parts
  EXPECT_TRUE(With(llama_, "torch_dtype", "float16").ok());
  EXPECT_TRUE(With(llama_, "unsloth_version", "2024.9").ok());
  EXPECT_TRUE(With(Golden("qwen2"), "sliding_window", 4096).ok());  // use_sliding_window is false
  EXPECT_TRUE(With(llama_, "partial_rotary_factor", 1).ok());
  EXPECT_TRUE(With(llama_, "rope_scaling", {{"rope_type", "default"}}).ok());
}

TEST_F(ConfigTest, NamesTheFieldThatIsWrong) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectError(With(gpt2_, "n_layer", 0), kInvalid, "n_layer");
  ExpectError(With(gpt2_, "n_layer", "three"), kInvalid, "n_layer");
  ExpectError(With(gpt2_, "n_embd", int64_t{1} << 60), kInvalid, "n_embd");
  ExpectError(With(gpt2_, "n_head", 5), kInvalid, "n_embd 48 is not a multiple of n_head 5");
  ExpectError(With(gpt2_, "bos_token_id", "zero"), kInvalid, "bos_token_id");
  ExpectError(With(llama_, "num_key_value_heads", 4), kInvalid, "num_key_value_heads");
  ExpectError(With(llama_, "head_dim", 7), kInvalid, "7 of head_dim 7 dimensions are rotated");
  ExpectError(With(llama_, "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}), kInvalid,
              "low_freq_factor");
  ExpectError(With(llama_, "rope_scaling", "llama3"), kInvalid, "rope_scaling");
  gpt2_.erase("vocab_size");
  ExpectError(Read(gpt2_).status(), kInvalid, "vocab_size");
}

TEST_F(ConfigTest, MissingOrMalformedFileIsAnError) {
  EXPECT_EQ(ReadModelConfig(directory_ + "/none").status().code(), absl::StatusCode::kNotFound);
  std::ofstream(directory_ + "/config.json") << "{\"model_type\": ";
  EXPECT_EQ(ReadModelConfig(directory_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConfigTest, HookWidthIsTheNumberOfValuesPerToken) {
  const auto config = Read(llama_);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->HookWidth(Hook("blocks.0.hook_resid_pre")).value(), 48);
  EXPECT_EQ(config->HookWidth(Hook("blocks.2.attn.hook_z")).value(), 48);
  EXPECT_EQ(config->HookWidth(Hook("blocks.2.attn.hook_k")).value(), 16);
  EXPECT_EQ(config->HookWidth(Hook("blocks.1.mlp.hook_post")).value(), 96);
  EXPECT_FALSE(config->HookWidth(Hook("blocks.1.attn.hook_pattern")).ok());
  EXPECT_FALSE(config->HookWidth(Hook("hook_pos_embed")).ok());
  EXPECT_FALSE(config->HookWidth(Hook("blocks.3.hook_resid_pre")).ok());
  const auto gpt2 = Read(gpt2_);
  ASSERT_TRUE(gpt2.ok());
  EXPECT_TRUE(gpt2->HookWidth(Hook("hook_pos_embed")).ok());
  EXPECT_FALSE(gpt2->HookWidth(Hook("blocks.0.mlp.hook_pre_linear")).ok());
  const auto neox = Read(Golden("gpt_neox"));
  ASSERT_TRUE(neox.ok());
  EXPECT_FALSE(neox->HookWidth(Hook("blocks.0.hook_resid_mid")).ok());  // side by side
  EXPECT_EQ(Read(Golden("qwen3"))->HookWidth(Hook("blocks.0.attn.hook_z")).value(), 96);
}

}  // namespace
}  // namespace featurescope
