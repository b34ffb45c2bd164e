#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>

#include "server/sae/sae_files.h"
#include "tests/sae/sae_directory.h"

namespace featurescope {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr char kCfg[] = "cfg.json";
constexpr char kWeights[] = "sae_weights.safetensors";

TEST(SaeLensTest, SaysWhatItRecognised) {
  const SaeDirectory directory("saelens/v6_standard");
  const auto sae = directory.Load().value();
  const SaeRecognition& found = sae->recognition();
  EXPECT_EQ(found.format, "SAELens 6.18.0");
  EXPECT_EQ(found.model_name, "gpt2-small");
  EXPECT_EQ(found.hook_name, "blocks.1.hook_resid_pre");
  EXPECT_EQ(found.context_size, 128);
  EXPECT_EQ(found.prepend_bos, true);
  EXPECT_EQ(found.dtype, "float32");
  EXPECT_THAT(found.weights_file, testing::EndsWith(kWeights));
  EXPECT_THAT(found.folds, IsEmpty());
  EXPECT_THAT(found.warnings, IsEmpty());
  EXPECT_EQ(sae->config().hook_name, found.hook_name);
}

TEST(SaeLensTest, TheOldestKeysAreUnderstood) {
  const auto sae = SaeDirectory("saelens/v3_legacy_keys").Load().value();
  EXPECT_EQ(sae->recognition().format, "SAELens, before 6");
  EXPECT_EQ(sae->recognition().hook_name, "blocks.1.hook_resid_pre");
  EXPECT_EQ(sae->config().architecture, "standard");
  EXPECT_TRUE(sae->config().apply_b_dec_to_input);
}

TEST(SaeLensTest, AFileOrItsDirectoryMayBeNamed) {
  const SaeDirectory directory("saelens/v6_topk");
  const std::string hash = directory.Load().value()->hash();
  for (const char* name : {kCfg, kWeights}) {
    EXPECT_EQ(LoadSae(directory.At(name), torch::kCPU).value()->hash(), hash) << name;
  }
  const SaeFileSet files = FindSaeFiles(directory.path()).value();
  EXPECT_EQ(files.format, "SAELens");
  EXPECT_THAT(files.files, testing::ElementsAre(directory.At(kWeights), directory.At(kCfg)));
}

TEST(SaeLensTest, HalfPrecisionIsSaid) {
  const SaeDirectory directory("saelens/v6_standard");
  directory.EditTensors(kWeights, [](NamedTensors& tensors) {
    for (auto& [name, tensor] : tensors) tensor = tensor.to(torch::kBFloat16);
  });
  const auto sae = directory.Load().value();
  EXPECT_EQ(sae->recognition().dtype, "bfloat16");
  EXPECT_EQ(sae->parameters().W_enc.scalar_type(), torch::kFloat32);
}

TEST(SaeLensTest, ACheckpointsScaleIsFoldedFromItsFile) {
  const SaeDirectory directory("saelens/v6_standard_expected_average_only_in");
  directory.WriteJson("activation_scaler.json", {{"scaling_factor", 0.37}});
  const auto sae = directory.Load().value();
  EXPECT_THAT(sae->recognition().folds,
              testing::ElementsAre("input scale 0.37 (activation_scaler.json)"));
  EXPECT_THAT(sae->recognition().warnings, IsEmpty());
  EXPECT_EQ(sae->config().normalize_activations, NormalizeActivations::kNone);
  LoadSaeOptions options;
  options.norm_scaling_factor = 0.37;
  std::filesystem::remove(directory.At("activation_scaler.json"));
  EXPECT_EQ(directory.Load(options).value()->hash(), sae->hash());
}

TEST(SaeLensTest, AScaleIsNotFoldedTwice) {
  const SaeDirectory directory("saelens/v6_standard");
  const std::string hash = directory.Load().value()->hash();
  directory.WriteJson("activation_scaler.json", {{"scaling_factor", 0.37}});
  const auto sae = directory.Load().value();
  EXPECT_EQ(sae->hash(), hash);
  EXPECT_THAT(sae->recognition().folds, IsEmpty());
  EXPECT_THAT(sae->recognition().notes, testing::Contains(HasSubstr("is not used")));
}

TEST(SaeLensTest, AScaleThatNoFileGivesIsWarnedOf) {
  const auto sae = SaeDirectory("saelens/v6_standard_expected_average_only_in").Load().value();
  EXPECT_THAT(sae->recognition().warnings,
              testing::ElementsAre(HasSubstr("give norm_scaling_factor")));
}

TEST(SaeLensTest, AFoldedFineTuningScaleIsSaid) {
  const auto sae = SaeDirectory("saelens/v5_standard_finetuning_scale").Load().value();
  EXPECT_THAT(sae->recognition().folds, testing::ElementsAre(HasSubstr("fine-tuning scale")));
}

TEST(SaeLensTest, ATrainingCheckpointSelectsAsSaeLensDoesAndSaysSo) {
  const SaeDirectory directory("saelens/v6_batchtopk_training_checkpoint");
  const auto whole = directory.Load().value();
  EXPECT_TRUE(whole->config().whole_batch);
  EXPECT_EQ(whole->recognition().format, "SAELens 6.18.0, training checkpoint");
  EXPECT_THAT(whole->recognition().warnings,
              testing::ElementsAre(HasSubstr("activations depend on what is encoded together")));
  LoadSaeOptions options;
  options.selection = SaeSelection::kThreshold;
  const auto by_threshold = directory.Load(options).value();
  EXPECT_FALSE(by_threshold->config().whole_batch);
  EXPECT_GT(by_threshold->parameters().threshold.item<float>(), 0);
  EXPECT_NE(by_threshold->hash(), whole->hash());
}

TEST(SaeLensTest, AThresholdThatWasNeverTrackedIsNoReLU) {
  const SaeDirectory directory("saelens/v6_batchtopk_training_checkpoint");
  directory.EditTensors(kWeights, [](NamedTensors& tensors) {
    *FindTensor(tensors, "topk_threshold") = torch::zeros({}, torch::kFloat64);
  });
  EXPECT_TRUE(directory.Load().ok());
  LoadSaeOptions options;
  options.selection = SaeSelection::kThreshold;
  EXPECT_THAT(
      directory.Refusal(options),
      AllOf(HasSubstr("selects by a threshold, and the file has none"), HasSubstr("whole_batch")));
  options.threshold = 0.5;
  EXPECT_FLOAT_EQ(directory.Load(options).value()->parameters().threshold.item<float>(), 0.5F);
}

TEST(SaeLensTest, AMeanKThatIsNotWholeSelectsByThreshold) {
  const SaeDirectory directory("saelens/v6_batchtopk_training_checkpoint");
  directory.Edit(kCfg, [](json& cfg) { cfg["k"] = 5.5; });
  const auto sae = directory.Load().value();
  EXPECT_FALSE(sae->config().whole_batch);
  EXPECT_THAT(sae->recognition().notes, testing::Contains(HasSubstr("5.5")));
}

TEST(SaeLensTest, OptionsThatDoNotFitAreRefused) {
  const SaeDirectory standard("saelens/v6_standard");
  LoadSaeOptions options;
  options.selection = SaeSelection::kThreshold;
  EXPECT_THAT(standard.Refusal(options), HasSubstr("neither topk nor batchtopk"));
  options = {};
  options.norm_scaling_factor = -1;
  EXPECT_THAT(standard.Refusal(options), HasSubstr("norm_scaling_factor -1 is not > 0"));
}

TEST(SaeLensTest, ATranscodersBDecIsNeverTakenOffItsInput) {
  const SaeDirectory directory("saelens/v6_transcoder");
  LoadSaeOptions options;
  options.apply_b_dec_to_input = true;
  EXPECT_THAT(directory.Refusal(options), HasSubstr("belongs to its output"));
  const auto sae = directory.Load().value();
  EXPECT_TRUE(sae->is_transcoder());
  EXPECT_EQ(sae->config().d_out, 24);
  EXPECT_EQ(sae->config().hook_name_out, "blocks.1.hook_mlp_out");
}

struct BadField {
  const char* golden;
  const char* key;
  json value;
  const char* message;
};

TEST(SaeLensFaultTest, AWrongFieldIsNamedWithItsFile) {
  const std::vector<BadField> cases = {
      {"v6_topk", "k", 0, "field \"k\" is 0"},
      {"v6_topk", "k", 97, "field \"k\" is 97"},
      {"v6_topk", "k", nullptr, "field \"k\" is missing"},
      {"v6_topk", "d_in", "32", "d_in"},
      {"v6_topk", "d_in", 33, "tensor W_enc has shape [32, 96], expected is [33, 96]"},
      {"v6_topk", "d_sae", -1, "field \"d_sae\" is -1"},
      {"v6_topk", "d_sae", 1e9, "d_sae"},
      {"v6_topk", "normalize_activations", "batch", "normalize_activations 'batch'"},
      {"v6_topk", "reshape_activations", "heads", "reshape_activations 'heads'"},
      {"v6_topk", "architecture", "temporal", "SAE architecture 'temporal' is not supported"},
      {"v6_topk", "architecture", "jumprelu", "no tensor threshold"},
      {"v6_topk", "architecture", 3, "architecture"},
      {"v6_topk", "metadata", {{"hook_head_index", 3}}, "hook_head_index is set"},
      {"v6_jumprelu", "architecture", "standard", "tensor threshold is none of those"},
      {"v6_skip_transcoder", "architecture", "transcoder", "tensor W_skip is none of those"},
      {"v6_transcoder", "d_out", nullptr, "field \"d_out\" is missing"},
      {"v6_matryoshka_batchtopk_training_checkpoint",
       "matryoshka_widths",
       {48, 24, 96},
       "matryoshka_widths has 24"},
      {"v6_matryoshka_batchtopk_training_checkpoint",
       "matryoshka_widths",
       {24, 97},
       "matryoshka_widths has 97"},
      {"v6_batchtopk_training_checkpoint", "k", 96.5, "field \"k\" is 96.5"},
      {"v5_standard", "activation_fn_str", "gelu", "activation function 'gelu'"},
      {"v5_gated", "activation_fn_str", "topk", "activation function 'topk' of a gated SAE"},
      {"v5_standard", "finetuning_scaling_factor", true, "tensor scaling_factor is missing"},
      {"v5_standard_finetuning_scale", "finetuning_scaling_factor", false,
       "does not set finetuning_scaling_factor"},
      {"v5_standard", "hook_head_index", 0, "hook_head_index is set"},
  };
  for (const BadField& bad : cases) {
    const SaeDirectory directory(std::string("saelens/") + bad.golden);
    directory.Edit(kCfg, [&bad](json& cfg) { cfg[bad.key] = bad.value; });
    EXPECT_THAT(directory.Refusal(),
                AllOf(HasSubstr(std::string(bad.golden) + "/"), HasSubstr(bad.message)))
        << bad.golden << " " << bad.key << " " << bad.value;
  }
}

TEST(SaeLensFaultTest, UnknownKeysAreIgnored) {
  const SaeDirectory directory("saelens/v6_topk");
  directory.Edit(kCfg, [](json& cfg) { cfg["some_new_key"] = 1; });
  EXPECT_TRUE(directory.Load().ok());
}

TEST(SaeLensFaultTest, AWrongTensorIsNamedWithItsFile) {
  const auto refusal = [](const std::function<void(NamedTensors&)>& change) {
    const SaeDirectory directory("saelens/v6_gated");
    directory.EditTensors(kWeights, change);
    return directory.Refusal();
  };
  EXPECT_THAT(refusal([](NamedTensors& t) { RemoveTensor(t, "b_mag"); }),
              AllOf(StartsWith("NOT_FOUND"), HasSubstr(kWeights), HasSubstr("b_mag")));
  EXPECT_THAT(refusal([](NamedTensors& t) { t.emplace_back("gate_mag", torch::ones({96})); }),
              AllOf(HasSubstr(kWeights), HasSubstr("tensor gate_mag is none of those")));
  EXPECT_THAT(refusal([](NamedTensors& t) { *FindTensor(t, "r_mag") = torch::ones({95}); }),
              AllOf(HasSubstr(kWeights), HasSubstr("r_mag has shape [95], expected is [96]")));
  EXPECT_THAT(refusal([](NamedTensors& t) { FindTensor(t, "b_dec")->fill_(NAN); }),
              AllOf(HasSubstr(kWeights), HasSubstr("b_dec"), HasSubstr("not finite")));
  EXPECT_THAT(refusal([](NamedTensors& t) { FindTensor(t, "r_mag")->fill_(500); }),
              AllOf(HasSubstr(kWeights), HasSubstr("r_mag")));
}

TEST(SaeLensFaultTest, MissingTruncatedAndMalformedFilesAreNamed) {
  const SaeDirectory directory("saelens/v6_topk");
  std::filesystem::resize_file(directory.At(kWeights), 1000);
  EXPECT_THAT(directory.Refusal(), AllOf(StartsWith("INVALID_ARGUMENT"), HasSubstr(kWeights)));
  std::filesystem::remove(directory.At(kWeights));
  EXPECT_THAT(directory.Refusal(), AllOf(StartsWith("NOT_FOUND"), HasSubstr(kWeights)));
  EXPECT_TRUE(WriteFileAtomically(directory.At(kWeights), "x").ok());
  EXPECT_THAT(directory.Refusal(), AllOf(StartsWith("INVALID_ARGUMENT"), HasSubstr(kWeights)));
  EXPECT_TRUE(WriteFileAtomically(directory.At(kCfg), "{").ok());
  EXPECT_THAT(directory.Refusal(), AllOf(StartsWith("INVALID_ARGUMENT"), HasSubstr(kCfg)));
  EXPECT_TRUE(WriteFileAtomically(directory.At(kCfg), "[]").ok());
  EXPECT_THAT(directory.Refusal(), HasSubstr("not a JSON object"));
  std::filesystem::remove(directory.At(kCfg));
  EXPECT_THAT(directory.Refusal(), AllOf(StartsWith("NOT_FOUND"), HasSubstr(kCfg)));
}

TEST(SaeLensFaultTest, AScaleThatIsNoNumberIsRefused) {
  const SaeDirectory directory("saelens/v6_standard_expected_average_only_in");
  for (const json& value : {json("x"), json(0), json(-2), json::array()}) {
    directory.WriteJson("activation_scaler.json", {{"scaling_factor", value}});
    EXPECT_THAT(directory.Refusal(), HasSubstr("activation_scaler.json")) << value;
  }
  directory.WriteJson("activation_scaler.json", {{"scaling_factor", nullptr}});
  EXPECT_TRUE(directory.Load().ok());
}

TEST(SaeLensExportTest, ABatchTopKSaeBecomesTheJumpReluSaeThatSaeLensMakesOfIt) {
  LoadSaeOptions options;
  options.selection = SaeSelection::kThreshold;
  const SaeDirectory directory("saelens/v6_matryoshka_batchtopk_training_checkpoint");
  const auto sae = directory.Load(options).value();
  ASSERT_TRUE(sae->config().rescale_acts_by_decoder_norm);
  ASSERT_TRUE(ExportToSaeLens(*sae, directory.path()).ok());
  const auto exported = directory.Load().value();
  EXPECT_EQ(exported->config().architecture, "jumprelu");
  EXPECT_FALSE(exported->config().rescale_acts_by_decoder_norm);
  const torch::Tensor x = torch::randn({50, 32});
  const EncodedRows before = sae->Encode(x).value();
  const EncodedRows after = exported->Encode(x).value();
  EXPECT_TRUE(torch::equal(before.acts.indices, after.acts.indices));
  EXPECT_TRUE(torch::allclose(before.acts.values, after.acts.values, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(sae->Decode(before), exported->Decode(after), 1e-5, 1e-5));
}

TEST(SaeLensExportTest, WhatSaeLensCannotSayIsRefused) {
  const SaeDirectory tanh("saelens/v5_standard_tanh_relu");
  EXPECT_THAT(ExportToSaeLens(*tanh.Load().value(), tanh.path()).ToString(),
              AllOf(HasSubstr("UNIMPLEMENTED"), HasSubstr("tanh of ReLU")));
  const SaeDirectory groups("sparsify/groupmax/layers.3");
  EXPECT_THAT(ExportToSaeLens(*groups.Load().value(), groups.path()).ToString(),
              HasSubstr("groupmax"));
}

}  // namespace
}  // namespace featurescope
