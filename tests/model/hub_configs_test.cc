// config.json as published on the hub, with every key that it has there.
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/support.h"

namespace featurescope {
namespace {

struct Sizes {
  std::vector<int64_t> all;  // layers, d_model, heads, kv heads, d_head, d_mlp, vocabulary, context
};

const std::map<std::string, Sizes>& Expected() {
  static const auto* const expected = new std::map<std::string, Sizes>{
      {"gpt2", {{12, 768, 12, 12, 64, 3072, 50257, 1024}}},
      {"gpt2-xl", {{48, 1600, 25, 25, 64, 6400, 50257, 1024}}},
      {"distilgpt2", {{6, 768, 12, 12, 64, 3072, 50257, 1024}}},
      {"pythia-70m-deduped", {{6, 512, 8, 8, 64, 2048, 50304, 2048}}},
      {"pythia-1b", {{16, 2048, 8, 8, 256, 8192, 50304, 2048}}},
      {"gpt-neox-20b", {{44, 6144, 64, 64, 96, 24576, 50432, 2048}}},
      {"llama-7b", {{32, 4096, 32, 32, 128, 11008, 32000, 2048}}},
      {"Llama-2-7b-hf", {{32, 4096, 32, 32, 128, 11008, 32000, 4096}}},
      {"vicuna-7b-v1.5-16k", {{32, 4096, 32, 32, 128, 11008, 32000, 16384}}},
      {"Meta-Llama-3-8B", {{32, 4096, 32, 8, 128, 14336, 128256, 8192}}},
      {"Llama-3.1-8B", {{32, 4096, 32, 8, 128, 14336, 128256, 131072}}},
      {"Llama-3.1-8B-Instruct", {{32, 4096, 32, 8, 128, 14336, 128256, 131072}}},
      {"DeepSeek-R1-Distill-Llama-8B", {{32, 4096, 32, 8, 128, 14336, 128256, 131072}}},
      {"Llama-3.2-1B", {{16, 2048, 32, 8, 64, 8192, 128256, 131072}}},
      {"TinyLlama-1.1B-Chat-v1.0", {{22, 2048, 32, 4, 64, 5632, 32000, 2048}}},
      {"SmolLM2-135M", {{30, 576, 9, 3, 64, 1536, 49152, 8192}}},
      {"Mistral-7B-v0.1", {{32, 4096, 32, 8, 128, 14336, 32000, 32768}}},
      {"Mistral-7B-v0.3", {{32, 4096, 32, 8, 128, 14336, 32768, 32768}}},
      {"Qwen2-0.5B", {{24, 896, 14, 2, 64, 4864, 151936, 131072}}},
      {"Qwen2.5-7B-Instruct", {{28, 3584, 28, 4, 128, 18944, 152064, 32768}}},
      {"DeepSeek-R1-Distill-Qwen-1.5B", {{28, 1536, 12, 2, 128, 8960, 151936, 131072}}},
      {"Qwen3-0.6B", {{28, 1024, 16, 8, 128, 3072, 151936, 40960}}},
      {"gemma-2b", {{18, 2048, 8, 1, 256, 16384, 256000, 8192}}},
      {"gemma-2-2b", {{26, 2304, 8, 4, 256, 9216, 256000, 8192}}},
      {"gemma-2-9b-it", {{42, 3584, 16, 8, 256, 14336, 256000, 8192}}},
      {"gemma-2-27b", {{46, 4608, 32, 16, 128, 36864, 256000, 8192}}},
  };
  return *expected;
}

std::string ConfigDirectory() {
  return std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/model/hub_configs";
}

class HubConfigsTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "/hub_configs_test";
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  ModelConfig Read(const std::string& name) {
    std::filesystem::copy_file(ConfigDirectory() + "/" + name + ".json",
                               directory_ + "/config.json",
                               std::filesystem::copy_options::overwrite_existing);
    const auto config = ReadModelConfig(directory_);
    EXPECT_TRUE(config.ok()) << name << ": " << config.status();
    return config.ok() ? *config : ModelConfig();
  }

