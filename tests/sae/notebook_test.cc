// .pt files with more than a state_dict in them: notebooks', backups of dictionary_learning's runs,
// OpenAI's settings, early Llama Scope.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "server/sae/sae_files.h"
#include "tests/sae/sae_directory.h"
#include "tests/sae/torch_save.h"

namespace featurescope {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

constexpr int64_t kDIn = 6;
constexpr int64_t kDSae = 10;

// The tensors of a flat .pt file of tests/golden/sae.
PyDict TensorsOf(const std::string& golden, const std::string& name) {
  const TorchFile file =
      TorchFile::Open(FEATURESCOPE_SOURCE_DIR "/tests/golden/sae/" + golden + "/" + name).value();
  const TorchValue::Dict& dict = *file.root().AsDict();
  PyDict tensors;
  for (size_t i = 0; i < dict.keys.size(); ++i) {
    const TorchTensor* tensor = dict.values[i].AsTensor();
    if (tensor == nullptr) continue;
    const std::string& key = *dict.keys[i].AsString();
    tensors.emplace_back(
        key, LoadTensor(file, *tensor, key, ToScalarType(tensor->dtype), torch::kCPU).value());
  }
  return tensors;
}

class NotebookTest : public testing::Test {
 protected:
  NotebookTest() {
    torch::manual_seed(8);
    layers_ = {{"enc.weight", torch::randn({kDSae, kDIn})},
               {"enc.bias", torch::randn({kDSae})},
               {"dec.weight", torch::randn({kDIn, kDSae})}};
  }

  void Save(const PyDict& root) const { TorchSaver::Save(directory_.At("sae.pt"), root); }
  // The notebook's file with some more entries.
  std::string RefusalWith(PyDict more, const LoadSaeOptions& options = {}) const {
    more.emplace_back("state_dict", layers_);
    Save(more);
    return directory_.Refusal(options);
  }

