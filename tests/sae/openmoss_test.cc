// Llama Scope and OpenMOSS against what their training computes, written out densely:
//
//   h = x s_in W_E + b_E;  f = h (selected by h |W_D row|);  x_hat = (f W_D + b_D) / s_out
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "server/sae/sae_files.h"
#include "tests/sae/sae_directory.h"

namespace featurescope {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

constexpr int64_t kDIn = 16;
constexpr int64_t kDSae = 40;

struct Weights {
  torch::Tensor W_E = torch::randn({kDIn, kDSae}) * 0.4;
  torch::Tensor b_E = torch::randn({kDSae}) * 0.2;
  torch::Tensor W_D = torch::randn({kDSae, kDIn}) * (torch::rand({kDSae, 1}) + 0.5) / 3;
  torch::Tensor b_D = torch::randn({kDIn}) * 0.3;
  torch::Tensor log_threshold = torch::randn({kDSae}) * 0.3;

  torch::Tensor norms() const { return W_D.norm(2, {1}); }
  NamedTensors Early() const {
    return {{"encoder.weight", W_E.t().contiguous()},
            {"encoder.bias", b_E},
            {"decoder.weight", W_D.t().contiguous()},
            {"decoder.bias", b_D}};
  }
  NamedTensors Later() const { return {{"W_E", W_E}, {"b_E", b_E}, {"W_D", W_D}, {"b_D", b_D}}; }
};

json Hyperparams(const std::string& act_fn) {
  return {{"hook_point_in", "blocks.19.hook_resid_post"},
          {"hook_point_out", "blocks.19.hook_resid_post"},
          {"d_model", kDIn},
          {"d_sae", kDSae},
          {"act_fn", act_fn},
          {"top_k", 5},
          {"jump_relu_threshold", 0.3},
          {"norm_activation", "dataset-wise"},
          {"dataset_average_activation_norm", {{"in", 9.0}, {"out", 9.0}}},
          {"use_decoder_bias", true},
          {"apply_decoder_bias_to_pre_encoder", false},
          {"sparsity_include_decoder_norm", true},
          {"use_glu_encoder", false}};
}

class OpenMossTest : public testing::Test {
 protected:
  OpenMossTest() { torch::manual_seed(4); }

  void WriteEarly(const json& hyperparams) {
    ASSERT_TRUE(EnsureDir(directory_.At("checkpoints")).ok());
    directory_.WriteJson("hyperparams.json", hyperparams);
    ASSERT_TRUE(SaveTensors(directory_.At("checkpoints/final.safetensors"), weights_.Early()).ok());
  }
  void WriteLater(const json& config, NamedTensors tensors) {
    directory_.WriteJson("config.json", config);
    ASSERT_TRUE(SaveTensors(directory_.At("sae_weights.safetensors"), tensors).ok());
  }
  static void ExpectClose(const torch::Tensor& actual, const torch::Tensor& expected) {
    EXPECT_LE((actual - expected).abs().max().item<double>(),
              1e-5 * expected.abs().max().item<double>());
  }

