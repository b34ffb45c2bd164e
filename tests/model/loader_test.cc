#include <limits>

#include "tests/model/support.h"

namespace featurescope {
namespace {

void ExpectInvalid(const absl::StatusOr<std::shared_ptr<const Transformer>>& model,
                   const std::string& part) {
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << model.status();
  EXPECT_NE(model.status().message().find(part), std::string::npos) << model.status();
}

TEST(LoaderTest, CountsParametersOnce) {
  const auto tied = LoadOrDie(GoldenModel("llama_tied"));
  ASSERT_NE(tied, nullptr);
  uint64_t n = 0;
  for (const auto& [name, tensor] : ReadTensors(GoldenModel("llama_tied") + "/model.safetensors")) {
    n += static_cast<uint64_t>(tensor.numel());
  }
  EXPECT_EQ(tied->n_parameters(), n);
  EXPECT_EQ(tied->memory_bytes(), 4 * n + 4 * 4);  // float32, and the four rotary frequencies
  EXPECT_EQ(tied->unembedding().sizes(), (torch::IntArrayRef{48, 131}));
}

TEST(LoaderTest, HashChangesWithConfigAndWeights) {
  ModelCopy copy("gpt2");
  const auto first = copy.Load();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ((*first)->hash().size(), 64u);
  EXPECT_EQ((*copy.Load())->hash(), (*first)->hash());
  copy.tensors["transformer.ln_f.bias"][0] += 1;
  const auto other_weights = copy.Load();
  ASSERT_TRUE(other_weights.ok());
  EXPECT_NE((*other_weights)->hash(), (*first)->hash());
  copy.config["layer_norm_epsilon"] = 2e-5;
  const auto other_config = copy.Load();
  ASSERT_TRUE(other_config.ok());
  EXPECT_NE((*other_config)->hash(), (*other_weights)->hash());
}

TEST(LoaderTest, ReportsProgressUpToAllBytes) {
  LoadOptions options;
  uint64_t last = 0;
  uint64_t all = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last);
    last = done;
    all = total;
  };
  ASSERT_NE(LoadOrDie(GoldenModel("llama_sharded_bf16"), options), nullptr);
  EXPECT_EQ(last, all);
  EXPECT_GT(all, 100000u);
}

TEST(LoaderTest, MissingTensorIsNamed) {
  ModelCopy copy("gpt2");
  copy.tensors.erase("transformer.h.1.mlp.c_fc.bias");
  ExpectInvalid(copy.Load(), "tensor transformer.h.1.mlp.c_fc.bias is missing");
}

TEST(LoaderTest, UntiedModelWithoutHeadIsRefused) {
  ModelCopy copy("llama");
  copy.tensors.erase("lm_head.weight");
  ExpectInvalid(copy.Load(), "lm_head.weight is missing");
}

TEST(LoaderTest, WrongShapeIsNamedWithBothShapes) {
  ModelCopy copy("gpt2");
  copy.tensors["transformer.h.1.mlp.c_fc.weight"] = torch::zeros({192, 48});
  ExpectInvalid(copy.Load(),
                "tensor transformer.h.1.mlp.c_fc.weight has shape [192, 48], config.json asks for "
                "[48, 192]");
}

TEST(LoaderTest, ConfigThatLiesAboutSizesIsRefusedBeforeRoomIsMade) {
  ModelCopy copy("gpt2");
  copy.config["vocab_size"] = 1 << 24;
  copy.config["n_inner"] = 1 << 20;
  ExpectInvalid(copy.Load(), "wte.weight has shape [131, 48]");
}

TEST(LoaderTest, NonFiniteWeightIsNamedWithItsPlace) {
  ModelCopy copy("llama");
  copy.tensors["model.layers.1.mlp.up_proj.weight"][2][5] = std::numeric_limits<float>::quiet_NaN();
  ExpectInvalid(copy.Load(), "tensor model.layers.1.mlp.up_proj.weight: element 101 is not finite");
}

TEST(LoaderTest, TensorThatTheArchitectureDoesNotUseIsRefused) {
  ModelCopy copy("llama");  // attention_bias is false
  copy.tensors["model.layers.0.self_attn.q_proj.bias"] = torch::zeros({48});
  ExpectInvalid(copy.Load(), "tensor model.layers.0.self_attn.q_proj.bias is not part of");
}

TEST(LoaderTest, KnownBuffersAreSkipped) {
  ModelCopy copy("llama");
  copy.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch::zeros({4});
  EXPECT_TRUE(copy.Load().ok());
  ModelCopy tied("llama_tied");
  tied.tensors["lm_head.weight"] = tied.tensors["model.embed_tokens.weight"].clone();
  EXPECT_TRUE(tied.Load().ok());
}

