// SAEs as they come: which model they belong to, which files are theirs, what is kept with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "server/catalog/catalog.h"
#include "server/catalog/import_sae_files.h"
#include "server/catalog/known_sae.h"
#include "server/catalog/names.h"
#include "server/catalog/sae_overrides.h"
#include "tests/base/temp_dir.h"
#include "tests/catalog/tiny_model.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kHook[] = "blocks.1.hook_resid_post";

std::string Golden(const std::string& name) {
  return std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/sae/" + name;
}

TEST(ModelNamesTest, ComeDownToTheirLastPart) {
  EXPECT_EQ(CanonicalModelName("openai-community/gpt2"), "gpt2");
  EXPECT_EQ(CanonicalModelName("gpt2-small"), "gpt2");
  EXPECT_EQ(CanonicalModelName("EleutherAI/pythia-70m-deduped@main"), "pythia70mdeduped");
  EXPECT_EQ(CanonicalModelName("/srv/models/Gemma-2-2B/"), "gemma22b");
  EXPECT_EQ(CanonicalModelName("/c/hub/models--google--gemma-2-2b/snapshots/0123"), "gemma22b");
  EXPECT_EQ(CanonicalModelName(""), "");
}

TEST(ModelNamesTest, AreThoseOfIdAndSource) {
  ModelRow model;
  model.id = "mine";
  EXPECT_FALSE(GoesByName(model, "gpt2-small"));
  model.source = "openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e";
  EXPECT_TRUE(GoesByName(model, "gpt2-small"));
  EXPECT_TRUE(GoesByName(model, "Mine"));
  EXPECT_FALSE(GoesByName(model, "gpt2-xl"));
}

TEST(ModelNamesTest, BecomeIds) {
  EXPECT_EQ(IdFromName("Llama 3.1/8B"), "llama-3.1-8b");
  EXPECT_EQ(IdFromName("--_x"), "x");
  EXPECT_EQ(IdFromName(std::string(100, 'a')), std::string(64, 'a'));
}

TEST(SaeOverridesTest, ComeBackAsTheyWere) {
  LoadSaeOptions options;
  EXPECT_EQ(ToJson(options), "");
  options.apply_b_dec_to_input = false;
  options.normalize_activations = NormalizeActivations::kLayerNorm;
  options.norm_scaling_factor = 0.37;
  options.rescale_acts_by_decoder_norm = true;
  options.selection = SaeSelection::kThreshold;
  options.threshold = 0.25;
  options.k = 32;
  const LoadSaeOptions read = SaeOverridesFromJson(ToJson(options)).value();
  EXPECT_EQ(read.apply_b_dec_to_input, false);
  EXPECT_EQ(read.normalize_activations, NormalizeActivations::kLayerNorm);
  EXPECT_EQ(read.norm_scaling_factor, 0.37);
  EXPECT_EQ(read.rescale_acts_by_decoder_norm, true);
  EXPECT_EQ(read.selection, SaeSelection::kThreshold);
  EXPECT_EQ(read.threshold, 0.25);
  EXPECT_EQ(read.k, 32);
  for (const char* bad : {"[]", "{", R"({"k": "x"})", R"({"selection": "best"})",
                          R"({"normalize_activations": "batch"})", R"({"threshold": true})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(SaeOverridesFromJson(bad).status())) << bad;
  }
}

TEST(KnownSaeTest, PathsInTheHubsCacheAreRecognised) {
  const std::string cache = "/home/u/.cache/huggingface/hub/";
  const KnownOfSae known = KnownOfPath(
      cache + "models--jbloom--GPT2-Small-SAEs-Reformatted/snapshots/abc/blocks.8.hook_resid_pre");
  EXPECT_TRUE(known.center_writing_weights);
  EXPECT_EQ(known.hook_name, "blocks.8.hook_resid_pre");
  EXPECT_EQ(known.model, "openai-community/gpt2");
  EXPECT_FALSE(KnownOfPath("/srv/saes/blocks.8.hook_resid_pre").center_writing_weights);
  EXPECT_EQ(KnownOfPath(cache + "models--some--one/snapshots/abc/x").model, "");
  EXPECT_EQ(KnownOfPath(cache + "models--jbloom--GPT2-Small-SAEs-Reformatted").model, "");
}

class ImportSaeFilesTest : public ::testing::Test {
 protected:
  ImportSaeFilesTest() {
    fs::create_directories(dir_ / "in");
    fs::create_directories(dir_ / "out");
    fs::create_directories(dir_ / "to");
  }
  absl::StatusOr<std::string> Import(const std::string& path) {
    return ImportSaeFiles(path, dir_ / "to", std::vector<std::string>{dir_ / "in"});
  }
  TempDir dir_;
};

TEST_F(ImportSaeFilesTest, NamesOfDirectoriesStayWhereTheySayTheHook) {
  const std::string path = dir_ / "in/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82";
  fs::create_directories(fs::path(path).parent_path());
  fs::copy(Golden("gemma_scope/gemma_scope"), path);
  const auto main = Import(path);
  ASSERT_TRUE(main.ok()) << main.status();
  EXPECT_THAT(*main, HasSubstr("layer_12/width_16k/average_l0_82"));
  const std::string brought = (dir_ / "to/") + *main + "/params.npz";
  EXPECT_TRUE(fs::exists(brought));
  EXPECT_EQ(fs::hard_link_count(brought), 2u) << "no second copy on the disk";
  EXPECT_EQ(LoadSae((dir_ / "to/") + *main, torch::kCPU).value()->recognition().hook_name,
            LoadSae(path, torch::kCPU).value()->recognition().hook_name);
}

TEST_F(ImportSaeFilesTest, OnlyTheSaesFilesAreBrought) {
  fs::copy(Golden("saelens/v6_topk"), dir_ / "in/sae");
  std::ofstream(dir_ / "in/sae/notes.txt") << "mine";
  EXPECT_EQ(Import(dir_ / "in/sae").value(), "");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir_ / "to"))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("cfg.json", "sae_weights.safetensors"));
}

