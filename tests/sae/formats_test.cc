// What each format but SAELens' is recognised as, and what is refused of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "absl/strings/str_replace.h"
#include "server/sae/sae_files.h"
#include "tests/sae/sae_directory.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kGolden[] = FEATURESCOPE_SOURCE_DIR "/tests/golden/sae/";

// --- dictionary_learning

TEST(DictionaryLearningTest, SaysWhatItRecognised) {
  const auto sae = SaeDirectory("dictionary_learning/BatchTopKSAE").Load().value();
  const SaeRecognition& found = sae->recognition();
  EXPECT_EQ(found.format, "dictionary_learning");
  EXPECT_EQ(found.model_name, "EleutherAI/pythia-70m-deduped");
  EXPECT_EQ(found.hook_as_given, "resid_post_layer_3");
  EXPECT_EQ(found.hook_name, "blocks.3.hook_resid_post");
  EXPECT_EQ(found.context_size, 128);
  EXPECT_FALSE(found.prepend_bos.has_value());
  EXPECT_THAT(found.notes, Contains("class BatchTopKSAE"));
  EXPECT_EQ(sae->config().architecture, "batchtopk");
  EXPECT_FALSE(sae->config().whole_batch);
  EXPECT_EQ(sae->config().k, 6);
}

TEST(DictionaryLearningTest, ALayerWithoutSubmoduleIsLeftToTheUser) {
  const SaeDirectory directory("dictionary_learning/AutoEncoder");
  directory.Edit("config.json", [](json& c) { c["trainer"]["submodule_name"] = nullptr; });
  const auto sae = directory.Load().value();
  EXPECT_EQ(sae->recognition().hook_name, "");
  EXPECT_THAT(sae->recognition().notes, Contains(HasSubstr("trained at layer 3")));
  directory.Edit("config.json", [](json& c) {
    c["trainer"]["submodule_name"] = "mlp_out_layer_3";
    c["buffer"]["io"] = "in";
  });
  EXPECT_EQ(directory.Load().value()->recognition().hook_name, "");
}

TEST(DictionaryLearningTest, MatryoshkasGroupsAreKept) {
  const auto sae = SaeDirectory("dictionary_learning/MatryoshkaBatchTopKSAE").Load().value();
  EXPECT_EQ(sae->config().architecture, "matryoshka_batchtopk");
  EXPECT_THAT(sae->config().group_sizes, ElementsAre(12, 24, 60));
}

TEST(DictionaryLearningTest, ABatchTopKFileWithoutThresholdIsNoReLU) {
  const SaeDirectory directory("dictionary_learning/BatchTopKSAE");
  directory.EditStateDict("ae.pt", [](NamedTensors& t) { RemoveTensor(t, "threshold"); });
  EXPECT_THAT(directory.Refusal(), AllOf(HasSubstr("ae.pt"), HasSubstr("the file has none")));
  LoadSaeOptions options;
  options.threshold = 0.25;
  EXPECT_EQ(directory.Load(options).value()->parameters().threshold.item<float>(), 0.25F);
  options = {};
  options.selection = SaeSelection::kPerToken;
  EXPECT_EQ(directory.Load(options).value()->config().architecture, "topk");
  options.k = 97;
  EXPECT_THAT(directory.Refusal(options), HasSubstr("k 97 is out of range [1, 96]"));
}

TEST(DictionaryLearningTest, WithoutConfigTopKAndBatchTopKAreToldApartByTheUserOnly) {
  const SaeDirectory directory("dictionary_learning/AutoEncoderTopK");
  const std::string hash = directory.Load().value()->hash();
  fs::remove(directory.At("config.json"));
  EXPECT_THAT(directory.Refusal(), HasSubstr("give a selection"));
  LoadSaeOptions options;
  options.selection = SaeSelection::kPerToken;
  EXPECT_EQ(directory.Load(options).value()->hash(), hash);
  // Others are known by their tensors.
  const SaeDirectory gated("dictionary_learning/GatedAutoEncoder");
  fs::remove(gated.At("config.json"));
  EXPECT_EQ(gated.Load().value()->config().architecture, "gated");
}

