// Pulling models and SAEs from a hub on the loopback: what arrives, and where.
#include "server/hub/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/hub/pull_fixture.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

TEST_F(PullTest, FetchesConfigTokenizerAndSafetensorsOnly) {
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->files, ElementsAre("config.json", "tokenizer.json", "model.safetensors"));
  for (const std::string& file : model->files) {
    EXPECT_EQ(Content(model->directory + "/" + file), Wanted(file)) << file;
  }
  EXPECT_EQ(model->commit, std::string(40, 'c'));
  EXPECT_EQ(model->bytes_downloaded, model->bytes_total);
  EXPECT_FALSE(model->from_cache);
  EXPECT_THAT(hub_.Requests("pytorch_model.bin"), IsEmpty());
}

TEST_F(PullTest, WritesTheLayoutOfHuggingfaceHub) {
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string repo = cache_ + "/models--org--model";
  EXPECT_EQ(model->directory, repo + "/snapshots/" + std::string(40, 'c'));
  EXPECT_EQ(Content(repo + "/refs/main"), std::string(40, 'c'));
  const std::string hash =
      BlobOf("model.safetensors").substr(BlobOf("model.safetensors").size() - 64);
  EXPECT_EQ(std::filesystem::read_symlink(model->directory + "/model.safetensors").string(),
            "../../blobs/" + hash);
  EXPECT_TRUE(FileExists(BlobOf("config.json")));
  EXPECT_TRUE(FileExists(cache_ + "/.locks/models--org--model/" + hash + ".lock"));
  EXPECT_FALSE(FileExists(BlobOf("model.safetensors") + ".incomplete"));
}

TEST_F(PullTest, FetchesTheShardsThatTheIndexNames) {
  AddShards();
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(
      model->files,
      UnorderedElementsAre("config.json", "tokenizer.json", "model.safetensors.index.json",
                           "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                           "model-00003-of-00003.safetensors"));
  EXPECT_EQ(Content(model->directory + "/model-00002-of-00003.safetensors"),
            Wanted("model-00002-of-00003.safetensors"));
}

TEST_F(PullTest, AnIndexThatNamesAnAbsentShardIsAnError) {
  AddShards();
  hub_.Edit([](FakeHub::State& state) {
    state.repos[kRepo].files.erase("model-00002-of-00003.safetensors");
  });
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model-00002-of-00003.safetensors"));
}

TEST_F(PullTest, WithoutSafetensorsItSaysWhatThereIs) {
  hub_.Edit([](FakeHub::State& state) { state.repos[kRepo].files.erase("model.safetensors"); });
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("no .safetensors"), HasSubstr("pytorch_model.bin")));
}

TEST_F(PullTest, IncludePatternsReplaceTheChoice) {
  PullOptions options = Options();
  options.include = {"*.md", "onnx/"};
  const auto model = Model(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->files, ElementsAre("README.md", "onnx/model.onnx"));
  EXPECT_EQ(Content(model->directory + "/onnx/model.onnx"), Wanted("onnx/model.onnx"));

  options.include = {"*.md", "*.gguf"};
  EXPECT_THAT(std::string(ModelError(options).message()), HasSubstr("\"*.gguf\""));
}

TEST_F(PullTest, TheSecondTimeNothingIsFetched) {
  ASSERT_TRUE(Model(Options()).ok());
  hub_.hub().ForgetRequests();
  hub_.cdn().ForgetRequests();
  const auto again = Model(Options());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->bytes_downloaded, 0u);
  EXPECT_THAT(hub_.Requests("/resolve/"), IsEmpty());
  EXPECT_THAT(hub_.Requests("/lfs/"), IsEmpty());
}

