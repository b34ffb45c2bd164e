// Every SAE of tests/golden/sae gives the numbers that the framework which wrote it gave, however
// it is loaded, saved and exported. The numbers: expected.safetensors beside each, made by SAELens
// 5.11.0 and 6.18.0, dictionary_learning 60ec6bf, sparsify 9d3b136, openai/sparse_autoencoder
// 4965b94 and, for seed/, plain torch.nn layers.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/sae_files.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;

std::string Root() { return std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/sae/"; }

struct Golden {
  std::string directory;
  std::string variant;  // of the names below; for the test's own name
  // Tensors of expected.safetensors; empty: not recorded.
  std::string encode = "encode";
  std::string decode = "decode";
  std::string forward = "forward";
  LoadSaeOptions options = {};
};

void PrintTo(const Golden& golden, std::ostream* out) {
  *out << golden.directory << " " << golden.variant;
}

template <typename F>
LoadSaeOptions With(F set) {
  LoadSaeOptions options;
  set(options);
  return options;
}

std::vector<Golden> MakeGoldens() {
  std::vector<Golden> goldens;
  const auto add = [&goldens](std::string directory, std::string prefix, LoadSaeOptions options) {
    goldens.push_back({std::move(directory), absl::StrReplaceAll(prefix, {{".", "_"}}),
                       prefix + "encode", prefix.empty() ? "decode" : "", prefix + "forward",
                       options});
  };
  for (const char* name : {"v3_legacy_keys",
                           "v5_gated",
                           "v5_gated_no_b_dec_input",
                           "v5_jumprelu",
                           "v5_jumprelu_layer_norm",
                           "v5_standard",
                           "v5_standard_constant_norm_rescale",
                           "v5_standard_expected_average_only_in",
                           "v5_standard_finetuning_scale",
                           "v5_standard_hook_z",
                           "v5_standard_layer_norm",
                           "v5_standard_no_b_dec_input",
                           "v5_standard_tanh_relu",
                           "v5_standard_topk_activation",
                           "v5_topk",
                           "v6_batchtopk",
                           "v6_batchtopk_no_rescale",
                           "v6_batchtopk_training_checkpoint",
                           "v6_gated",
                           "v6_gated_constant_norm_rescale",
                           "v6_jumprelu",
                           "v6_jumprelu_from_training",
                           "v6_jumprelu_no_b_dec_input",
                           "v6_jumprelu_training_checkpoint",
                           "v6_jumprelu_transcoder",
                           "v6_matryoshka_batchtopk",
                           "v6_matryoshka_batchtopk_training_checkpoint",
                           "v6_skip_transcoder",
                           "v6_standard",
                           "v6_standard_constant_norm_rescale",
                           "v6_standard_expected_average_only_in",
                           "v6_standard_hook_z",
                           "v6_standard_layer_norm",
                           "v6_standard_layer_norm_no_b_dec_input",
                           "v6_standard_no_b_dec_input",
                           "v6_topk",
                           "v6_topk_from_training",
                           "v6_topk_layer_norm",
                           "v6_topk_rescale_by_decoder_norm",
                           "v6_transcoder",
                           "v6_transcoder_layer_norm"}) {
    add(std::string("saelens/") + name, "", {});
  }
  for (const char* version : {"v5", "v6"}) {
    add(std::string("saelens/") + version + "_standard_expected_average_only_in", "folded.",
        With([](LoadSaeOptions& o) { o.norm_scaling_factor = 0.37; }));
  }
  for (const char* name : {"AutoEncoder", "AutoEncoderTopK", "BatchTopKSAE", "GatedAutoEncoder",
                           "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"}) {
    const std::string directory = std::string("dictionary_learning/") + name;
    add(directory, "", {});
    // Its loader lets the features of this class grow by the decoder's norms.
    const bool grows = std::string(name) == "AutoEncoder";
    add(directory, "load_dictionary.",
        With([grows](LoadSaeOptions& o) { o.rescale_acts_by_decoder_norm = grows; }));
  }
  for (const char* name : {"BatchTopKSAE", "MatryoshkaBatchTopKSAE"}) {
    goldens.push_back({std::string("dictionary_learning/") + name, "batch", "encode_batch_topk",
                       "decode_batch_topk", "",
                       With([](LoadSaeOptions& o) { o.selection = SaeSelection::kWholeBatch; })});
  }
  goldens.push_back({"dictionary_learning/AutoEncoderTopK", "threshold", "encode_threshold", "", "",
                     With([](LoadSaeOptions& o) { o.selection = SaeSelection::kThreshold; })});
  add("dictionary_learning/JumpReluAutoEncoder", "apply_b_dec_to_input.",
      With([](LoadSaeOptions& o) { o.apply_b_dec_to_input = true; }));
  for (const char* name : {"gemma_scope", "gemma_scope_compressed"}) {
    add(std::string("gemma_scope/") + name, "", {});
  }
  for (const char* name : {"relu", "topk_identity_layer_norm", "topk_layer_norm"}) {
    add(std::string("openai/") + name, "", {});
  }
  for (const char* name : {"groupmax", "legacy_cfg", "skip_transcoder", "topk_expansion",
                           "topk_num_latents", "topk_unnormalized_multi"}) {
    add(std::string("sparsify/") + name + "/layers.3", "", {});
  }
  // Where multi_topk is set, sparsify's forward() ends with the reconstruction of a second loss,
  // from the 4 k largest; encode() and decode() are those of k.
  for (Golden& golden : goldens) {
    if (golden.directory == "sparsify/topk_unnormalized_multi/layers.3") golden.forward = "";
  }
  goldens.push_back({"sparsify/topk_unnormalized_multi/layers.3", "multi", "", "", "forward",
                     With([](LoadSaeOptions& o) { o.k = 24; })});
  add("seed/format1", "", {});
  for (const char* name : {"format2", "format2_legacy_container"}) {
    const std::string directory = std::string("seed/") + name;
    add(directory, "b_dec_subtracted.", {});
    add(directory, "", With([](LoadSaeOptions& o) { o.apply_b_dec_to_input = false; }));
  }
  return goldens;
}

const std::vector<Golden>& Goldens() {
  static const auto* goldens = new std::vector<Golden>(MakeGoldens());
  return *goldens;
}

torch::Tensor Expected(const Golden& golden, const std::string& tensor) {
  const SafetensorsFile file =
      SafetensorsFile::Open(Root() + golden.directory + "/expected.safetensors").value();
  return LoadTensor(file, *file.Get(tensor).value(), torch::kFloat32, torch::kCPU).value();
}

void ExpectClose(const torch::Tensor& actual, const torch::Tensor& expected,
                 const std::string& what) {
  ASSERT_EQ(actual.numel(), expected.numel()) << what;
  const double error = (actual - expected.reshape(actual.sizes())).abs().max().item<double>();
  EXPECT_LE(error, 1e-5 * expected.abs().max().item<double>()) << what;
}

void ExpectAgreement(const Sae& sae, const Golden& golden) {
  const torch::Tensor x = Expected(golden, "x");
  const EncodedRows encoded = sae.Encode(x).value();
  ASSERT_TRUE(encoded.acts.Validate().ok());
  const torch::Tensor acts = encoded.acts.ToDense();
  if (!golden.encode.empty()) {
    ExpectClose(acts, Expected(golden, golden.encode), golden.encode);
  }
  if (!golden.decode.empty()) {
    const torch::Tensor decoded = sae.Decode(EncodedRows{encoded.acts, encoded.normalization, {}});
    ExpectClose(decoded, Expected(golden, golden.decode), golden.decode);
  }
  if (!golden.forward.empty()) {
    ExpectClose(sae.Decode(encoded), Expected(golden, golden.forward), golden.forward);
  }
  const std::vector<uint32_t> features = {5, 0, 95, 33};
  const torch::Tensor some = sae.EncodeFeatures(x, features).value();
  for (size_t i = 0; i < features.size(); ++i) {
    const torch::Tensor one = some.select(1, static_cast<int64_t>(i));
    EXPECT_LE((one - acts.select(1, features[i])).abs().max().item<double>(), 1e-5);
  }
}

std::shared_ptr<const Sae> Load(const Golden& golden) {
  const absl::StatusOr<std::shared_ptr<const Sae>> sae =
      LoadSae(Root() + golden.directory, torch::kCPU, golden.options);
  EXPECT_TRUE(sae.ok()) << sae.status();
  return sae.ok() ? *sae : nullptr;
}

class GoldenTest : public testing::TestWithParam<Golden> {
 protected:
  GoldenTest()
      : copy_(testing::TempDir() + "/sae_golden_" +
              absl::StrReplaceAll(GetParam().directory + GetParam().variant, {{"/", "_"}})) {
    fs::remove_all(copy_);
    EXPECT_TRUE(EnsureDir(copy_).ok());
  }
  ~GoldenTest() override { fs::remove_all(copy_); }

  const std::string copy_;
};

TEST_P(GoldenTest, GivesTheNumbersOfItsFramework) {
  const std::shared_ptr<const Sae> sae = Load(GetParam());
  ASSERT_NE(sae, nullptr);
  EXPECT_EQ(sae->hash().size(), 64u);
  EXPECT_FALSE(sae->recognition().format.empty());
  EXPECT_EQ(sae->recognition().dtype.substr(0, 7), "float32");
  ExpectAgreement(*sae, GetParam());
}

TEST_P(GoldenTest, SurvivesBeingSavedAndLoadedToTheBit) {
  const std::shared_ptr<const Sae> sae = Load(GetParam());
  ASSERT_NE(sae, nullptr);
  ASSERT_TRUE(SaveSae(*sae, copy_).ok());
  const absl::StatusOr<std::shared_ptr<const Sae>> again = LoadSae(copy_, torch::kCPU);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->hash(), sae->hash());
  EXPECT_EQ((*again)->config().hook_name, sae->config().hook_name);
  EXPECT_EQ((*again)->config().hook_name_out, sae->config().hook_name_out);
  EXPECT_EQ((*again)->config().context_size, sae->config().context_size);
  ExpectAgreement(**again, GetParam());
}