TEST_F(ImportSaeFilesTest, AFileMayBeNamedItself) {
  fs::copy(Golden("dictionary_learning/AutoEncoder"), dir_ / "in/trainer_0");
  const auto main = Import(dir_ / "in/trainer_0/ae.pt");
  ASSERT_TRUE(main.ok()) << main.status();
  EXPECT_THAT(*main, HasSubstr("trainer_0/ae.pt"));
  EXPECT_TRUE(LoadSae((dir_ / "to/") + *main, torch::kCPU).ok());
}

TEST_F(ImportSaeFilesTest, NoLinkLeadsOut) {
  fs::copy(Golden("saelens/v6_topk"), dir_ / "out/sae");
  EXPECT_TRUE(absl::IsPermissionDenied(Import(dir_ / "out/sae").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(Import(dir_ / "in/../out/sae").status()));
  fs::create_directory_symlink(dir_ / "out/sae", dir_ / "in/link");
  EXPECT_TRUE(absl::IsPermissionDenied(Import(dir_ / "in/link").status()));
  fs::create_directories(dir_ / "in/a/b");
  fs::create_directory_symlink(dir_ / "in/a/b", dir_ / "in/deep");
  EXPECT_FALSE(Import(dir_ / "in/deep/../../out/sae").ok());
  for (const char* file : {"cfg.json", "sae_weights.safetensors"}) {
    const std::string at = dir_ / (std::string("in/with-") + file);
    fs::copy(Golden("saelens/v6_topk"), at);
    fs::remove(at + "/" + file);
    fs::create_symlink((dir_ / "out/sae/") + file, at + "/" + file);
    EXPECT_TRUE(absl::IsPermissionDenied(Import(at).status())) << file;
  }
  EXPECT_TRUE(fs::is_empty(dir_ / "to"));
}

class AddSaeTest : public ::testing::Test {
 protected:
  AddSaeTest() {
    CatalogOptions options;
    options.allowed_roots = {dir_.path(), Golden("")};
    auto catalog = Catalog::Open(dir_ / "data", options);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    catalog_ = *std::move(catalog);
    AddModel("gpt2", 1);
  }
  void AddModel(const std::string& id, uint64_t seed) {
    WriteTinyModel(dir_ / id, true, seed);
    const auto row = catalog_->AddModel(id, dir_ / id);
    ASSERT_TRUE(row.ok()) << row.status();
  }
  // A SAELens directory that says what the arguments say.
  std::string Sae(const std::string& name, const std::string& model, const std::string& hook,
                  const std::string& architecture = "standard") {
    torch::manual_seed(3);
    SaeConfig config;
    config.architecture = architecture;
    config.d_in = kTinyWidth;
    config.d_sae = 32;
    config.apply_b_dec_to_input = !IsTranscoder(architecture);
    config.model_name = model;
    config.hook_name = hook;
    SaeParameters p;
    p.W_enc = torch::randn({kTinyWidth, 32});
    p.W_dec = torch::randn({32, kTinyWidth});
    p.b_enc = torch::zeros({32});
    p.b_dec = torch::zeros({kTinyWidth});
    const auto sae = featurescope::Sae::Create(config, p);
    EXPECT_TRUE(sae.ok()) << sae.status();
    fs::create_directories(dir_ / name);
    EXPECT_TRUE(SaveSae(**sae, dir_ / name).ok());
    return dir_ / name;
  }

  TempDir dir_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(AddSaeTest, TheModelIsFoundByTheNameInTheFiles) {
  const auto row = catalog_->AddSae("s", Sae("s", "gpt2-small", kHook), {});
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->model_id, "gpt2");
  EXPECT_EQ(row->trained_on, "gpt2-small");
  EXPECT_EQ(row->hook_name, kHook);
  EXPECT_EQ(row->hook_name_out, kHook);
  EXPECT_THAT(row->format, HasSubstr("SAELens"));
  EXPECT_EQ(row->file_dtype, "float32");
  EXPECT_EQ(row->activation, "ReLU");
}

TEST_F(AddSaeTest, WhatIsNotKnownIsAskedForByItsFlag) {
  const auto no_model = catalog_->AddSae("s", Sae("s", "", kHook), {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(no_model));
  EXPECT_THAT(std::string(no_model.message()), HasSubstr("--model: gpt2"));
  const auto other = catalog_->AddSae("s", Sae("t", "gpt2-xl", kHook), {}).status();
  EXPECT_THAT(std::string(other.message()), HasSubstr("\"gpt2-xl\""));
  const auto no_hook = catalog_->AddSae("s", Sae("u", "gpt2", ""), {}).status();
  EXPECT_THAT(std::string(no_hook.message()), HasSubstr("--hook blocks"));
  const auto no_out =
      catalog_->AddSae("s", Sae("v", "gpt2", "blocks.1.ln2.hook_normalized", "transcoder"), {});
  EXPECT_THAT(std::string(no_out.status().message()), HasSubstr("--hook-out blocks"));
}

TEST_F(AddSaeTest, ATranscoderIsBoundToTwoHooks) {
  AddSaeOptions options;
  options.hook_name_out = "blocks.1.hook_mlp_out";
  const std::string path = Sae("t", "gpt2", "blocks.1.ln2.hook_normalized", "transcoder");
  const auto row = catalog_->AddSae("t", path, options);
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->hook_name_out, "blocks.1.hook_mlp_out");
  options.hook_name_out = "blocks.0.hook_mlp_out";
  EXPECT_THAT(std::string(catalog_->AddSae("u", path, options).status().message()),
              HasSubstr("before"));
}

TEST_F(AddSaeTest, AnotherModelThanTheFilesNameIsWarnedOf) {
  AddSaeOptions options;
  options.model_id = "gpt2";
  const auto row = catalog_->AddSae("s", Sae("s", "pythia-70m", kHook), options);
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_THAT(row->warnings, Contains(HasSubstr("pythia-70m")));
  const auto same = catalog_->AddSae("t", Sae("t", "gpt2-small", kHook), options);
  EXPECT_THAT(same->warnings, ::testing::Not(Contains(HasSubstr("was trained on a model"))));
}

TEST_F(AddSaeTest, CentringIsKeptAndRefusedWhereItHasNoMeaning) {
  AddSaeOptions options;
  options.center_writing_weights = true;
  ASSERT_TRUE(catalog_->AddSae("s", Sae("s", "gpt2", kHook), options).ok());
  EXPECT_TRUE(catalog_->GetSae("s")->center_writing_weights);
  options.center_writing_weights.reset();
  EXPECT_TRUE(absl::IsAlreadyExists(catalog_->AddSae("s", dir_ / "s", options).status()))
      << "another binding is another SAE";

  const std::string llama = std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/llama";
  fs::copy(llama, dir_ / "llama");
  ASSERT_TRUE(catalog_->AddModel("llama", dir_ / "llama").ok());
  options.model_id = "llama";
  options.any_width = true;
  options.center_writing_weights = true;
  EXPECT_THAT(std::string(catalog_->AddSae("t", dir_ / "s", options).status().message()),
              HasSubstr("RMSNorm"));
}

TEST_F(AddSaeTest, WhatAReleaseIsKnownToNeedIsUsedWhereTheFilesAreSilent) {
  AddSaeOptions options;
  options.known = KnownOfSae();
  options.known->model = "openai-community/gpt2";
  options.known->hook_name = "blocks.0.hook_resid_pre";
  options.known->center_writing_weights = true;
  options.known->prepend_bos = true;
  options.known->context_size = 64;
  const auto silent = catalog_->AddSae("s", Golden("openai/relu"), options);
  EXPECT_THAT(std::string(silent.status().message()), HasSubstr("blocks.0.hook_resid_pre of model"))
      << "model and hook known";
  const auto row = catalog_->AddSae("t", Sae("t", "", kHook), options);
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->hook_name, kHook) << "the files win";
  EXPECT_EQ(row->model_id, "gpt2");
  EXPECT_TRUE(row->center_writing_weights);
  options.center_writing_weights = false;
  EXPECT_FALSE(catalog_->AddSae("u", Sae("u", "", kHook), options)->center_writing_weights);
}