TEST_F(PullTest, ANewCommitFetchesOnlyWhatChanged) {
  ASSERT_TRUE(Model(Options()).ok());
  hub_.Edit([](FakeHub::State& state) {
    state.repos[kRepo].commit = std::string(40, 'e');
    state.repos[kRepo].files["config.json"].content = "{\"model_type\": \"llama\"}";
  });
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->commit, std::string(40, 'e'));
  EXPECT_EQ(model->bytes_downloaded, Wanted("config.json").size());
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));
  EXPECT_EQ(Content(model->directory + "/config.json"), Wanted("config.json"));
}

TEST_F(PullTest, TheTokenGoesToTheHubAndToNobodyElse) {
  hub_.Edit([](FakeHub::State& state) { state.repos[kRepo].token = "hf_secret"; });
  PullOptions options = Options();
  options.hub.token = "hf_secret";
  options.hub.token_source = "HF_TOKEN";
  ASSERT_TRUE(Model(options).ok());
  for (const TestRequest& request : hub_.hub().requests()) {
    EXPECT_EQ(request.Header("authorization"), "Bearer hf_secret") << request.target;
  }
  ASSERT_THAT(hub_.cdn().requests(), Not(IsEmpty()));
  for (const TestRequest& request : hub_.cdn().requests()) {
    EXPECT_EQ(request.Header("authorization"), "") << request.target;
  }
}

TEST_F(PullTest, ACommitIsARevision) {
  const auto model = Model(Options(absl::StrCat("org/model@", std::string(40, 'c'))));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(FileExists(cache_ + "/models--org--model/refs/" + std::string(40, 'c')));
}

TEST_F(PullTest, RedirectsWithinTheHubAreFollowedWithTheToken) {
  hub_.InterceptHub([&](const TestRequest& request) -> std::optional<TestReply> {
    if (!absl::StrContains(request.target, "/old/name")) return std::nullopt;
    std::string target = request.target;
    target.replace(target.find("old/name"), 8, "org/model");
    return TestReply{307, {{"Location", target}}, ""};
  });
  hub_.Edit([](FakeHub::State& state) { state.repos[kRepo].token = "hf_secret"; });
  PullOptions options = Options("old/name");
  options.hub.token = "hf_secret";
  options.hub.token_source = "HF_TOKEN";
  const auto model = Model(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->directory, HasSubstr("models--old--name"));
}

TEST_F(PullTest, ALongListComesInPages) {
  hub_.Edit([](FakeHub::State& state) {
    for (int i = 0; i < 500; ++i) {
      state.repos[kRepo].files[absl::StrCat("extra/", i, ".txt")] = {absl::StrCat(i)};
    }
    state.page_size = 7;
  });
  PullOptions options = Options();
  options.include = {"extra/49?.txt"};
  const auto model = Model(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->files, SizeIs(10));
  EXPECT_GT(hub_.Requests("cursor=").size(), 60u);
}

TEST_F(PullTest, APageElsewhereIsAskedForWithoutTheToken) {
  hub_.Edit([](FakeHub::State& state) { state.repos[kRepo].token = "hf_secret"; });
  hub_.InterceptHub(FirstTimes(
      1, "/tree/", {200, {{"Link", "<" + hub_.cdn().origin() + "/page2>; rel=\"next\""}}, "[]"}));
  hub_.InterceptCdn(FirstTimes(1, "/page2", {200, {}, "[]"}));
  PullOptions options = Options();
  options.hub.token = "hf_secret";
  EXPECT_FALSE(Model(options).ok());  // such a list has no files
  const auto requests = hub_.cdn().requests();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].Header("authorization"), "");
}

TEST_F(PullTest, AMirrorWithoutTreesIsListedByItsModelPage) {
  hub_.Edit([](FakeHub::State& state) { state.has_tree = false; });
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));
}

