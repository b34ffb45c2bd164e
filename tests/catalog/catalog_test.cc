#include "server/catalog/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "server/catalog/staging.h"
#include "server/store/index_db.h"
#include "tests/catalog/tiny_model.h"
#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kHook[] = "blocks.1.hook_resid_post";

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() {
    options_.allowed_roots = {dir_.path()};
    Reopen();
  }
  void Reopen() {
    catalog_.reset();
    auto catalog = Catalog::Open(dir_ / "data", options_);
    ASSERT_TRUE(catalog.ok()) << catalog.status();
    catalog_ = *std::move(catalog);
  }
  void AddModelNamed(const std::string& id, bool with_tokenizer = true, uint64_t seed = 1) {
    WriteTinyModel(dir_ / id, with_tokenizer, seed);
    const auto row = catalog_->AddModel(id, dir_ / id);
    ASSERT_TRUE(row.ok()) << row.status();
  }
  absl::StatusOr<SaeRow> AddSaeNamed(const std::string& id, int64_t d_in = kTinyWidth,
                                     bool any_width = false) {
    WriteTinySae(dir_ / id, d_in, kHook);
    return catalog_->AddSae(id, dir_ / id, {"m", "", any_width});
  }
  absl::StatusOr<CorpusRow> AddCorpusNamed(const std::string& id, int documents = 50) {
    WriteTinyText(dir_ / "text.jsonl", documents);
    AddCorpusOptions options;
    options.paths = {dir_ / "text.jsonl"};
    options.model_id = "m";
    return catalog_->AddCorpus(id, options, nullptr, CancelToken());
  }
  void WriteIndex(const std::string& sae, const std::string& corpus, uint32_t d_sae) {
    auto writer = IndexWriter::Create(catalog_->IndexPath(sae, corpus));
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (uint32_t f = 0; f < d_sae; ++f) {
      FeatureRow row;
      row.feature = f;
      ASSERT_TRUE((*writer)->AddFeature(row, {}, {}).ok());
    }
    IndexInfoRow info;
    info.sae_id = sae, info.corpus_id = corpus, info.d_sae = d_sae;
    ASSERT_TRUE((*writer)->Finish(info).ok());
  }
  // Nothing is left of something half done.
  void ExpectNoStaging(const std::string& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(dir_ / "data/" + folder)) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(kStagingPrefix)) << entry.path();
    }
  }

  TempDir dir_;
  CatalogOptions options_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(CatalogTest, AModelIsDescribedLoadedAndOurs) {
  AddModelNamed("m");
  const ModelRow row = catalog_->GetModel("m").value();
  EXPECT_EQ(row.architecture, "gpt2");
  EXPECT_EQ(row.n_layers, 2u);
  EXPECT_EQ(row.d_model, 16u);
  EXPECT_EQ(row.d_vocab, 257u);
  EXPECT_EQ(row.n_ctx, 32u);
  EXPECT_TRUE(row.has_tokenizer);
  EXPECT_GT(row.memory_bytes, 0u);
  EXPECT_THAT(row.hook_names, ::testing::Contains(kHook));
  EXPECT_TRUE(catalog_->ModelIsLoaded("m"));
  EXPECT_EQ(row.path, catalog_->data_dir() + "/models/m");

  // The original may go.
  std::filesystem::remove_all(dir_ / "m");
  Reopen();
  EXPECT_FALSE(catalog_->ModelIsLoaded("m"));
  const auto model = catalog_->LoadedModel("m");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->hash(), row.hash);
  EXPECT_EQ((*catalog_->LoadedTokenizer("m"))->hash(), row.tokenizer_hash);
  EXPECT_EQ(catalog_->Config("m")->n_layers, 2);
  ExpectNoStaging("models");
}

TEST_F(CatalogTest, TheSameContentAgainIsFineOtherContentIsNot) {
  AddModelNamed("m");
  EXPECT_TRUE(catalog_->AddModel("m", dir_ / "m").ok());
  WriteTinyModel(dir_ / "other", true, 2);
  EXPECT_TRUE(absl::IsAlreadyExists(catalog_->AddModel("m", dir_ / "other").status()));
  ASSERT_TRUE(AddSaeNamed("s").ok());
  EXPECT_TRUE(AddSaeNamed("s").ok());
  WriteTinySae(dir_ / "s2", kTinyWidth, kHook, 99);
  EXPECT_TRUE(absl::IsAlreadyExists(catalog_->AddSae("s", dir_ / "s2", {"m", "", false}).status()));
  ASSERT_TRUE(AddCorpusNamed("c").ok());
  EXPECT_TRUE(AddCorpusNamed("c").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(AddCorpusNamed("c", 51).status()));
  ExpectNoStaging("models");
  ExpectNoStaging("saes");
  ExpectNoStaging("corpora");
}