TEST(DictionaryLearningTest, AutoEncoderNewTakesItsInputAsItIs) {
  const SaeDirectory directory("dictionary_learning/AutoEncoder");
  directory.EditStateDict("ae.pt", [](NamedTensors& t) {
    t.emplace_back("decoder.bias", *FindTensor(t, "bias"));
    RemoveTensor(t, "bias");
  });
  directory.Edit("config.json", [](json& c) { c["trainer"]["dict_class"] = "AutoEncoderNew"; });
  const auto sae = directory.Load().value();
  EXPECT_EQ(sae->config().architecture, "standard");
  EXPECT_FALSE(sae->config().apply_b_dec_to_input);
}

TEST(DictionaryLearningTest, BiasesOfAnUnscaledRunScaleWithItsNorm) {
  const SaeDirectory directory("dictionary_learning/JumpReluAutoEncoder");
  const auto sae = directory.Load().value();
  const double norm = 4;
  // What the run would have saved at its end, features of inputs `norm` times as large.
  const torch::Tensor x = torch::randn({20, 32});
  const EncodedRows small = sae->Encode(x).value();
  directory.EditStateDict("ae.pt", [norm](NamedTensors& t) {
    for (const char* name : {"b_enc", "b_dec", "threshold"}) FindTensor(t, name)->mul_(norm);
  });
  const EncodedRows large = directory.Load().value()->Encode(x * norm).value();
  EXPECT_TRUE(torch::equal(small.acts.indices, large.acts.indices));
  EXPECT_TRUE(torch::allclose(small.acts.values * norm, large.acts.values, 1e-4, 1e-5));
}

TEST(DictionaryLearningFaultTest, ContradictionsAreNamed) {
  const auto with = [](const std::string& golden, const std::string& key, const json& value) {
    const SaeDirectory directory("dictionary_learning/" + golden);
    directory.Edit("config.json", [&](json& c) { c["trainer"][key] = value; });
    return directory.Refusal();
  };
  EXPECT_THAT(with("AutoEncoder", "activation_dim", 33),
              HasSubstr("tensors are of 32 dimensions, but activation_dim is 33"));
  EXPECT_THAT(with("AutoEncoder", "dict_size", 95),
              HasSubstr("tensors have 96 features, but dict_size is 95"));
  EXPECT_THAT(with("AutoEncoder", "dict_size", "many"), HasSubstr("config.json"));
  EXPECT_THAT(with("AutoEncoder", "dict_class", "CrossCoder"),
              HasSubstr("dict_class 'CrossCoder' is not supported"));
  EXPECT_THAT(
      with("AutoEncoder", "dict_class", "GatedAutoEncoder"),
      HasSubstr("dict_class is GatedAutoEncoder, but the tensors are those of AutoEncoder"));
  EXPECT_THAT(with("AutoEncoder", "dict_class", 7), HasSubstr("dict_class"));
}

TEST(DictionaryLearningFaultTest, WrongTensorsAreNamed) {
  const auto refusal = [](const std::string& golden,
                          const std::function<void(NamedTensors&)>& change) {
    const SaeDirectory directory("dictionary_learning/" + golden);
    directory.EditStateDict("ae.pt", change);
    return directory.Refusal();
  };
  EXPECT_THAT(refusal("AutoEncoder", [](NamedTensors& t) { RemoveTensor(t, "decoder.weight"); }),
              AllOf(HasSubstr("ae.pt"), HasSubstr("decoder.weight")));
  EXPECT_THAT(
      refusal("AutoEncoder", [](NamedTensors& t) { t.emplace_back("W_skip", torch::ones({2})); }),
      AllOf(HasSubstr("ae.pt"), HasSubstr("tensor W_skip is none of those")));
  EXPECT_THAT(
      refusal("AutoEncoder", [](NamedTensors& t) { *FindTensor(t, "bias") = torch::ones({31}); }),
      HasSubstr("tensor bias has shape [31], expected is [32]"));
  EXPECT_THAT(refusal("AutoEncoder", [](NamedTensors& t) { FindTensor(t, "bias")->fill_(NAN); }),
              AllOf(HasSubstr("bias"), HasSubstr("not finite")));
  EXPECT_THAT(refusal("AutoEncoderTopK",
                      [](NamedTensors& t) { *FindTensor(t, "k") = torch::full({}, 97); }),
              HasSubstr("k is 97, out of range [1, 96]"));
  EXPECT_THAT(
      refusal("AutoEncoderTopK", [](NamedTensors& t) { *FindTensor(t, "k") = torch::ones({2}); }),
      HasSubstr("tensor k is [2] instead of one number"));
  EXPECT_THAT(refusal("MatryoshkaBatchTopKSAE",
                      [](NamedTensors& t) { FindTensor(t, "group_sizes")->sub_(1); }),
              HasSubstr("group_sizes add up to 93, not to d_sae 96"));
}