TEST_F(PullTest, HashesThatTheListLacksAreAskedForOneByOne) {
  hub_.Edit([](FakeHub::State& state) { state.has_tree = false; });
  hub_.InterceptHub([&](const TestRequest& request) -> std::optional<TestReply> {
    if (!absl::StrContains(request.target, "?blobs=true")) return std::nullopt;
    nlohmann::json siblings = nlohmann::json::array();
    for (const char* name : {"config.json", "model.safetensors"}) {
      siblings.push_back({{"rfilename", name}});
    }
    return TestReply{200, {}, nlohmann::json({{"siblings", siblings}}).dump()};
  });
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));
  EXPECT_EQ(Content(model->directory + "/config.json"), Wanted("config.json"));
  int heads = 0;
  for (const TestRequest& request : hub_.hub().requests()) heads += request.method == "HEAD";
  EXPECT_EQ(heads, 2);
}

TEST_F(PullTest, ProgressReachesTheTotal) {
  AddShards();
  std::vector<PullProgress> reports;
  const auto model = PullModel(
      Options(), [&](const PullProgress& progress) { reports.push_back(progress); }, CancelToken());
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_THAT(reports, Not(IsEmpty()));
  EXPECT_EQ(reports.back().bytes_done, model->bytes_total);
  EXPECT_EQ(reports.back().bytes_total, model->bytes_total);
  EXPECT_EQ(reports.back().files_done, 6);
  EXPECT_EQ(reports.back().files_total, 6);
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end(), [](const auto& a, const auto& b) {
    return a.bytes_done < b.bytes_done;
  }));
}

TEST_F(PullTest, OfflineUsesTheCacheAndAsksNobody) {
  ASSERT_TRUE(Model(Options()).ok());
  hub_.hub().ForgetRequests();
  PullOptions options = Options();
  options.hub.offline = true;
  const auto model = Model(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->from_cache);
  EXPECT_THAT(model->files, ElementsAre("config.json", "tokenizer.json", "model.safetensors"));
  EXPECT_THAT(hub_.hub().requests(), IsEmpty());
}

TEST_F(PullTest, OfflineWithoutTheRepositorySaysSo) {
  PullOptions options = Options();
  options.hub.offline = true;
  const absl::Status status = ModelError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("HF_HUB_OFFLINE"), HasSubstr(cache_)));
}

TEST_F(PullTest, OfflineWithAPartOfTheShardsIsAnError) {
  AddShards();
  const auto complete = Model(Options());
  ASSERT_TRUE(complete.ok()) << complete.status();
  std::filesystem::remove(complete->directory + "/model-00002-of-00003.safetensors");
  PullOptions options = Options();
  options.hub.offline = true;
  EXPECT_THAT(std::string(ModelError(options).message()),
              AllOf(HasSubstr("model-00002-of-00003"), HasSubstr("only a part")));
  std::filesystem::remove(complete->directory + "/model-00003-of-00003.safetensors");
  std::filesystem::remove(complete->directory + "/consolidated.safetensors");
  std::filesystem::remove(complete->directory + "/model.safetensors.index.json");
  EXPECT_EQ(ModelError(options).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(PullTest, AnUnreachableHubIsReplacedByACompleteCache) {
  ASSERT_TRUE(Model(Options()).ok());
  PullOptions options = Options();
  options.hub.endpoint = "http://127.0.0.1:1";  // nobody listens there
  options.hub.retry.max_attempts = 2;
  const auto model = Model(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->from_cache);

  options.source = "org/other";
  EXPECT_EQ(ModelError(options).code(), absl::StatusCode::kUnavailable);
}

TEST_F(PullTest, WhatPythonToolsLeftIsUsed) {
  // As huggingface_hub lays it out, read-only for us.
  const std::string repo = cache_ + "/models--org--model";
  const std::string snapshot = repo + "/snapshots/" + std::string(40, 'c');
  std::filesystem::create_directories(repo + "/blobs");
  std::filesystem::create_directories(snapshot);
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const std::string blob = BlobOf(name);
    std::ofstream(blob) << Wanted(name);
    std::filesystem::create_symlink("../../blobs/" + std::string(BaseName(blob)),
                                    snapshot + "/" + name);
  }
  // Nothing needs to be written (which only tells where the test is not run by root).
  using std::filesystem::perms;
  const perms read_only = perms::owner_read | perms::owner_exec;
  for (const std::string& dir : {snapshot, repo, cache_}) {
    std::filesystem::permissions(dir, read_only);
  }
  const auto model = Model(Options());
  for (const std::string& dir : {cache_, repo, snapshot}) {
    std::filesystem::permissions(dir, perms::owner_all);
  }
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->directory, snapshot);
  EXPECT_EQ(model->bytes_downloaded, 0u);
  EXPECT_THAT(hub_.Requests("/resolve/"), IsEmpty());
}