// Base models are saved without the prefix of the language model around them.
TEST(LoaderTest, CheckpointsWithoutPrefixGiveTheSameLogits) {
  const SequenceBatch batch = BatchOf({{5, 9, 2, 77, 31}});
  const std::pair<std::string, std::string> prefixes[] = {
      {"gpt2", "transformer."}, {"gpt_neox", "gpt_neox."}, {"llama", "model."},
      {"gemma2", "model."},     {"qwen3", "model."},
  };
  for (const auto& [name, prefix] : prefixes) {
    ModelCopy copy(name);
    std::map<std::string, torch::Tensor> renamed;
    for (const auto& [key, tensor] : copy.tensors) {
      renamed[key.rfind(prefix, 0) == 0 ? key.substr(prefix.size()) : key] = tensor;
    }
    ASSERT_NE(renamed.begin()->first, copy.tensors.begin()->first);
    copy.tensors = renamed;
    const auto bare = copy.Load();
    ASSERT_TRUE(bare.ok()) << bare.status();
    EXPECT_TRUE(
        torch::equal(MustForward(**bare, batch, LogitsOf::kAllTokens),
                     MustForward(*LoadOrDie(GoldenModel(name)), batch, LogitsOf::kAllTokens)))
        << name;
  }
}

TEST(LoaderTest, TiedGptNeoxUnembedsWithItsEmbeddings) {
  ModelCopy copy("gpt_neox");
  copy.config["tie_word_embeddings"] = true;
  const auto stored_twice = copy.Load();
  ASSERT_TRUE(stored_twice.ok()) << stored_twice.status();
  copy.tensors["embed_out.weight"] = copy.tensors["gpt_neox.embed_in.weight"].clone();
  copy.config["tie_word_embeddings"] = false;
  const auto untied = copy.Load();
  ASSERT_TRUE(untied.ok()) << untied.status();
  const SequenceBatch batch = BatchOf({{5, 9, 2}});
  EXPECT_TRUE(torch::equal(MustForward(**stored_twice, batch, LogitsOf::kAllTokens),
                           MustForward(**untied, batch, LogitsOf::kAllTokens)));
}

TEST(LoaderTest, GptNeoxWithoutAttentionBiasHasNone) {
  ModelCopy copy("gpt_neox");
  copy.config["attention_bias"] = false;
  ExpectInvalid(copy.Load(), "is not part of");
  for (int layer = 0; layer < 3; ++layer) {
    for (const char* name : {"query_key_value", "dense"}) {
      const std::string bias =
          "gpt_neox.layers." + std::to_string(layer) + ".attention." + name + ".bias";
      copy.tensors.at(bias).zero_();
    }
  }
  ModelCopy without = copy;
  copy.config["attention_bias"] = true;
  const auto zero = copy.Load();
  ASSERT_TRUE(zero.ok()) << zero.status();
  for (auto it = without.tensors.begin(); it != without.tensors.end();) {
    const bool drop = it->first.find("query_key_value.bias") != std::string::npos ||
                      it->first.find("dense.bias") != std::string::npos;
    it = drop ? without.tensors.erase(it) : std::next(it);
  }
  const auto none = without.Load();
  ASSERT_TRUE(none.ok()) << none.status();
  const SequenceBatch batch = BatchOf({{5, 9, 2}});
  EXPECT_LT(MaxAbsDifference(MustForward(**none, batch, LogitsOf::kAllTokens),
                             MustForward(**zero, batch, LogitsOf::kAllTokens)),
            1e-5);
}

TEST(LoaderTest, NormWeightsStayInFloat32) {
  LoadOptions options;
  options.dtype = torch::kBFloat16;
  const auto wide = LoadOrDie(GoldenModel("qwen3"));
  const auto narrow = LoadOrDie(GoldenModel("qwen3"), options);
  // All but the norms (two of 48 and two of 16 a layer, one of 48) and frequencies is halved.
  const uint64_t kept = 4 * (2 * (2 * 48 + 2 * 16) + 48 + 8);
  EXPECT_EQ(narrow->memory_bytes(), (wide->memory_bytes() - kept) / 2 + kept);
}