TEST_F(AddSaeTest, SettingsAreAppliedEachTimeItIsLoaded) {
  AddSaeOptions options;
  options.load.norm_scaling_factor = 0.5;
  ASSERT_TRUE(catalog_->AddSae("s", Sae("s", "gpt2", kHook), options).ok());
  ASSERT_TRUE(catalog_->AddSae("t", dir_ / "s", {}).ok());
  const auto scaled = catalog_->LoadedSae("s").value()->parameters().W_enc;
  const auto plain = catalog_->LoadedSae("t").value()->parameters().W_enc;
  EXPECT_TRUE(torch::allclose(scaled, 0.5 * plain));
  const SaeRow row = catalog_->GetSae("s").value();
  EXPECT_THAT(row.folds, ::testing::Not(IsEmpty()));
  catalog_.reset();
  CatalogOptions again;
  again.allowed_roots = {"/"};
  catalog_ = Catalog::Open(dir_ / "data", again).value();
  EXPECT_TRUE(torch::allclose(catalog_->LoadedSae("s").value()->parameters().W_enc, scaled));
}

TEST_F(AddSaeTest, ExportsAppearWholeInANewOrEmptyDirectory) {
  ASSERT_TRUE(catalog_->AddSae("s", Sae("s", "gpt2", kHook), {}).ok());
  const auto exported = catalog_->ExportSae("s", "saelens", dir_ / "out");
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_THAT(exported->files, ElementsAre("cfg.json", "sae_weights.safetensors"));
  EXPECT_GT(exported->bytes, 2000u);
  EXPECT_EQ(LoadSae(dir_ / "out", torch::kCPU).value()->hash(), catalog_->GetSae("s")->hash);
  EXPECT_FALSE(catalog_->ExportSae("s", "saelens", dir_ / "out").ok()) << "not empty";
  fs::create_directory(dir_ / "empty");
  EXPECT_TRUE(catalog_->ExportSae("s", "dictionary_learning", dir_ / "empty/").ok());
  EXPECT_FALSE(catalog_->ExportSae("s", "pickle", dir_ / "x").ok());
  EXPECT_FALSE(catalog_->ExportSae("s", "saelens", "").ok());
  EXPECT_FALSE(catalog_->ExportSae("s", "saelens", dir_ / "data/saes/x").ok());
  EXPECT_FALSE(catalog_->ExportSae("s", "saelens", dir_ / "no/such").ok());
  TempDir elsewhere;
  EXPECT_TRUE(
      absl::IsPermissionDenied(catalog_->ExportSae("s", "saelens", elsewhere / "x").status()));
  fs::create_directory_symlink(elsewhere.path(), dir_ / "link");
  EXPECT_TRUE(
      absl::IsPermissionDenied(catalog_->ExportSae("s", "saelens", dir_ / "link/x").status()));
  EXPECT_TRUE(
      absl::IsPermissionDenied(catalog_->ExportSae("s", "saelens", dir_ / "link").status()));
  EXPECT_TRUE(fs::is_empty(elsewhere.path()));
  for (const auto& entry : fs::directory_iterator(dir_.path())) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(::testing::StartsWith(".new-")));
  }
}

}  // namespace
}  // namespace featurescope
