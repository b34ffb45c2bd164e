#include "server/model/config.h"

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
  ExpectError(With(llama_, "rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}),
              kUnimplemented, "yarn");
  ExpectError(With(llama_, "rope_scaling", {{"type", "linear"}, {"factor", 4.0}}), kUnimplemented,
              "linear");
}

TEST_F(ConfigTest, AcceptsSettingsThatChangeNothing) {
  EXPECT_TRUE(With(gpt2_, "reorder_and_upcast_attn", true).ok());
  EXPECT_TRUE(With(llama_, "pretraining_tp", 2).ok());
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
  ExpectError(With(llama_, "head_dim", 7), kInvalid, "head_dim 7 is odd");
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
}

}  // namespace
}  // namespace featurescope