TEST_F(PullTest, TwoPullsAtOnceFetchEachFileOnce) {
  absl::StatusOr<PulledModel> first, second;
  std::thread other([&] { first = Model(Options()); });
  second = Model(Options());
  other.join();
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(Content(first->directory + "/model.safetensors"), Wanted("model.safetensors"));
  EXPECT_THAT(hub_.cdn().requests(), SizeIs(1));
}

TEST_F(PullTest, FetchesTheFolderOfAnSae) {
  constexpr char kSaes[] = "google/gemma-scope-2b-pt-res";
  hub_.Edit([&](FakeHub::State& state) {
    for (int l0 : {22, 82, 445}) {
      state.repos[kSaes].files[absl::StrCat("layer_12/width_16k/average_l0_", l0, "/params.npz")] =
          {Noise(1000, l0), true};
    }
  });
  const auto sae = PullSae(Options("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_22"),
                           nullptr, CancelToken());
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_EQ(sae->path, sae->snapshot_dir + "/layer_12/width_16k/average_l0_22");
  EXPECT_EQ(Content(sae->path + "/params.npz"), Noise(1000, 22));
  EXPECT_EQ(sae->source.model, "google/gemma-2-2b");
  EXPECT_EQ(sae->source.hook_name, "blocks.12.hook_resid_post");
  EXPECT_EQ(std::filesystem::read_symlink(sae->path + "/params.npz")
                .string()
                .rfind("../../../../../blobs/", 0),
            0u);

  PullOptions canonical = Options("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical");
  const auto chosen = PullSae(canonical, nullptr, CancelToken());
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_THAT(chosen->path, HasSubstr("average_l0_82"));

  // The cache alone does not know which one that is.
  canonical.hub.offline = true;
  EXPECT_EQ(PullSae(canonical, nullptr, CancelToken()).status().code(),
            absl::StatusCode::kFailedPrecondition);

  const absl::Status absent =
      PullSae(Options("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_7"), nullptr,
              CancelToken())
          .status();
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(absent.message()), HasSubstr("average_l0_22, layer_12"));
}

TEST_F(PullTest, FetchesAnSaeOfAnyRepository) {
  hub_.Edit([&](FakeHub::State& state) {
    FakeRepo& repo = state.repos["someone/saes"];
    for (const char* file : {"a/cfg.json", "a/sae_weights.safetensors", "a/optimizer.safetensors",
                             "b/cfg.json", "b/sae_weights.safetensors"}) {
      repo.files[file] = {file};
    }
  });
  const auto sae = PullSae(Options("someone/saes/a@main"), nullptr, CancelToken());
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_THAT(sae->files, ElementsAre("a/cfg.json", "a/sae_weights.safetensors"));
  EXPECT_EQ(sae->source.release, "");
  PullOptions offline = Options("someone/saes/a@main");
  offline.hub.offline = true;
  const auto again = PullSae(offline, nullptr, CancelToken());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->path, sae->path);
  EXPECT_EQ(again->files, sae->files);

  const absl::Status root = PullSae(Options("someone/saes"), nullptr, CancelToken()).status();
  EXPECT_EQ(root.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(root.message()), HasSubstr("choose one of a, b"));
}

}  // namespace
}  // namespace featurescope
