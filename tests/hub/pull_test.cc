// Pulling models and SAEs from a hub on the loopback: what arrives, where, and what is said when
// something is wrong.
#include "server/hub/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/formats/file.h"
#include "tests/base/temp_dir.h"
#include "tests/hub/fake_hub.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr char kRepo[] = "org/model";

// Bytes without a pattern that a shifted copy would also have.
std::string Noise(size_t n, uint64_t seed) {
  std::string bytes(n, '\0');
  for (size_t i = 0; i < n; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<char>(seed >> 56);
  }
  return bytes;
}

std::string Content(const std::string& path) {
  auto text = ReadFile(path, 1u << 30);
  return text.ok() ? *text : text.status().ToString();
}

class PullTest : public ::testing::Test {
 protected:
  PullTest() : cache_(dir_ / "hub") {
    hub_.Edit([](FakeHub::State& state) {
      FakeRepo& repo = state.repos[kRepo];
      repo.files["config.json"] = {"{\"model_type\": \"gpt2\"}"};
      repo.files["tokenizer.json"] = {Noise(5000, 1)};
      repo.files["README.md"] = {"words"};
      repo.files["pytorch_model.bin"] = {Noise(100, 2), true};
      repo.files["onnx/model.onnx"] = {Noise(100, 3), true};
      repo.files["model.safetensors"] = {Noise(300000, 4), true};
    });
  }

  void AddShards() {
    hub_.Edit([](FakeHub::State& state) {
      FakeRepo& repo = state.repos[kRepo];
      nlohmann::json index;
      for (int i = 1; i <= 3; ++i) {
        const std::string name = absl::StrCat("model-0000", i, "-of-00003.safetensors");
        repo.files[name] = {Noise(200000, 10 + i), true};
        index["weight_map"][absl::StrCat("layer.", i)] = name;
      }
      repo.files["model.safetensors.index.json"] = {index.dump()};
      repo.files["consolidated.safetensors"] = {Noise(100, 9), true};
    });
  }

  PullOptions Options(const std::string& source = kRepo) const {
    PullOptions options;
    options.hub = hub_.Options(cache_);
    options.source = source;
    return options;
  }
  absl::StatusOr<PulledModel> Model(const PullOptions& options) {
    return PullModel(options, nullptr, CancelToken());
  }
  absl::Status ModelError(const PullOptions& options) { return Model(options).status(); }
  std::string Wanted(const std::string& path, const std::string& repo = kRepo) {
    std::string content;
    hub_.Edit([&](FakeHub::State& state) { content = state.repos[repo].files[path].content; });
    return content;
  }
  std::string BlobOf(const std::string& path) {
    std::string hash;
    hub_.Edit([&](FakeHub::State& state) { hash = FakeHub::Hash(state.repos[kRepo].files[path]); });
    return cache_ + "/models--org--model/blobs/" + hash;
  }

  TempDir dir_;
  const std::string cache_;
  FakeHub hub_;
};

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

TEST_F(PullTest, APrivateOrMissingRepositoryIsNamedWithTheTokenUsed) {
  PullOptions options = Options("org/absent");
  absl::Status status = ModelError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("org/absent"), HasSubstr("set HF_TOKEN")));

  options.hub.token = "hf_secret";
  options.hub.token_source = "/home/me/token";
  status = ModelError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("hf_secret")));
}

TEST_F(PullTest, AGatedRepositorySaysWhereToAskForAccess) {
  hub_.Edit([](FakeHub::State& state) { state.repos[kRepo].gate_token = "hf_granted"; });
  PullOptions options = Options();
  absl::Status status = ModelError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("gated"), HasSubstr(hub_.endpoint() + "/org/model"),
                    HasSubstr("no token was sent")));

  options.hub.token = "hf_other";
  options.hub.token_source = "HF_TOKEN";
  status = ModelError(options);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("the token from HF_TOKEN was sent"), Not(HasSubstr("hf_other"))));

  options.hub.token = "hf_granted";
  EXPECT_TRUE(Model(options).ok());
}