TEST(DictionaryLearningExportTest, WhatItHasNoClassForIsRefused) {
  const auto refusal = [](const std::string& golden) {
    const SaeDirectory directory(golden);
    return ExportToDictionaryLearning(*directory.Load().value(), directory.path()).ToString();
  };
  EXPECT_THAT(refusal("saelens/v6_transcoder"), HasSubstr("no class for a transcoder"));
  EXPECT_THAT(refusal("saelens/v6_standard_layer_norm"), HasSubstr("no normalisation layer_norm"));
  EXPECT_THAT(refusal("saelens/v5_gated_no_b_dec_input"), HasSubstr("encoder takes x - b_dec"));
  EXPECT_THAT(refusal("saelens/v6_jumprelu"), HasSubstr("encoder takes x as it is"));
}

// --- Gemma Scope

TEST(GemmaScopeTest, ABareFileSaysNothingOfModelAndHook) {
  const auto sae =
      LoadSae(std::string(kGolden) + "gemma_scope/gemma_scope/params.npz", torch::kCPU).value();
  EXPECT_EQ(sae->recognition().format, "Gemma Scope");
  EXPECT_EQ(sae->recognition().model_name, "");
  EXPECT_EQ(sae->recognition().hook_name, "");
  EXPECT_EQ(sae->config().architecture, "jumprelu");
  EXPECT_FALSE(sae->config().apply_b_dec_to_input);
}

// The file in a directory named as the release's.
std::shared_ptr<const Sae> LoadGemmaScopeAt(const std::string& inside) {
  const SaeDirectory directory;
  const std::string path = directory.path() + "/" + inside;
  fs::create_directories(path);
  fs::copy(std::string(kGolden) + "gemma_scope/gemma_scope/params.npz", path + "/params.npz");
  return LoadSae(path, torch::kCPU).value();
}

TEST(GemmaScopeTest, ThePathOfTheReleaseIsUnderstood) {
  const auto sae = LoadGemmaScopeAt(
      "models--google--gemma-scope-2b-pt-res/snapshots/fd57/layer_12/width_16k/"
      "average_l0_82");
  const SaeRecognition& found = sae->recognition();
  EXPECT_EQ(found.model_name, "google/gemma-2-2b");
  EXPECT_EQ(found.hook_name, "blocks.12.hook_resid_post");
  EXPECT_EQ(found.prepend_bos, true);
  EXPECT_THAT(found.notes, Contains(HasSubstr("gemma-scope-2b-pt-res/layer_12")));
}

TEST(GemmaScopeTest, TranscodersAreKnownByTheirRelease) {
  const auto sae = LoadGemmaScopeAt("gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_8");
  EXPECT_EQ(sae->config().architecture, "jumprelu_transcoder");
  EXPECT_EQ(sae->config().hook_name, "blocks.3.ln2.hook_normalized");
  EXPECT_EQ(sae->config().hook_name_out, "blocks.3.hook_mlp_out");
}

