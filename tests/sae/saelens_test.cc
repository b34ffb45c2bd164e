// Numbers and files of SAELens 5.11.0 and 6.18.0: tests/golden/sae/saelens.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/sae_files.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

std::string Directory(const std::string& name) {
  return std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/sae/saelens/" + name;
}

torch::Tensor Expected(const std::string& name, const std::string& tensor) {
  const SafetensorsFile file =
      SafetensorsFile::Open(Directory(name) + "/expected.safetensors").value();
  return LoadTensor(file, *file.Get(tensor).value(), torch::kFloat32, torch::kCPU).value();
}

void ExpectClose(const torch::Tensor& actual, const torch::Tensor& expected) {
  ASSERT_EQ(actual.numel(), expected.numel());
  const double error = (actual - expected.reshape(actual.sizes())).abs().max().item<double>();
  EXPECT_LE(error, 1e-5 * expected.abs().max().item<double>());
}

void ExpectAgreement(const Sae& sae, const std::string& name) {
  const torch::Tensor x = Expected(name, "x");
  const EncodedRows encoded = sae.Encode(x).value();
  ASSERT_TRUE(encoded.acts.Validate().ok());
  ExpectClose(encoded.acts.ToDense(), Expected(name, "encode"));
  ExpectClose(sae.Decode(encoded), Expected(name, "forward"));
  ExpectClose(sae.Decode(encoded), Expected(name, "decode"));
  const std::vector<uint32_t> features = {5, 0, 95, 33};
  const torch::Tensor some = sae.EncodeFeatures(x, features).value();
  for (size_t i = 0; i < features.size(); ++i) {
    ExpectClose(some.select(1, static_cast<int64_t>(i)),
                encoded.acts.ToDense().select(1, features[i]) + 0.0);
  }
}

class SaeLensTest : public testing::TestWithParam<const char*> {};

TEST_P(SaeLensTest, EncodesAndDecodesAsSaeLensDoes) {
  const absl::StatusOr<std::shared_ptr<const Sae>> sae =
      LoadSae(Directory(GetParam()), torch::kCPU);
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_EQ((*sae)->hash().size(), 64u);
  EXPECT_EQ((*sae)->config().model_name, "gpt2-small");
  EXPECT_EQ((*sae)->config().context_size, 128);
  ExpectAgreement(**sae, GetParam());
}

TEST_P(SaeLensTest, SurvivesBeingWrittenAndReadAgain) {
  const std::shared_ptr<const Sae> sae = LoadSae(Directory(GetParam()), torch::kCPU).value();
  const std::string copy = testing::TempDir() + "/saelens_" + GetParam();
  ASSERT_TRUE(EnsureDir(copy).ok());
  ASSERT_TRUE(SaveSae(*sae, copy).ok());
  const absl::StatusOr<std::shared_ptr<const Sae>> again = LoadSae(copy, torch::kCPU);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->hash(), sae->hash());
  EXPECT_EQ((*again)->config().hook_name, sae->config().hook_name);
  ExpectAgreement(**again, GetParam());
  std::filesystem::remove_all(copy);
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, SaeLensTest,
    testing::Values("v3_legacy_keys", "v5_standard", "v5_standard_constant_norm_rescale",
                    "v5_standard_expected_average_only_in", "v5_standard_hook_z",
                    "v5_standard_layer_norm", "v5_standard_no_b_dec_input",
                    "v5_standard_topk_activation", "v5_topk", "v6_standard",
                    "v6_standard_constant_norm_rescale", "v6_standard_expected_average_only_in",
                    "v6_standard_hook_z", "v6_standard_layer_norm",
                    "v6_standard_layer_norm_no_b_dec_input", "v6_standard_no_b_dec_input",
                    "v6_topk", "v6_topk_from_training", "v6_topk_layer_norm",
                    "v6_topk_rescale_by_decoder_norm"));

TEST(SaeLensRefusalTest, WhatIsNotSupportedIsRefusedByName) {
  const auto refusal = [](const std::string& name) {
    const absl::Status status = LoadSae(Directory(name), torch::kCPU).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    return std::string(status.message());
  };
  EXPECT_NE(refusal("v6_jumprelu").find("'jumprelu'"), std::string::npos);
  EXPECT_NE(refusal("v5_standard_tanh_relu").find("'tanh-relu'"), std::string::npos);
  EXPECT_NE(refusal("v5_standard_finetuning_scale").find("finetuning_scaling_factor"),
            std::string::npos);
}

// A copy of v6_topk with one field of cfg.json changed.
class BadConfigTest : public testing::Test {
 protected:
  BadConfigTest() : directory_(testing::TempDir() + "/bad_saelens") {
    std::filesystem::remove_all(directory_);
    std::filesystem::copy(Directory("v6_topk"), directory_);
  }
  ~BadConfigTest() override { std::filesystem::remove_all(directory_); }

  absl::Status LoadWith(const std::string& key, const nlohmann::json& value) {
    nlohmann::json cfg = ReadJsonFile(Directory("v6_topk") + "/cfg.json").value();
    cfg[key] = value;
    EXPECT_TRUE(WriteFileAtomically(directory_ + "/cfg.json", cfg.dump()).ok());
    return LoadSae(directory_, torch::kCPU).status();
  }

  std::string directory_;
};

TEST_F(BadConfigTest, ErrorsNameFileAndField) {
  for (const auto& [key, value] : std::vector<std::pair<std::string, nlohmann::json>>{
           {"k", 0}, {"k", 97}, {"k", nullptr}, {"d_in", "32"}, {"d_in", 33}, {"d_sae", -1}}) {
    const absl::Status status = LoadWith(key, value);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key << " " << value;
    EXPECT_NE(status.message().find("bad_saelens/"), absl::string_view::npos) << status;
  }
  EXPECT_EQ(LoadWith("normalize_activations", "batch").code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(LoadWith("some_new_key", 1).ok());
}

TEST_F(BadConfigTest, MissingAndTruncatedFilesAreNamed) {
  std::filesystem::resize_file(directory_ + "/sae_weights.safetensors", 1000);
  const absl::Status truncated = LoadSae(directory_, torch::kCPU).status();
  EXPECT_EQ(truncated.code(), absl::StatusCode::kInvalidArgument) << truncated;
  EXPECT_NE(truncated.message().find("sae_weights.safetensors"), absl::string_view::npos);
  std::filesystem::remove(directory_ + "/cfg.json");
  const absl::Status missing = LoadSae(directory_, torch::kCPU).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << missing;
  EXPECT_NE(missing.message().find("cfg.json"), absl::string_view::npos);
}

}  // namespace
}  // namespace featurescope