  const SaeDirectory directory_;
  Weights weights_;
  torch::Tensor x_ = torch::randn({30, kDIn}) * 2;
  const double scale_ = std::sqrt(static_cast<double>(kDIn)) / 9.0;
};

TEST_F(OpenMossTest, LlamaScopeComparesItsThresholdInUnitsOfRawInputs) {
  WriteEarly(Hyperparams("jumprelu"));
  const auto sae = directory_.Load().value();
  EXPECT_EQ(sae->config().architecture, "jumprelu");
  EXPECT_EQ(sae->recognition().format, "Llama Scope");
  EXPECT_EQ(sae->recognition().hook_name, "blocks.19.hook_resid_post");
  EXPECT_THAT(sae->recognition().folds, Contains(HasSubstr("dataset norm: scale 0.444")));
  EXPECT_THAT(sae->recognition().folds, Contains(HasSubstr("decoder norms")));
  const torch::Tensor raw =
      (torch::mm(x_, weights_.W_E) + weights_.b_E / scale_) * weights_.norms();
  const torch::Tensor f = raw * (raw > 0.3);
  const EncodedRows encoded = sae->Encode(x_).value();
  ExpectClose(encoded.acts.ToDense(), f);
  const torch::Tensor x_hat =
      torch::mm(f, weights_.W_D / weights_.norms().unsqueeze(1)) + weights_.b_D / scale_;
  ExpectClose(sae->Decode(encoded), x_hat);
  // The same file may be named itself.
  EXPECT_EQ(LoadSae(directory_.At("checkpoints/final.safetensors"), torch::kCPU).value()->hash(),
            sae->hash());
}

TEST_F(OpenMossTest, TopKWithAThresholdRunsAsJumpRelu) {
  json hyperparams = Hyperparams("topk");
  WriteEarly(hyperparams);
  const auto sae = directory_.Load().value();
  EXPECT_EQ(sae->config().architecture, "jumprelu");
  EXPECT_THAT(sae->recognition().notes, Contains(HasSubstr("jumprelu, not topk")));
  hyperparams["jump_relu_threshold"] = 0.0;
  WriteEarly(hyperparams);
  const auto topk = directory_.Load().value();
  EXPECT_EQ(topk->config().architecture, "topk");
  EXPECT_EQ(topk->config().k, 5);
}

TEST_F(OpenMossTest, ATranscodersTwoScalesAreFoldedSeparately) {
  json hyperparams = Hyperparams("jumprelu");
  hyperparams["hook_point_in"] = "blocks.8.ln2.hook_normalized";
  hyperparams["hook_point_out"] = "blocks.8.hook_mlp_out";
  hyperparams["dataset_average_activation_norm"] = {{"in", 9.0}, {"out", 3.0}};
  WriteEarly(hyperparams);
  const auto sae = directory_.Load().value();
  EXPECT_EQ(sae->config().architecture, "jumprelu_transcoder");
  EXPECT_EQ(sae->config().hook_name_out, "blocks.8.hook_mlp_out");
  const double out = std::sqrt(static_cast<double>(kDIn)) / 3.0;
  const torch::Tensor h = torch::mm(x_ * scale_, weights_.W_E) + weights_.b_E;
  // Selected in raw units: |row of W_D s_in / s_out|.
  const torch::Tensor raw = h / scale_ * weights_.norms() * (scale_ / out);
  const torch::Tensor f = h * (raw > 0.3);
  const torch::Tensor y = (torch::mm(f, weights_.W_D) + weights_.b_D) / out;
  ExpectClose(sae->Decode(sae->Encode(x_).value()), y);
}

TEST_F(OpenMossTest, LaterFilesComputeWhatTrainingComputed) {
  json config = Hyperparams("jumprelu");
  config.erase("jump_relu_threshold");
  config.erase("dataset_average_activation_norm");
  config.erase("d_sae");
  config["expansion_factor"] = 2.5;
  config["sae_type"] = "sae";
  const torch::Tensor h = torch::mm(x_ * scale_, weights_.W_E) + weights_.b_E;
  for (const bool by_norm : {true, false}) {
    config["sparsity_include_decoder_norm"] = by_norm;
    NamedTensors tensors = weights_.Later();
    tensors.emplace_back("activation_function.log_jumprelu_threshold", weights_.log_threshold);
    tensors.emplace_back("dataset_average_activation_norm.blocks.19.hook_resid_post",
                         torch::full({}, 9.0F));
    WriteLater(config, tensors);
    const auto sae = directory_.Load().value();
    EXPECT_EQ(sae->recognition().format, "OpenMOSS");
    const torch::Tensor score = by_norm ? h * weights_.norms() : h;
    const torch::Tensor f = (h * (score > weights_.log_threshold.exp())).clamp_min(0);
    const EncodedRows encoded = sae->Encode(x_).value();
    ExpectClose(encoded.acts.ToDense(), f / scale_);  // features of raw inputs
    ExpectClose(sae->Decode(encoded), (torch::mm(f, weights_.W_D) + weights_.b_D) / scale_);
  }
}

TEST_F(OpenMossTest, NamesOfTheFirstGenerationGoWithAThresholdPerFeature) {
  json config = Hyperparams("jumprelu");
  config.erase("jump_relu_threshold");
  config["norm_activation"] = "inference";
  NamedTensors tensors = weights_.Early();
  tensors.emplace_back("log_jumprelu_threshold", weights_.log_threshold);
  WriteLater(config, tensors);
  const auto sae = directory_.Load().value();
  const torch::Tensor h = torch::mm(x_, weights_.W_E) + weights_.b_E;
  const torch::Tensor f = h * (h * weights_.norms() > weights_.log_threshold.exp());
  ExpectClose(sae->Encode(x_).value().acts.ToDense(), f.clamp_min(0));
}

TEST_F(OpenMossTest, TopKSelectsByTheProductWithTheDecodersNorms) {
  json config = Hyperparams("topk");
  config.erase("jump_relu_threshold");
  config["norm_activation"] = "token-wise";
  WriteLater(config, weights_.Later());
  const auto sae = directory_.Load().value();
  const torch::Tensor c = std::sqrt(static_cast<double>(kDIn)) / x_.norm(2, {1}, /*keepdim=*/true);
  const torch::Tensor h = torch::mm(x_ * c, weights_.W_E) + weights_.b_E;
  const torch::Tensor score = (h * weights_.norms()).clamp_min(0);
  const torch::Tensor least = std::get<0>(score.topk(5, 1)).slice(1, 4);
  const torch::Tensor f = h * (score >= least) * (score > 0);
  ExpectClose(sae->Decode(sae->Encode(x_).value()),
              (torch::mm(f, weights_.W_D) + weights_.b_D) / c);
}

TEST_F(OpenMossTest, WrongFieldsAndTensorsAreNamed) {
  const auto with = [this](const std::string& key, const json& value) {
    json hyperparams = Hyperparams("jumprelu");
    hyperparams[key] = value;
    WriteEarly(hyperparams);
    return directory_.Refusal();
  };
  EXPECT_THAT(with("d_model", 17), HasSubstr("encoder.weight has shape [40, 16]"));
  EXPECT_THAT(with("d_sae", nullptr),
              AllOf(HasSubstr("hyperparams.json"), HasSubstr("expansion_factor")));
  EXPECT_THAT(with("act_fn", "gelu"), HasSubstr("act_fn 'gelu'"));
  EXPECT_THAT(with("jump_relu_threshold", 0), HasSubstr("jump_relu_threshold is not > 0"));
  EXPECT_THAT(with("jump_relu_threshold", -1), HasSubstr("jump_relu_threshold"));
  EXPECT_THAT(with("norm_activation", "batch-wise"), HasSubstr("norm_activation 'batch-wise'"));
  EXPECT_THAT(with("dataset_average_activation_norm", nullptr),
              HasSubstr("dataset_average_activation_norm is missing"));
  EXPECT_THAT(with("dataset_average_activation_norm", {{"in", 0}}), HasSubstr("field \"in\" is 0"));
  EXPECT_THAT(with("use_glu_encoder", true), HasSubstr("use_glu_encoder"));
  EXPECT_THAT(with("sae_type", "crosscoder"), HasSubstr("sae_type 'crosscoder'"));
  EXPECT_THAT(with("use_decoder_bias", false), HasSubstr("tensor decoder.bias is none of those"));
  std::filesystem::remove_all(directory_.At("checkpoints"));
  EXPECT_THAT(directory_.Refusal(), AllOf(HasSubstr("NOT_FOUND"), HasSubstr("final.safetensors")));
}

}  // namespace
}  // namespace featurescope