TEST_F(CatalogTest, UnknownIdsAreNamedWithThoseThereAre) {
  EXPECT_EQ(catalog_->GetModel("x").status().message(), "no model \"x\"; there is none yet");
  AddModelNamed("b");
  AddModelNamed("a");
  EXPECT_EQ(catalog_->LoadedModel("x").status().message(), "no model \"x\"; there are: a, b");
  EXPECT_TRUE(absl::IsNotFound(catalog_->LoadedSae("x").status()));
  EXPECT_TRUE(absl::IsNotFound(catalog_->LoadedCorpus("x").status()));
  EXPECT_TRUE(absl::IsNotFound(catalog_->OpenIndex("x", "").status()));
  EXPECT_TRUE(absl::IsNotFound(catalog_->DeleteModel("../x")));
}

TEST_F(CatalogTest, BadModelsLeaveNothing) {
  WriteTinyModel(dir_ / "m", true);
  std::filesystem::resize_file(dir_ / "m/model.safetensors", 5000);
  const auto row = catalog_->AddModel("m", dir_ / "m");
  EXPECT_TRUE(absl::IsInvalidArgument(row.status())) << row.status();
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetModel("m").status()));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/models"));
  EXPECT_TRUE(absl::IsInvalidArgument(catalog_->AddModel("No Good", dir_ / "m").status()));
}

TEST_F(CatalogTest, PathsOutsideTheRootsAreRefused) {
  options_.allowed_roots = {dir_ / "inside"};
  std::filesystem::create_directories(dir_ / "inside");
  Reopen();
  WriteTinyModel(dir_ / "outside", true);
  EXPECT_TRUE(absl::IsPermissionDenied(catalog_->AddModel("m", dir_ / "outside").status()));
  EXPECT_TRUE(
      absl::IsPermissionDenied(catalog_->AddModel("m", dir_ / "inside/../outside").status()));
  std::filesystem::create_directory_symlink(dir_ / "outside", dir_ / "inside/link");
  EXPECT_TRUE(absl::IsPermissionDenied(catalog_->AddModel("m", dir_ / "inside/link").status()));
  // One file of the directory leads out.
  WriteTinyModel(dir_ / "inside/m", true);
  std::filesystem::remove(dir_ / "inside/m/model.safetensors");
  std::filesystem::create_symlink(dir_ / "outside/model.safetensors",
                                  dir_ / "inside/m/model.safetensors");
  EXPECT_TRUE(absl::IsPermissionDenied(catalog_->AddModel("m", dir_ / "inside/m").status()));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/models"));
}

TEST_F(CatalogTest, AModelWithoutTokenizerTakesTokenIdsOnly) {
  AddModelNamed("m", false);
  EXPECT_FALSE(catalog_->GetModel("m")->has_tokenizer);
  const absl::Status status = catalog_->LoadedTokenizer("m").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("token ids only"));
  EXPECT_TRUE(absl::IsFailedPrecondition(AddCorpusNamed("c").status()));
}

TEST_F(CatalogTest, AnSaesWidthMustFitUnlessItIsForVectors) {
  AddModelNamed("m");
  const SaeRow fits = AddSaeNamed("s").value();
  EXPECT_EQ(fits.hook_name, kHook);
  EXPECT_EQ(fits.d_sae, 32u);
  EXPECT_EQ(fits.k, 4u);
  EXPECT_FALSE(fits.vectors_only);
  const auto wide = AddSaeNamed("wide", 24);
  EXPECT_TRUE(absl::IsInvalidArgument(wide.status()));
  EXPECT_THAT(std::string(wide.status().message()), HasSubstr("d_in 24"));
  EXPECT_TRUE(AddSaeNamed("wide", 24, true)->vectors_only);
  EXPECT_TRUE(absl::IsInvalidArgument(
      catalog_->AddSae("bad", dir_ / "s", {"m", "blocks.9.hook_resid_post", false}).status()));
  EXPECT_TRUE(absl::IsNotFound(catalog_->AddSae("bad", dir_ / "s", {"none", "", false}).status()));
  EXPECT_EQ((*catalog_->LoadedSae("s"))->config().d_sae, 32);
}