  std::string directory_;
};

TEST_F(HubConfigsTest, AllAreReadWithTheirSizes) {
  size_t n_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ConfigDirectory())) {
    const std::string name = entry.path().stem().string();
    ASSERT_TRUE(Expected().contains(name)) << name;
    const ModelConfig c = Read(name);
    EXPECT_EQ((std::vector<int64_t>{c.n_layers, c.d_model, c.n_heads, c.n_kv_heads, c.d_head,
                                    c.d_mlp, c.d_vocab, c.n_ctx}),
              Expected().at(name).all)
        << name;
    EXPECT_FALSE(c.eos_ids.empty()) << name;
    ++n_files;
  }
  EXPECT_EQ(n_files, Expected().size());
}

TEST_F(HubConfigsTest, Llama3ScalingIsRead) {
  EXPECT_EQ(Read("Meta-Llama-3-8B").rotary.scaling, RopeScaling::kNone);
  for (const std::string name : {"Llama-3.1-8B", "DeepSeek-R1-Distill-Llama-8B", "Llama-3.2-1B"}) {
    const RotaryConfig rotary = Read(name).rotary;
    EXPECT_EQ(rotary.scaling, RopeScaling::kLlama3) << name;
    EXPECT_EQ(rotary.factor, name == "Llama-3.2-1B" ? 32 : 8) << name;
    EXPECT_EQ(rotary.original_context, 8192) << name;
    EXPECT_EQ(rotary.theta, 500000) << name;
  }
  EXPECT_EQ(Read("vicuna-7b-v1.5-16k").rotary.scaling, RopeScaling::kLinear);
  EXPECT_TRUE(Read("Llama-3.2-1B").tied_embeddings);
  EXPECT_EQ(Read("Llama-3.1-8B-Instruct").eos_ids, (std::vector<uint32_t>{128001, 128008, 128009}));
}

TEST_F(HubConfigsTest, WindowsAreWhereTheModelsHaveThem) {
  EXPECT_EQ(Read("Mistral-7B-v0.1").windows, std::vector<int64_t>(32, 4096));
  EXPECT_TRUE(Read("Mistral-7B-v0.3").windows.empty());
  // "sliding_window" is a number in all of these, "use_sliding_window" is false.
  for (const std::string name :
       {"Qwen2-0.5B", "Qwen2.5-7B-Instruct", "DeepSeek-R1-Distill-Qwen-1.5B", "Qwen3-0.6B"}) {
    EXPECT_TRUE(Read(name).windows.empty()) << name;
  }
  const ModelConfig gemma = Read("gemma-2-2b");
  EXPECT_EQ(gemma.WindowOf(0), 4096);
  EXPECT_EQ(gemma.WindowOf(1), 0);
  EXPECT_EQ(gemma.WindowOf(24), 4096);
}

TEST_F(HubConfigsTest, ScalesAndCapsAreRead) {
  EXPECT_DOUBLE_EQ(Read("gemma-2-2b").attention_scale, 1.0 / 16);
  EXPECT_DOUBLE_EQ(Read("gemma-2-27b").attention_scale, 1.0 / 12);  // of 144, not of d_head 128
  EXPECT_EQ(Read("gemma-2-9b-it").attention_soft_cap, 50);
  EXPECT_EQ(Read("gemma-2-9b-it").logit_soft_cap, 30);
  EXPECT_DOUBLE_EQ(Read("gemma-2b").embed_scale, std::sqrt(2048.0));
  EXPECT_EQ(Read("gemma-2b").activation, ActivationKind::kGeluTanh);
  EXPECT_EQ(Read("gpt-neox-20b").activation, ActivationKind::kGeluTanh);
  EXPECT_EQ(Read("pythia-1b").activation, ActivationKind::kGeluExact);
  EXPECT_EQ(Read("gpt-neox-20b").rotary.rotary_dims, 24);
  EXPECT_TRUE(Read("Qwen3-0.6B").qk_norm);
}

}  // namespace
}  // namespace featurescope