// No fixture has biases here: they are checked by what they must do.
TEST(LoaderTest, LlamaBiasesAreApplied) {
  ModelCopy copy("llama");
  copy.config["attention_bias"] = true;
  copy.config["mlp_bias"] = true;
  for (int layer = 0; layer < 3; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".";
    copy.tensors[name + "self_attn.q_proj.bias"] = torch::full({48}, 0.5);
    copy.tensors[name + "self_attn.k_proj.bias"] = torch::full({16}, 0.25);
    copy.tensors[name + "self_attn.v_proj.bias"] = torch::full({16}, 2.0);
    copy.tensors[name + "self_attn.o_proj.bias"] = torch::full({48}, 3.0);
    copy.tensors[name + "mlp.gate_proj.bias"] = torch::full({96}, 0.75);
    copy.tensors[name + "mlp.up_proj.bias"] = torch::full({96}, 1.25);
    copy.tensors[name + "mlp.down_proj.bias"] = torch::full({48}, 4.0);
  }
  const auto biased = copy.Load();
  ASSERT_TRUE(biased.ok()) << biased.status();
  const auto plain = LoadOrDie(GoldenModel("llama"));
  const SequenceBatch batch = BatchOf({{3, 1, 4}});
  // The residual stream into block 0 is the same, so the differences there are the biases.
  const std::vector<HookPoint> hooks = {Hook("blocks.0.attn.hook_q"), Hook("blocks.0.attn.hook_k"),
                                        Hook("blocks.0.attn.hook_v"), Hook("blocks.0.attn.hook_z")};
  Recorder with(hooks);
  Recorder without(hooks);
  MustForward(**biased, batch, LogitsOf::kNone, with.set());
  MustForward(*plain, batch, LogitsOf::kNone, without.set());
  const auto difference = [&](const std::string& name) {
    return with.one(name) - without.one(name);
  };
  EXPECT_LT((difference("blocks.0.attn.hook_q") - 0.5).abs().max().item<float>(), 1e-5);
  EXPECT_LT((difference("blocks.0.attn.hook_k") - 0.25).abs().max().item<float>(), 1e-5);
  EXPECT_LT((difference("blocks.0.attn.hook_v") - 2.0).abs().max().item<float>(), 1e-5);
  Recorder rest({Hook("blocks.0.attn.hook_z"), Hook("blocks.0.hook_attn_out"),
                 Hook("blocks.0.hook_resid_mid"), Hook("blocks.0.mlp.hook_pre"),
                 Hook("blocks.0.mlp.hook_pre_linear"), Hook("blocks.0.mlp.hook_post"),
                 Hook("blocks.0.hook_mlp_out")});
  MustForward(**biased, batch, LogitsOf::kNone, rest.set());
  const auto weight = [&](const std::string& name) {
    return copy.tensors.at("model.layers.0." + name + ".weight").t();
  };
  const auto at = [&](const std::string& name) { return rest.one("blocks.0." + name); };
  EXPECT_LT(MaxAbsDifference(at("hook_attn_out"),
                             at("attn.hook_z").flatten(1, 2).mm(weight("self_attn.o_proj")) + 3.0),
            1e-5);
  torch::Tensor normed = at("hook_resid_mid");
  normed = normed / (normed.square().mean(-1, true) + 1e-5).sqrt() *
           copy.tensors.at("model.layers.0.post_attention_layernorm.weight");
  EXPECT_LT(MaxAbsDifference(at("mlp.hook_pre"), normed.mm(weight("mlp.gate_proj")) + 0.75), 1e-5);
  EXPECT_LT(MaxAbsDifference(at("mlp.hook_pre_linear"), normed.mm(weight("mlp.up_proj")) + 1.25),
            1e-5);
  EXPECT_LT(
      MaxAbsDifference(at("hook_mlp_out"), at("mlp.hook_post").mm(weight("mlp.down_proj")) + 4.0),
      2e-5);
}

TEST(LoaderTest, DirectoryWithoutWeightsIsNotFound) {
  ModelCopy copy("gpt2");
  std::filesystem::remove(copy.directory() + "/model.safetensors");
  EXPECT_EQ(Transformer::Load(copy.directory(), {}).status().code(), absl::StatusCode::kNotFound);
}

TEST(LoaderTest, TruncatedWeightsAreRefused) {
  ModelCopy copy("gpt2");
  const std::string path = copy.directory() + "/model.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  ExpectInvalid(Transformer::Load(copy.directory(), {}), "model.safetensors");
}

TEST(LoaderTest, MissingShardIsRefused) {
  ModelCopy copy("llama_sharded_bf16");
  std::filesystem::remove(copy.directory() + "/model-00002-of-00003.safetensors");
  EXPECT_FALSE(Transformer::Load(copy.directory(), {}).ok());
}

TEST(LoaderTest, RefusesDtypesItCannotComputeIn) {
  LoadOptions options;
  options.dtype = torch::kInt8;
  EXPECT_EQ(Transformer::Load(GoldenModel("gpt2"), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace featurescope