TEST(GemmaScopeTest, AnEmbeddingSaeTakesTheScaledEmbedding) {
  const auto plain = LoadGemmaScopeAt("plain");
  const auto sae = LoadGemmaScopeAt("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6");
  EXPECT_EQ(sae->config().hook_name, "hook_embed");
  EXPECT_THAT(sae->recognition().folds, ElementsAre(HasSubstr("embedding scale")));
  const torch::Tensor x = torch::randn({10, 32});
  const double scale = std::sqrt(32.0);
  const EncodedRows expected = plain->Encode(x).value();
  const EncodedRows actual = sae->Encode(x * scale).value();
  EXPECT_TRUE(torch::equal(actual.acts.indices, expected.acts.indices));
  EXPECT_TRUE(torch::allclose(actual.acts.values, expected.acts.values, 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(sae->Decode(actual), plain->Decode(expected) * scale, 1e-4, 1e-4));
}

TEST(GemmaScopeFaultTest, DamageAndOtherFilesAreNamed) {
  const SaeDirectory directory("gemma_scope/gemma_scope");
  const std::string file = directory.At("params.npz");
  fs::copy(file, directory.At("other.npz"));
  EXPECT_TRUE(directory.Load().ok()) << "params.npz goes before others";
  fs::remove(file);
  fs::copy(directory.At("other.npz"), directory.At("third.npz"));
  EXPECT_THAT(directory.Refusal(), HasSubstr("several .npz files"));
  fs::remove(directory.At("third.npz"));
  // Names in the archive, of one length each, so that nothing else changes.
  const std::string bytes = ReadFile(directory.At("other.npz"), 1 << 20).value();
  const auto renamed = [&](const std::vector<std::pair<std::string, std::string>>& names) {
    const std::string text = absl::StrReplaceAll(bytes, names);
    EXPECT_TRUE(WriteFileAtomically(directory.At("other.npz"), text).ok());
    return directory.Refusal();
  };
  EXPECT_EQ(renamed({}), "OK");
  EXPECT_THAT(renamed({{"threshold.npy", "thresh_ld.npy"}}),
              AllOf(HasSubstr("other.npz"), HasSubstr("no tensor threshold")));
  EXPECT_THAT(renamed({{"b_dec.npy", "b_enc.npy"}, {"b_enc.npy", "b_dec.npy"}}),
              HasSubstr("tensor b_enc has shape [32], expected is [96]"));
  EXPECT_THAT(renamed({{"W_dec.npy", "W_enc.npy"}, {"W_enc.npy", "W_dec.npy"}}),
              HasSubstr("tensor b_enc has shape [96], expected is [32]"));
  EXPECT_THAT(renamed({{"W_enc.npy", "b_x_c.npy"}}), HasSubstr("no tensor W_enc"));
  std::string damaged = bytes;
  damaged[5000] = static_cast<char>(damaged[5000] ^ 1);
  EXPECT_TRUE(WriteFileAtomically(directory.At("other.npz"), damaged).ok());
  EXPECT_THAT(directory.Refusal(), AllOf(HasSubstr("other.npz"), HasSubstr("W_dec")));
  fs::resize_file(directory.At("other.npz"), 20000);
  EXPECT_THAT(directory.Refusal(), AllOf(StartsWith("INVALID_ARGUMENT"), HasSubstr("other.npz")));
}

// --- OpenAI

TEST(OpenAiTest, TopKNormalisesAsALayerNormDoes) {
  const auto topk = SaeDirectory("openai/topk_layer_norm").Load().value();
  EXPECT_EQ(topk->recognition().format, "OpenAI");
  EXPECT_EQ(topk->config().architecture, "topk");
  EXPECT_EQ(topk->config().k, 6);
  EXPECT_EQ(topk->config().normalize_activations, NormalizeActivations::kLayerNorm);
  const auto relu = SaeDirectory("openai/relu").Load().value();
  EXPECT_EQ(relu->config().architecture, "standard");
  EXPECT_EQ(relu->config().normalize_activations, NormalizeActivations::kNone);
  const auto identity = SaeDirectory("openai/topk_identity_layer_norm").Load().value();
  EXPECT_THAT(identity->recognition().warnings, ElementsAre(HasSubstr("postact_fn is Identity")));
}

TEST(OpenAiTest, ThePathOfTheReleaseIsUnderstood) {
  const SaeDirectory directory;
  const std::string path = directory.path() + "/gpt2-small/resid_post_mlp_v5_32k/autoencoders";
  fs::create_directories(path);
  for (const char* name : {"/8.pt", "/9.pt"}) {
    fs::copy(std::string(kGolden) + "openai/topk_layer_norm/autoencoder.pt", path + name);
  }
  const auto sae = LoadSae(path + "/8.pt", torch::kCPU).value();
  EXPECT_EQ(sae->recognition().model_name, "gpt2-small");
  EXPECT_EQ(sae->recognition().hook_name, "blocks.8.hook_resid_post");
  EXPECT_EQ(sae->recognition().center_writing_weights, false);
  EXPECT_THAT(LoadSae(path, torch::kCPU).status().ToString(),
              HasSubstr("several files may be meant, name one: 8.pt, 9.pt"));
}

TEST(OpenAiFaultTest, WrongTensorsAreNamed) {
  // Without "activation", which the class reads as ReLU.
  const auto refusal = [](const std::function<void(NamedTensors&)>& change) {
    const SaeDirectory directory("openai/relu");
    directory.EditStateDict("autoencoder.pt", change);
    return directory.Refusal();
  };
  EXPECT_EQ(refusal([](NamedTensors&) {}), "OK");
  EXPECT_THAT(refusal([](NamedTensors& t) { RemoveTensor(t, "encoder.weight"); }),
              AllOf(HasSubstr("autoencoder.pt"), HasSubstr("encoder.weight")));
  EXPECT_THAT(refusal([](NamedTensors& t) { RemoveTensor(t, "decoder.weight"); }),
              HasSubstr("decoder.weight"));
  EXPECT_THAT(refusal([](NamedTensors& t) { t.emplace_back("gate", torch::ones({1})); }),
              HasSubstr("tensor gate is none of those"));
  EXPECT_THAT(refusal([](NamedTensors& t) { *FindTensor(t, "latent_bias") = torch::ones({3}); }),
              HasSubstr("latent_bias has shape [3], expected is [96]"));
  EXPECT_THAT(refusal([](NamedTensors& t) { FindTensor(t, "pre_bias")->fill_(INFINITY); }),
              HasSubstr("pre_bias"));
  EXPECT_THAT(refusal([](NamedTensors& t) { *FindTensor(t, "encoder.weight") = torch::ones({3}); }),
              HasSubstr("encoder.weight is [3], which is no matrix"));
}

TEST(OpenAiTest, ATiedDecoderIsTheEncoder) {
  const SaeDirectory directory("openai/relu");
  directory.EditStateDict("autoencoder.pt", [](NamedTensors& t) {
    RemoveTensor(t, "decoder.weight");
    t.emplace_back("decoder.linear.weight", *FindTensor(t, "encoder.weight"));
  });
  const auto sae = directory.Load().value();
  EXPECT_TRUE(torch::equal(sae->parameters().W_dec, sae->parameters().W_enc.t()));
  EXPECT_THAT(sae->recognition().notes, Contains(HasSubstr("tied")));
}

// --- sparsify

TEST(SparsifyTest, TheDirectorysNameIsTheHookPoint) {
  const auto sae = SaeDirectory("sparsify/topk_num_latents/layers.3").Load().value();
  EXPECT_EQ(sae->recognition().format, "sparsify");
  EXPECT_EQ(sae->recognition().hook_as_given, "layers.3");
  EXPECT_EQ(sae->recognition().hook_name, "blocks.3.hook_resid_post");
  EXPECT_TRUE(sae->config().apply_b_dec_to_input);
  const auto transcoder = SaeDirectory("sparsify/skip_transcoder/layers.3").Load().value();
  EXPECT_EQ(transcoder->config().architecture, "topk_skip_transcoder");
  EXPECT_FALSE(transcoder->config().apply_b_dec_to_input);
  EXPECT_EQ(transcoder->recognition().hook_name, "blocks.3.hook_resid_pre");
  EXPECT_EQ(transcoder->recognition().hook_name_out, "blocks.3.hook_resid_post");
}

TEST(SparsifyTest, MultiTopKOfTrainingIsLeftOutAndSaidSo) {
  const auto sae = SaeDirectory("sparsify/topk_unnormalized_multi/layers.3").Load().value();
  EXPECT_THAT(sae->recognition().notes, Contains(HasSubstr("multi_topk")));
}

TEST(SparsifyFaultTest, WrongFieldsAndTensorsAreNamed) {
  const auto with = [](const std::string& key, const json& value) {
    const SaeDirectory directory("sparsify/topk_num_latents/layers.3");
    directory.Edit("cfg.json", [&](json& c) { c[key] = value; });
    return directory.Refusal();
  };
  EXPECT_THAT(with("k", 97), AllOf(HasSubstr("cfg.json"), HasSubstr("field \"k\" is 97")));
  EXPECT_THAT(with("activation", "softmax"), HasSubstr("activation 'softmax'"));
  EXPECT_THAT(with("signed", true), HasSubstr("signed is set"));
  EXPECT_THAT(with("skip_connection", true), HasSubstr("skip_connection without transcode"));
  EXPECT_THAT(with("num_latents", 95), HasSubstr("encoder.weight has shape [96, 32]"));
  EXPECT_THAT(with("d_in", nullptr), HasSubstr("field \"d_in\" is missing"));
  EXPECT_THAT(with("transcode", 1), HasSubstr("transcode"));
  const SaeDirectory groups("sparsify/groupmax/layers.3");
  groups.Edit("cfg.json", [](json& c) { c["k"] = 7; });
  EXPECT_THAT(groups.Refusal(), HasSubstr("groupmax needs a divisor of d_sae 96"));
  const SaeDirectory skip("sparsify/skip_transcoder/layers.3");
  skip.EditTensors("sae.safetensors", [](NamedTensors& t) { RemoveTensor(t, "W_skip"); });
  EXPECT_THAT(skip.Refusal(), AllOf(HasSubstr("sae.safetensors"), HasSubstr("W_skip")));
  skip.Edit("cfg.json", [](json& c) { c["expansion_factor"] = 16'000'000, c["num_latents"] = 0; });
  EXPECT_THAT(skip.Refusal(), HasSubstr("over the limit"));
  fs::remove(skip.At("cfg.json"));
  EXPECT_THAT(skip.Refusal(), AllOf(StartsWith("NOT_FOUND"), HasSubstr("cfg.json")));
}

// --- notebooks

TEST(StateDictTest, SaysWhereTheHookIsAndThatBDecIsAGuess) {
  const auto first = SaeDirectory("seed/format1").Load().value();
  EXPECT_EQ(first->recognition().format, "state_dict");
  EXPECT_EQ(first->recognition().hook_name, "blocks.3.hook_resid_post");
  EXPECT_THAT(first->recognition().warnings, testing::IsEmpty());
  const auto second = SaeDirectory("seed/format2").Load().value();
  EXPECT_TRUE(second->config().apply_b_dec_to_input);
  EXPECT_THAT(second->recognition().warnings, ElementsAre(HasSubstr("apply_b_dec_to_input")));
}

TEST(StateDictTest, MatricesMayLieEitherWayRound) {
  const SaeDirectory directory("seed/format2");
  const auto sae = directory.Load().value();
  directory.EditStateDict("sae.pt", [](NamedTensors& t) {
    for (const char* name : {"W_enc", "W_dec"}) {
      *FindTensor(t, name) = FindTensor(t, name)->t().contiguous();
    }
  });
  EXPECT_EQ(directory.Load().value()->hash(), sae->hash());
}

TEST(StateDictFaultTest, WrongTensorsAreNamed) {
  const auto refusal = [](const std::function<void(NamedTensors&)>& change) {
    const SaeDirectory directory("seed/format2");
    directory.EditStateDict("sae.pt", change);
    return directory.Refusal();
  };
  EXPECT_THAT(refusal([](NamedTensors& t) { *FindTensor(t, "b_enc") = torch::ones({95}); }),
              AllOf(HasSubstr("sae.pt"), HasSubstr("b_enc has shape [95], expected is [96]")));
  EXPECT_THAT(refusal([](NamedTensors& t) {
                *FindTensor(t, "W_dec") = torch::ones({96, 32});
              }),
              HasSubstr("W_dec has shape [96, 32], expected is [32, 96]"));
  EXPECT_THAT(refusal([](NamedTensors& t) { t.emplace_back("scale", torch::ones({1})); }),
              HasSubstr("tensor scale is none of those"));
  EXPECT_THAT(refusal([](NamedTensors& t) { FindTensor(t, "W_enc")->fill_(NAN); }),
              AllOf(HasSubstr("W_enc"), HasSubstr("not finite")));
  // Without b_enc it is no format at all, and the message says what there is.
  EXPECT_THAT(refusal([](NamedTensors& t) { RemoveTensor(t, "b_enc"); }),
              AllOf(HasSubstr("no SAE format fits"), HasSubstr("Known formats: SAELens")));
}

// --- what is none of them

TEST(UnknownFormatTest, SaysWhatItSawAndWhatItKnows) {
  const SaeDirectory directory;
  EXPECT_THAT(directory.Refusal(), HasSubstr("the directory has no files"));
  ASSERT_TRUE(SaveStateDict(directory.At("model.pt"), {{"lm_head", torch::ones({2})}}).ok());
  EXPECT_THAT(LoadSae(directory.At("model.pt"), torch::kCPU).status().ToString(),
              AllOf(HasSubstr("no SAE format fits"), HasSubstr("it has 1 tensors: lm_head")));
  EXPECT_EQ(LoadSae(directory.At("nothing"), torch::kCPU).status().code(),
            absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileAtomically(directory.At("sae.pt"), "not a pickle").ok());
  EXPECT_THAT(LoadSae(directory.At("sae.pt"), torch::kCPU).status().ToString(),
              AllOf(StartsWith("INVALID_ARGUMENT"), HasSubstr("sae.pt")));
}

}  // namespace
}  // namespace featurescope