TEST_F(CatalogTest, ACorpusIsTokenisedAndCancelledWithoutATrace) {
  AddModelNamed("m");
  const CorpusRow row = AddCorpusNamed("c").value();
  EXPECT_EQ(row.n_documents, 50u);
  EXPECT_EQ(row.context_size, 32u);
  EXPECT_GT(row.n_tokens, 1000u);
  EXPECT_EQ(row.tokenizer_hash, catalog_->GetModel("m")->tokenizer_hash);
  const CorpusHandle handle = catalog_->LoadedCorpus("c").value();
  EXPECT_EQ(handle.tokens->n_tokens(), row.n_tokens);

  AddCorpusOptions options;
  options.paths = {dir_ / "text.jsonl"};
  options.model_id = "m";
  const CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(catalog_->AddCorpus("d", options, nullptr, cancel).status()));
  options.context_size = 33;
  EXPECT_TRUE(
      absl::IsInvalidArgument(catalog_->AddCorpus("d", options, nullptr, CancelToken()).status()));
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetCorpus("d").status()));
  ExpectNoStaging("corpora");
}

TEST_F(CatalogTest, DeletingRemovesTheFilesAndKeepsHandles) {
  AddModelNamed("m");
  ASSERT_TRUE(AddSaeNamed("s").ok());
  ASSERT_TRUE(AddCorpusNamed("c").ok());
  WriteIndex("s", "c", 4);
  const auto model = catalog_->LoadedModel("m").value();
  EXPECT_TRUE(absl::IsFailedPrecondition(catalog_->DeleteModel("m")));
  EXPECT_TRUE(catalog_->DeleteSae("s").ok());
  EXPECT_FALSE(std::filesystem::exists(catalog_->IndexPath("s", "c")));
  EXPECT_TRUE(catalog_->DeleteCorpus("c").ok());
  EXPECT_TRUE(catalog_->DeleteModel("m").ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/models"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/saes"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/corpora"));
  EXPECT_EQ(model->config().n_layers, 2);
  // The id is free for other content.
  AddModelNamed("m", true, 2);
  EXPECT_NE((*catalog_->LoadedModel("m"))->hash(), model->hash());
}

TEST_F(CatalogTest, IndexesAreFoundAndReopenedWhenReplaced) {
  AddModelNamed("m");
  ASSERT_TRUE(AddSaeNamed("s").ok());
  EXPECT_THAT(std::string(catalog_->OpenIndex("s", "").status().message()),
              HasSubstr("featurescope index --sae s"));
  EXPECT_THAT(std::string(catalog_->OpenIndex("s", "c").status().message()),
              HasSubstr("featurescope index --sae s --corpus c"));
  WriteIndex("s", "c", 4);
  EXPECT_EQ((*catalog_->OpenIndex("s", ""))->info().d_sae, 4u);
  EXPECT_EQ(catalog_->OpenIndex("s", "c")->get(), catalog_->OpenIndex("s", "")->get());
  WriteIndex("s", "c", 5);
  EXPECT_EQ((*catalog_->OpenIndex("s", "c"))->info().d_sae, 5u);
  WriteIndex("s", "d", 6);
  EXPECT_TRUE(absl::IsFailedPrecondition(catalog_->OpenIndex("s", "").status()));
  EXPECT_EQ(catalog_->ListIndexes("s")->size(), 2u);
  EXPECT_TRUE(absl::IsInvalidArgument(catalog_->OpenIndex("s", "../../x").status()));
  std::filesystem::resize_file(catalog_->IndexPath("s", "d"), 3000);
  EXPECT_TRUE(absl::IsDataLoss(catalog_->OpenIndex("s", "d").status()));
}

TEST_F(CatalogTest, ATrainedSaeIsAdoptedOnce) {
  AddModelNamed("m");
  const std::string result = catalog_->JobDir("j1") + "/result";
  WriteTinySae(result, kTinyWidth, kHook);
  const auto row = catalog_->AdoptSae("new", result, "m", kHook, "j1");
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->training_job_id, "j1");
  EXPECT_FALSE(std::filesystem::exists(result));
  EXPECT_TRUE(catalog_->AdoptSae("new", result, "m", kHook, "j1").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(catalog_->AdoptSae("new", result, "m", kHook, "j2").status()));
}