TEST_F(PullTest, AnUnknownRevisionIsNotFound) {
  const absl::Status status = ModelError(Options("org/model@v9"));
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no revision v9"));
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

TEST_F(PullTest, WaitsAsLongAsTheHubAsks) {
  hub_.InterceptHub(FirstTimes(1, "/revision/", {429, {{"Retry-After", "1"}}, ""}));
  const absl::Time start = absl::Now();
  ASSERT_TRUE(Model(Options()).ok());
  EXPECT_GE(absl::Now() - start, absl::Seconds(1));
}

TEST_F(PullTest, DoesNotWaitForeverWhenLimited) {
  hub_.InterceptHub(FirstTimes(9, "/revision/", {429, {{"Retry-After", "86400"}}, ""}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("try again in 24h"));
}

TEST_F(PullTest, PassingErrorsOfTheServerAreRetried) {
  hub_.InterceptHub(FirstTimes(2, "/revision/", {500, {}, "oops"}));
  hub_.InterceptCdn(FirstTimes(2, "/lfs/", {503, {}, ""}));
  ASSERT_TRUE(Model(Options()).ok());
}

TEST_F(PullTest, LastingErrorsOfTheServerEndThePull) {
  hub_.InterceptCdn(FirstTimes(1000, "/lfs/", {503, {}, ""}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("503"), Not(HasSubstr("signature"))));
  EXPECT_THAT(hub_.Requests("/lfs/"), SizeIs(5));
}

TEST_F(PullTest, AnExpiredSignedAddressIsAskedForAnew) {
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", {403, {}, "expired"}));
  ASSERT_TRUE(Model(Options()).ok());
}

TEST_F(PullTest, ABrokenConnectionIsResumedWhereItBroke) {
  const std::string content = Wanted("model.safetensors");
  TestReply half{200, {}, content};
  half.break_after = 100000;
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", half));
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), content);
  const auto requests = hub_.cdn().requests();
  ASSERT_THAT(requests, SizeIs(2));
  EXPECT_EQ(requests[0].Header("range"), "");
  // What the broken connection had not delivered yet is asked for again.
  EXPECT_THAT(requests[1].Header("range"), ::testing::MatchesRegex("bytes=[0-9]+-"));
  EXPECT_NE(requests[1].Header("range"), "bytes=0-");
}

TEST_F(PullTest, AnInterruptedPullIsResumedByTheNext) {
  const std::string content = Wanted("model.safetensors");
  std::filesystem::create_directories(cache_ + "/models--org--model/blobs");
  std::ofstream(BlobOf("model.safetensors") + ".incomplete") << content.substr(0, 123456);
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), content);
  const auto requests = hub_.cdn().requests();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].Header("range"), "bytes=123456-");
  EXPECT_EQ(model->bytes_downloaded, model->bytes_total - 123456);
}

TEST_F(PullTest, APartOfSomethingElseIsDroppedAndFetchedAnew) {
  std::filesystem::create_directories(cache_ + "/models--org--model/blobs");
  const std::string partial = BlobOf("model.safetensors") + ".incomplete";
  const std::string content = Wanted("model.safetensors");
  for (const size_t size : {size_t{5000}, content.size(), content.size() + 1}) {
    std::filesystem::remove(BlobOf("model.safetensors"));
    std::ofstream(partial) << Noise(size, 77);
    const auto model = Model(Options());
    ASSERT_TRUE(model.ok()) << size << ": " << model.status();
    EXPECT_EQ(Content(model->directory + "/model.safetensors"), content);
  }
}

TEST_F(PullTest, AServerWithoutRangesStartsAnew) {
  const std::string content = Wanted("model.safetensors");
  std::filesystem::create_directories(cache_ + "/models--org--model/blobs");
  std::ofstream(BlobOf("model.safetensors") + ".incomplete") << content.substr(0, 5000);
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", {200, {}, content}));
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), content);
}

TEST_F(PullTest, AWrongHashIsRetriedOnceAndThenAnError) {
  std::string wrong = Wanted("model.safetensors");
  wrong[1000] = static_cast<char>(wrong[1000] ^ 1);
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", {200, {}, wrong}));
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));

  std::filesystem::remove_all(cache_);
  hub_.InterceptCdn(FirstTimes(9, "/lfs/", {200, {}, wrong}));
  hub_.cdn().ForgetRequests();
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("hash")));
  EXPECT_THAT(hub_.cdn().requests(), SizeIs(2));
  EXPECT_FALSE(FileExists(BlobOf("model.safetensors")));
}