TEST_P(GoldenTest, IsExportedForSaeLensOrRefusedWithTheReason) {
  const std::shared_ptr<const Sae> sae = Load(GetParam());
  ASSERT_NE(sae, nullptr);
  const absl::Status status = ExportToSaeLens(*sae, copy_);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "SAELens")) << status;
    return;
  }
  const nlohmann::json cfg = ReadJsonFile(copy_ + "/cfg.json").value();
  const std::set<std::string> known = {
      "standard",           "topk", "jumprelu", "gated", "transcoder", "skip_transcoder",
      "jumprelu_transcoder"};
  EXPECT_EQ(known.count(cfg["architecture"]), 1u) << cfg;
  if (cfg["architecture"] != "topk") EXPECT_FALSE(cfg.value("rescale_acts_by_decoder_norm", false));
  const std::shared_ptr<const Sae> again = LoadSae(copy_, torch::kCPU).value();
  if (sae->config().whole_batch) return;  // it became the SAE with the threshold
  ExpectAgreement(*again, GetParam());
  // From then on nothing changes any more.
  const std::string twice = copy_ + "/twice";
  ASSERT_TRUE(EnsureDir(twice).ok());
  ASSERT_TRUE(ExportToSaeLens(*again, twice).ok());
  EXPECT_EQ(LoadSae(twice, torch::kCPU).value()->hash(), again->hash());
}