  const SaeDirectory directory_;
  PyDict layers_;
};

TEST_F(NotebookTest, LayersAloneAndWithSettingsAreOneSae) {
  Save(layers_);
  const auto alone = directory_.Load().value();
  EXPECT_EQ(alone->recognition().hook_name, "");
  Save({{"state_dict", layers_},
        {"d_in", 6},
        {"d_sae", 10},
        {"lr", 1e-3},
        {"hook", "blocks.6.hook_mlp_out"},
        {"model_name", "gpt2"},
        {"normalize", false},
        {"context_size", 128}});
  const auto sae = directory_.Load().value();
  EXPECT_EQ(sae->hash(), alone->hash());
  EXPECT_EQ(sae->recognition().hook_name, "blocks.6.hook_mlp_out");
  EXPECT_EQ(sae->recognition().model_name, "gpt2");
  EXPECT_EQ(sae->recognition().context_size, 128);
  EXPECT_FALSE(sae->config().apply_b_dec_to_input);
}

TEST_F(NotebookTest, AHookOfAnotherLibraryIsLeftToTheUser) {
  Save({{"state_dict", layers_}, {"hook", "transformer.h.6.mlp"}});
  const auto sae = directory_.Load().value();
  EXPECT_EQ(sae->recognition().hook_as_given, "transformer.h.6.mlp");
  EXPECT_EQ(sae->recognition().hook_name, "");
}

TEST_F(NotebookTest, AKMakesItTopK) {
  Save({{"state_dict", layers_}, {"k", 3}});
  const auto sae = directory_.Load().value();
  EXPECT_EQ(sae->config().architecture, "topk");
  EXPECT_EQ(sae->config().k, 3);
  EXPECT_THAT(sae->recognition().notes, Contains(HasSubstr("k = 3")));
  EXPECT_THAT(RefusalWith({{"k", 11}}), HasSubstr("k is no whole number in [1, 10]"));
  EXPECT_THAT(RefusalWith({{"k", 2.5}}), HasSubstr("k is no whole number"));
}

TEST_F(NotebookTest, WhatOnlyTheNotebookKnowsIsAsked) {
  EXPECT_THAT(RefusalWith({{"normalize", true}}), HasSubstr("give normalize_activations"));
  LoadSaeOptions options;
  options.normalize_activations = NormalizeActivations::kLayerNorm;
  EXPECT_EQ(RefusalWith({{"normalize", true}}, options), "OK");
}

TEST_F(NotebookTest, SizesThatContradictTheTensorsAreNamed) {
  EXPECT_THAT(RefusalWith({{"d_in", 7}}),
              AllOf(HasSubstr("sae.pt"), HasSubstr("d_in 7"), HasSubstr("contradict")));
  EXPECT_THAT(RefusalWith({{"d_sae", 9}}), HasSubstr("d_sae 9"));
  EXPECT_THAT(RefusalWith({{"d_sae", "ten"}}), HasSubstr("d_sae is no whole number"));
}

TEST_F(NotebookTest, ADecodersBiasIsBDec) {
  layers_.emplace_back("dec.bias", torch::full({kDIn}, 2.0F));
  Save(layers_);
  EXPECT_EQ(directory_.Load().value()->parameters().b_dec[0].item<float>(), 2);
}

TEST(DictionaryLearningBackupTest, IsTheSaeThatTheRunWouldHaveSaved) {
  for (const char* name : {"AutoEncoder", "AutoEncoderTopK", "BatchTopKSAE", "GatedAutoEncoder",
                           "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"}) {
    const SaeDirectory directory(std::string("dictionary_learning/") + name);
    const auto saved = directory.Load().value();
    const json config = ReadJsonFile(directory.At("config.json")).value()["trainer"];
    const PyDict ae = TensorsOf(std::string("dictionary_learning/") + name, "ae.pt");
    const auto save = [&](PyValue norm_factor) {
      TorchSaver::Save(directory.At("ae.pt"),
                       PyDict{{"step", 100},
                              {"ae", ae},
                              {"optimizer", PyDict{{"state", PyDict{}}}},
                              {"config", PyDict{{"dict_class", name},
                                                {"activation_dim", 32},
                                                {"lm_name", "EleutherAI/pythia-70m-deduped"},
                                                {"submodule_name", "resid_post_layer_3"}}},
                              {"norm_factor", std::move(norm_factor)}});
    };
    save({});
    EXPECT_EQ(directory.Load().value()->hash(), saved->hash()) << name;
    // The backup has its own configuration.
    std::filesystem::remove(directory.At("config.json"));
    const auto backup = directory.Load().value();
    EXPECT_EQ(backup->hash(), saved->hash()) << name;
    EXPECT_EQ(backup->recognition().format, "dictionary_learning, backup of a run");
    EXPECT_EQ(backup->recognition().hook_name, "blocks.3.hook_resid_post");
    EXPECT_EQ(backup->recognition().model_name, "EleutherAI/pythia-70m-deduped");

    save(4.0);
    const auto scaled = directory.Load().value();
    EXPECT_THAT(scaled->recognition().folds, testing::ElementsAre(HasSubstr("norm_factor 4")));
    const torch::Tensor x = torch::randn({20, 32});
    const EncodedRows small = saved->Encode(x).value();
    const EncodedRows large = scaled->Encode(x * 4).value();
    EXPECT_TRUE(torch::allclose(large.acts.ToDense(), small.acts.ToDense() * 4, 1e-4, 1e-4))
        << name;
    EXPECT_TRUE(torch::allclose(scaled->Decode(large), saved->Decode(small) * 4, 1e-4, 1e-4))
        << name;
    save(-1.0);
    EXPECT_THAT(directory.Refusal(), HasSubstr("norm_factor is -1"));
  }
}

TEST(OpenAiSettingsTest, WhatIsNotKnownIsNamed) {
  const auto refusal = [](PyDict more) {
    const SaeDirectory directory("openai/topk_layer_norm");
    for (const auto& tensor : TensorsOf("openai/topk_layer_norm", "autoencoder.pt")) {
      more.push_back(tensor);
    }
    TorchSaver::Save(directory.At("autoencoder.pt"), more);
    return directory.Refusal();
  };
  EXPECT_EQ(refusal({{"activation", "TopK"}, {"activation_state_dict", PyDict{{"k", 6}}}}), "OK");
  EXPECT_THAT(refusal({{"activation", "TopK"}, {"activation_state_dict", PyDict{{"k", 97}}}}),
              AllOf(HasSubstr("autoencoder.pt"), HasSubstr("k is 97, out of range [1, 96]")));
  EXPECT_THAT(refusal({{"activation", "TopK"}}), HasSubstr("activation_state_dict has no"));
  EXPECT_THAT(refusal({{"activation", "GELU"}}), HasSubstr("activation 'GELU'"));
  EXPECT_THAT(refusal({{"activation", 3}}), HasSubstr("activation is an int instead of a string"));
  EXPECT_THAT(refusal({{"activation", "TopK"},
                       {"activation_state_dict", PyDict{{"k", 6}, {"postact_fn", "Softplus"}}}}),
              HasSubstr("postact_fn 'Softplus'"));
}

TEST(LlamaScopeTorchTest, TheTensorsLieUnderSae) {
  const SaeDirectory directory;
  torch::manual_seed(2);
  const PyDict tensors = {{"encoder.weight", torch::randn({kDSae, kDIn})},
                          {"encoder.bias", torch::randn({kDSae})},
                          {"decoder.weight", torch::randn({kDIn, kDSae})},
                          {"decoder.bias", torch::randn({kDIn})}};
  directory.WriteJson("hyperparams.json", {{"d_model", kDIn},
                                           {"d_sae", kDSae},
                                           {"act_fn", "relu"},
                                           {"norm_activation", "inference"},
                                           {"hook_point_in", "blocks.3.hook_resid_post"}});
  ASSERT_TRUE(EnsureDir(directory.At("checkpoints")).ok());
  TorchSaver::Save(directory.At("checkpoints/final.pt"), PyDict{{"sae", tensors}});
  EXPECT_EQ(directory.Load().value()->config().architecture, "standard");
  TorchSaver::Save(directory.At("checkpoints/final.pt"), tensors);
  EXPECT_THAT(directory.Refusal(), AllOf(HasSubstr("final.pt"), HasSubstr("sae is missing")));
}

}  // namespace
}  // namespace featurescope
