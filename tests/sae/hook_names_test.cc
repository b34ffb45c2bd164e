#include "server/sae/hook_names.h"

#include <gtest/gtest.h>

namespace featurescope {
namespace {

TEST(HookNamesTest, FamiliesFollowFromTheModelsName) {
  EXPECT_EQ(FamilyOfModel("gpt2-small"), ModelFamily::kGpt2);
  EXPECT_EQ(FamilyOfModel("EleutherAI/pythia-70m-deduped"), ModelFamily::kGpt2);
  EXPECT_EQ(FamilyOfModel("meta-llama/Llama-3.1-8B"), ModelFamily::kLlama);
  EXPECT_EQ(FamilyOfModel("google/gemma-2-2b"), ModelFamily::kGemma2);
  EXPECT_EQ(FamilyOfModel("google/gemma-2b"), ModelFamily::kLlama);
  EXPECT_EQ(FamilyOfModel("my-model"), ModelFamily::kUnknown);
}

TEST(HookNamesTest, ModulesOutputsHaveTransformerLensNames) {
  const auto hook = [](absl::string_view module, ModelFamily family) {
    return ModuleHook(module, family).in;
  };
  EXPECT_EQ(hook("layers.3", ModelFamily::kUnknown), "blocks.3.hook_resid_post");
  EXPECT_EQ(hook("gpt_neox.layers.3", ModelFamily::kUnknown), "blocks.3.hook_resid_post");
  EXPECT_EQ(hook("h.5.mlp", ModelFamily::kUnknown), "blocks.5.hook_mlp_out");
  EXPECT_EQ(hook("transformer.h.5.attn", ModelFamily::kUnknown), "blocks.5.hook_attn_out");
  EXPECT_EQ(hook("h.5.mlp.act", ModelFamily::kUnknown), "blocks.5.mlp.hook_post");
  EXPECT_EQ(hook("layers.5.mlp", ModelFamily::kLlama), "blocks.5.hook_mlp_out");
  EXPECT_EQ(hook("layers.5.attention", ModelFamily::kGpt2), "blocks.5.hook_attn_out");
  EXPECT_EQ(hook("model.layers.5.self_attn", ModelFamily::kLlama), "blocks.5.hook_attn_out");
}

TEST(HookNamesTest, WhatIsNotSaidClearlyIsNotGuessed) {
  const auto hook = [](absl::string_view module, ModelFamily family) {
    return ModuleHook(module, family).in;
  };
  EXPECT_EQ(hook("layers.5.mlp", ModelFamily::kUnknown), "") << "Gemma-2 has a norm behind it";
  EXPECT_EQ(hook("layers.5.mlp", ModelFamily::kGemma2), "");
  EXPECT_EQ(hook("layers.5.mlp.act", ModelFamily::kLlama), "") << "a gated MLP";
  for (const char* name : {"", "layers", "layers.", "layers.x", "layers.-1", "layers.99999",
                           "layers.3.mlp.act.fn", "embed_tokens", "seed", "layers.3.norm"}) {
    EXPECT_EQ(hook(name, ModelFamily::kLlama), "") << name;
  }
}

TEST(HookNamesTest, ATranscoderReadsTheMlpsInputWhereAHookPointHasIt) {
  const HookNames gpt2 = ModuleHook("h.2.mlp", ModelFamily::kUnknown, true);
  EXPECT_EQ(gpt2.in, "blocks.2.ln2.hook_normalized");
  EXPECT_EQ(gpt2.out, "blocks.2.hook_mlp_out");
  EXPECT_EQ(ModuleHook("layers.2.mlp", ModelFamily::kGpt2, true).in,
            "blocks.2.ln2.hook_normalized");
  EXPECT_EQ(ModuleHook("layers.2.mlp", ModelFamily::kLlama, true).in, "");
  EXPECT_EQ(ModuleHook("h.2.attn", ModelFamily::kUnknown, true).in, "blocks.2.ln1.hook_normalized");
  EXPECT_EQ(ModuleHook("h.2.mlp.act", ModelFamily::kUnknown, true).in, "");
  const HookNames block = ModuleHook("layers.2", ModelFamily::kUnknown, true);
  EXPECT_EQ(block.in, "blocks.2.hook_resid_pre");
  EXPECT_EQ(block.out, "blocks.2.hook_resid_post");
}

TEST(HookNamesTest, DictionaryLearningsNamesAreUnderstood) {
  EXPECT_EQ(DictionaryLearningHook("resid_post_layer_3", ModelFamily::kUnknown),
            "blocks.3.hook_resid_post");
  EXPECT_EQ(DictionaryLearningHook("resid_post_layer_12", ModelFamily::kGemma2),
            "blocks.12.hook_resid_post");
  EXPECT_EQ(DictionaryLearningHook("mlp_out_layer4", ModelFamily::kGpt2), "blocks.4.hook_mlp_out");
  EXPECT_EQ(DictionaryLearningHook("attention_out_layer_0", ModelFamily::kGpt2),
            "blocks.0.hook_attn_out");
  EXPECT_EQ(DictionaryLearningHook("mlp_out_layer_4", ModelFamily::kGemma2), "");
  for (const char* name : {"", "layer_", "resid_post", "resid_post_layer_", "3", "embed_layer_3"}) {
    EXPECT_EQ(DictionaryLearningHook(name, ModelFamily::kGpt2), "") << name;
  }
}

TEST(HookNamesTest, ReleasesPathsTellModelAndHook) {
  const PathFacts attention =
      GemmaScopePath("/d/gemma-scope-9b-pt-att/layer_7/width_16k/average_l0_43/params.npz");
  EXPECT_EQ(attention.model_name, "google/gemma-2-9b");
  EXPECT_EQ(attention.hook.in, "blocks.7.attn.hook_z");
  EXPECT_EQ(GemmaScopePath("gemma-scope-9b-it-res/layer_20/params.npz").model_name,
            "google/gemma-2-9b-it");
  EXPECT_EQ(GemmaScopePath("some/params.npz").as_given, "");
  EXPECT_EQ(GemmaScopePath("layer_3/params.npz").hook.in, "") << "no site is named";

  EXPECT_EQ(OpenAiPath("gpt2-small/mlp_post_act/autoencoders/0.pt").hook.in,
            "blocks.0.mlp.hook_post");
  EXPECT_EQ(OpenAiPath("resid_delta_mlp_v5_128k/autoencoders/11.pt").hook.in,
            "blocks.11.hook_mlp_out");
  EXPECT_EQ(OpenAiPath("resid_post_mlp_v5_32k/autoencoder.pt").hook.in, "");
  EXPECT_EQ(OpenAiPath("autoencoders/8.pt").hook.in, "");
}

}  // namespace
}  // namespace featurescope