TEST_P(GoldenTest, IsExportedForDictionaryLearningOrRefusedWithTheReason) {
  const std::shared_ptr<const Sae> sae = Load(GetParam());
  ASSERT_NE(sae, nullptr);
  const absl::Status status = ExportToDictionaryLearning(*sae, copy_);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "dictionary_learning")) << status;
    return;
  }
  LoadSaeOptions options;
  if (sae->config().whole_batch) options.selection = SaeSelection::kWholeBatch;
  const absl::StatusOr<std::shared_ptr<const Sae>> again = LoadSae(copy_, torch::kCPU, options);
  ASSERT_TRUE(again.ok()) << again.status();
  ExpectAgreement(**again, GetParam());
  EXPECT_EQ((*again)->config().hook_name, sae->config().hook_name);
  const bool folded = sae->config().rescale_acts_by_decoder_norm;
  const std::string twice = copy_ + "/twice";
  ASSERT_TRUE(EnsureDir(twice).ok());
  ASSERT_TRUE(ExportToDictionaryLearning(**again, twice).ok());
  const std::shared_ptr<const Sae> third = LoadSae(twice, torch::kCPU, options).value();
  EXPECT_EQ(third->hash(), (*again)->hash());
  if (!folded && sae->config().reshape_hook_z == (*again)->config().reshape_hook_z &&
      sae->config().normalize_activations == NormalizeActivations::kNone) {
    EXPECT_EQ((*again)->hash(), sae->hash());
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenTest, testing::ValuesIn(Goldens()),
                         [](const testing::TestParamInfo<Golden>& info) {
                           return absl::StrReplaceAll(
                               info.param.directory + "_" + info.param.variant,
                               {{"/", "_"}, {".", "_"}});
                         });