TEST_F(CatalogTest, ASecondServerIsKeptOut) {
  const auto second = Catalog::Open(dir_ / "data", options_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(::getpid())));
  struct stat info;
  ASSERT_EQ(::stat((dir_ / "data").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(CatalogTest, WhatAKilledServerLeftIsCleanedUp) {
  const std::string left = dir_ / "data/models/.new-abc";
  std::filesystem::create_directories(left);
  std::filesystem::create_directories(dir_ / "data/jobs/gone");
  std::filesystem::create_directories(dir_ / "data/models/m");  // renamed, but never entered
  std::ofstream(dir_ / "data/index/s@c.db.tmp") << "half";
  Reopen();
  EXPECT_FALSE(std::filesystem::exists(left));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "data/jobs/gone"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/index"));
  AddModelNamed("m");
}

TEST_F(CatalogTest, ChangedFilesAreNotUsed) {
  AddModelNamed("m");
  Reopen();
  WriteTinyModel(dir_ / "other", true, 2);
  std::filesystem::copy_file(dir_ / "other/model.safetensors",
                             dir_ / "data/models/m/model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(absl::IsDataLoss(catalog_->LoadedModel("m").status()));
}

TEST_F(CatalogTest, ConcurrentCallersShareOneModel) {
  AddModelNamed("m");
  Reopen();
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<const Transformer>> models(8);
  for (size_t t = 0; t < models.size(); ++t) {
    threads.emplace_back([&, t] { models[t] = catalog_->LoadedModel("m").value(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& model : models) EXPECT_EQ(model, models[0]);
  EXPECT_EQ(catalog_->memory_used_bytes(), catalog_->GetModel("m")->memory_bytes);
}

TEST_F(CatalogTest, TheBudgetEvictsWhatIsNotInUse) {
  AddModelNamed("a");
  const uint64_t bytes = catalog_->GetModel("a")->memory_bytes;
  options_.memory_budget_bytes = bytes + bytes / 2;
  Reopen();
  AddModelNamed("b", true, 2);
  {
    const auto a = catalog_->LoadedModel("a");
    ASSERT_TRUE(a.ok()) << a.status();
    EXPECT_FALSE(catalog_->ModelIsLoaded("b"));
    EXPECT_TRUE(absl::IsResourceExhausted(catalog_->LoadedModel("b").status()));
  }
  EXPECT_TRUE(catalog_->LoadedModel("b").ok());
  EXPECT_FALSE(catalog_->ModelIsLoaded("a"));
  EXPECT_TRUE(catalog_->UnloadModel("b").ok());
  EXPECT_FALSE(catalog_->ModelIsLoaded("b"));
}

TEST(LoadCacheTest, AFailedLoadIsTriedAgainAndTakesNoRoom) {
  LoadCache cache(100);
  int loads = 0;
  const auto fail = [&]() -> absl::StatusOr<LoadCache::Handle> {
    ++loads;
    return absl::UnavailableError("not now");
  };
  EXPECT_FALSE(cache.Get("x", 60, fail).ok());
  EXPECT_EQ(cache.used_bytes(), 0u);
  EXPECT_FALSE(cache.Get("x", 60, fail).ok());
  EXPECT_EQ(loads, 2);
}

TEST(LoadCacheTest, TheLeastRecentlyUsedGoesFirst) {
  LoadCache cache(100);
  const auto load = []() -> absl::StatusOr<LoadCache::Handle> { return std::make_shared<int>(1); };
  ASSERT_TRUE(cache.Get("a", 40, load).ok());
  ASSERT_TRUE(cache.Get("b", 40, load).ok());
  ASSERT_TRUE(cache.Get("a", 40, load).ok());
  ASSERT_TRUE(cache.Get("c", 40, load).ok());
  EXPECT_TRUE(cache.Contains("a"));
  EXPECT_FALSE(cache.Contains("b"));
  EXPECT_TRUE(absl::IsResourceExhausted(cache.Get("d", 101, load).status()));
}

}  // namespace
}  // namespace featurescope