TEST_F(PullTest, AWrongHashOfASmallFileIsFoundToo) {
  std::string wrong = Wanted("config.json");
  wrong[1] ^= 1;
  hub_.InterceptHub(FirstTimes(9, "/config.json", {200, {}, wrong}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
}

TEST_F(PullTest, AWrongSizeIsAnError) {
  const std::string content = Wanted("model.safetensors");
  for (const std::string& wrong : {content + "x", content.substr(0, 1000)}) {
    hub_.InterceptCdn(FirstTimes(9, "/lfs/", {200, {}, wrong}));
    const absl::Status status = ModelError(Options());
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << wrong.size();
    EXPECT_THAT(std::string(status.message()), HasSubstr("bytes"));
  }
  // Without a length the surplus shows only in the body.
  TestReply endless{200, {}, content + "x"};
  endless.no_length = true;
  hub_.InterceptCdn(FirstTimes(9, "/lfs/", endless));
  EXPECT_EQ(ModelError(Options()).code(), absl::StatusCode::kDataLoss);
}

TEST_F(PullTest, AFileThatChangedSinceItWasListedIsAnError) {
  hub_.InterceptHub(FirstTimes(
      9, "/model.safetensors",
      {302,
       {{"X-Repo-Commit", std::string(40, 'e')}, {"Location", hub_.cdn().origin() + "/lfs/x"}},
       ""}));
  hub_.InterceptCdn(FirstTimes(9, "/lfs/x", {200, {}, Wanted("model.safetensors")}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("commit"));
}

TEST_F(PullTest, NamesThatLeadOutOfTheSnapshotAreRefused) {
  for (const char* name : {"../../../../escape.json", "/tmp/escape.json", "a/../../x.json"}) {
    hub_.InterceptHub(FirstTimes(
        9, "/tree/",
        {200,
         {},
         nlohmann::json::array({{{"type", "file"}, {"path", name}, {"size", 1}, {"oid", "0"}}})
             .dump()}));
    PullOptions options = Options();
    options.include = {"*"};
    const absl::Status status = ModelError(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(cache_));
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

TEST_F(PullTest, CancellingStopsAStalledDownloadSoon) {
  TestReply stalled{200, {}, Wanted("model.safetensors")};
  stalled.break_after = 1000;
  stalled.stall = true;
  hub_.InterceptCdn(FirstTimes(9, "/lfs/", stalled));
  CancelToken cancel;
  absl::Time cancelled;
  std::thread canceller([&] {
    while (hub_.Requests("/lfs/").empty()) absl::SleepFor(absl::Milliseconds(5));
    cancelled = absl::Now();
    cancel.Cancel();
  });
  const absl::Status status = PullModel(Options(), nullptr, cancel).status();
  canceller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(absl::Now() - cancelled, absl::Seconds(5));
  EXPECT_TRUE(FileExists(BlobOf("model.safetensors") + ".incomplete"));
}

TEST_F(PullTest, CancellingStopsAWaitSoon) {
  hub_.InterceptHub(FirstTimes(9, "/revision/", {429, {{"Retry-After", "200"}}, ""}));
  CancelToken cancel;
  std::thread canceller([&] {
    while (hub_.Requests("/revision/").empty()) absl::SleepFor(absl::Milliseconds(5));
    cancel.Cancel();
  });
  const absl::Time start = absl::Now();
  EXPECT_EQ(PullModel(Options(), nullptr, cancel).status().code(), absl::StatusCode::kCancelled);
  canceller.join();
  EXPECT_LT(absl::Now() - start, absl::Seconds(60));
}

TEST_F(PullTest, AStalledConnectionIsGivenUpAndResumed) {
  TestReply stalled{200, {}, Wanted("model.safetensors")};
  stalled.break_after = 1000;
  stalled.stall = true;
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", stalled));
  PullOptions options = Options();
  options.hub.stall_timeout = absl::Milliseconds(300);
  const auto model = Model(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));
}

TEST_F(PullTest, OneFailureStopsTheOthersAndIsTheOneReported) {
  AddShards();
  std::string hash;
  hub_.Edit([&](FakeHub::State& state) {
    hash = FakeHub::Hash(state.repos[kRepo].files["model-00001-of-00003.safetensors"]);
  });
  TestReply stalled{200, {}, std::string(200000, 'x')};
  stalled.break_after = 10;
  stalled.stall = true;
  hub_.InterceptCdn([=](const TestRequest& request) -> std::optional<TestReply> {
    if (absl::StrContains(request.target, hash)) return TestReply{404, {}, ""};
    return stalled;
  });
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
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

TEST_F(PullTest, ABlobOfTheWrongSizeIsReplaced) {
  ASSERT_TRUE(Model(Options()).ok());
  std::filesystem::resize_file(BlobOf("model.safetensors"), 1000);
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));
}

TEST_F(PullTest, ACacheThatCannotBeWrittenSaysWhatToDo) {
  PullOptions options = Options();
  options.hub.cache_dir = "/sys/featurescope";  // where not even root may
  const absl::Status status = ModelError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/sys/featurescope"), HasSubstr("set HF_HUB_CACHE")));
}

TEST_F(PullTest, NotEnoughSpaceIsFoundBeforeTheDownload) {
  hub_.InterceptHub([&](const TestRequest& request) -> std::optional<TestReply> {
    if (!absl::StrContains(request.target, "/tree/")) return std::nullopt;
    const nlohmann::json huge = {
        {"type", "file"},
        {"path", "model.safetensors"},
        {"size", 1},
        {"lfs", {{"oid", std::string(64, 'a')}, {"size", int64_t{1} << 49}}}};
    const nlohmann::json config = {
        {"type", "file"}, {"path", "config.json"}, {"size", 2}, {"oid", std::string(40, 'a')}};
    return TestReply{200, {}, nlohmann::json::array({huge, config}).dump()};
  });
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("bytes are free"));
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