TEST(GoldenCoverageTest, EveryFixtureAndEveryRecordedTensorHasATest) {
  std::map<std::string, std::set<std::string>> covered;
  for (const Golden& golden : Goldens()) {
    for (const std::string& name : {golden.encode, golden.decode, golden.forward}) {
      covered[golden.directory].insert(name);
    }
  }
  // Inputs, and what only training has a use for.
  const std::set<std::string> others = {"x",
                                        "y",
                                        "fvu",
                                        "norm_scaling_factor",
                                        "pre_acts",
                                        "latents_pre_act",
                                        "multi_topk_fvu",
                                        "auxk_loss_dead_every_7th",
                                        "gate_preact_relu"};
  int fixtures = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(Root())) {
    if (entry.path().filename() != "expected.safetensors") continue;
    ++fixtures;
    const std::string directory = fs::relative(entry.path().parent_path(), Root()).generic_string();
    ASSERT_EQ(covered.count(directory), 1u) << directory << " has no test";
    const SafetensorsFile file = SafetensorsFile::Open(entry.path().string()).value();
    for (const TensorEntry& tensor : file.entries()) {
      EXPECT_TRUE(others.count(tensor.name) == 1 || covered[directory].count(tensor.name) == 1)
          << directory << ": " << tensor.name << " has no test";
    }
  }
  EXPECT_EQ(fixtures, static_cast<int>(covered.size()));
  EXPECT_GE(fixtures, 61);
}

TEST(GoldenCoverageTest, TheSharedFixturesAreAllHere) {
  const char* given = std::getenv("FEATURESCOPE_SHARED");
  const std::string shared =
      std::string(given != nullptr ? given : FEATURESCOPE_SOURCE_DIR "/../shared") +
      "/fixtures/sae";
  if (!fs::is_directory(shared)) GTEST_SKIP() << shared << " is not there";
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(shared)) {
    if (!entry.is_regular_file()) continue;
    const fs::path relative = fs::relative(entry.path(), shared);
    EXPECT_TRUE(fs::exists(Root() / relative)) << relative << " is not in tests/golden/sae";
  }
}

}  // namespace
}  // namespace featurescope
