// Pulls from a hub that refuses, breaks off, stalls or lies, onto disks that are full.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/hub/pull.h"
#include "tests/hub/pull_fixture.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

using PullFaultsTest = PullTest;

TEST_F(PullFaultsTest, APrivateOrMissingRepositoryIsNamedWithTheTokenUsed) {
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

TEST_F(PullFaultsTest, AGatedRepositorySaysWhereToAskForAccess) {
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

TEST_F(PullFaultsTest, AnUnknownRevisionIsNotFound) {
  const absl::Status status = ModelError(Options("org/model@v9"));
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no revision v9"));
}

TEST_F(PullFaultsTest, WaitsAsLongAsTheHubAsks) {
  hub_.InterceptHub(FirstTimes(1, "/revision/", {429, {{"Retry-After", "1"}}, ""}));
  const absl::Time start = absl::Now();
  ASSERT_TRUE(Model(Options()).ok());
  EXPECT_GE(absl::Now() - start, absl::Seconds(1));
}

TEST_F(PullFaultsTest, DoesNotWaitForeverWhenLimited) {
  hub_.InterceptHub(FirstTimes(9, "/revision/", {429, {{"Retry-After", "86400"}}, ""}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("try again in 24h"));
}

TEST_F(PullFaultsTest, PassingErrorsOfTheServerAreRetried) {
  hub_.InterceptHub(FirstTimes(2, "/revision/", {500, {}, "oops"}));
  hub_.InterceptCdn(FirstTimes(2, "/lfs/", {503, {}, ""}));
  ASSERT_TRUE(Model(Options()).ok());
}

TEST_F(PullFaultsTest, LastingErrorsOfTheServerEndThePull) {
  hub_.InterceptCdn(FirstTimes(1000, "/lfs/", {503, {}, ""}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("503"), Not(HasSubstr("signature"))));
  EXPECT_THAT(hub_.Requests("/lfs/"), SizeIs(5));
}

TEST_F(PullFaultsTest, AnExpiredSignedAddressIsAskedForAnew) {
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", {403, {}, "expired"}));
  ASSERT_TRUE(Model(Options()).ok());
}

TEST_F(PullFaultsTest, ABrokenConnectionIsResumedWhereItBroke) {
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

TEST_F(PullFaultsTest, AnInterruptedPullIsResumedByTheNext) {
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

TEST_F(PullFaultsTest, APartOfSomethingElseIsDroppedAndFetchedAnew) {
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

TEST_F(PullFaultsTest, AServerWithoutRangesStartsAnew) {
  const std::string content = Wanted("model.safetensors");
  std::filesystem::create_directories(cache_ + "/models--org--model/blobs");
  std::ofstream(BlobOf("model.safetensors") + ".incomplete") << content.substr(0, 5000);
  hub_.InterceptCdn(FirstTimes(1, "/lfs/", {200, {}, content}));
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), content);
}

TEST_F(PullFaultsTest, AWrongHashIsRetriedOnceAndThenAnError) {
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

TEST_F(PullFaultsTest, AWrongHashOfASmallFileIsFoundToo) {
  std::string wrong = Wanted("config.json");
  wrong[1] ^= 1;
  hub_.InterceptHub(FirstTimes(9, "/config.json", {200, {}, wrong}));
  const absl::Status status = ModelError(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
}

TEST_F(PullFaultsTest, AWrongSizeIsAnError) {
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

TEST_F(PullFaultsTest, AFileThatChangedSinceItWasListedIsAnError) {
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

TEST_F(PullFaultsTest, NamesThatLeadOutOfTheSnapshotAreRefused) {
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

TEST_F(PullFaultsTest, CancellingStopsAStalledDownloadSoon) {
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

TEST_F(PullFaultsTest, CancellingStopsAWaitSoon) {
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

TEST_F(PullFaultsTest, AStalledConnectionIsGivenUpAndResumed) {
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

TEST_F(PullFaultsTest, OneFailureStopsTheOthersAndIsTheOneReported) {
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

TEST_F(PullFaultsTest, ABlobOfTheWrongSizeIsReplaced) {
  ASSERT_TRUE(Model(Options()).ok());
  std::filesystem::resize_file(BlobOf("model.safetensors"), 1000);
  const auto model = Model(Options());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Content(model->directory + "/model.safetensors"), Wanted("model.safetensors"));
}

TEST_F(PullFaultsTest, ACacheThatCannotBeWrittenSaysWhatToDo) {
  PullOptions options = Options();
  options.hub.cache_dir = "/sys/featurescope";  // where not even root may
  const absl::Status status = ModelError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/sys/featurescope"), HasSubstr("set HF_HUB_CACHE")));
}

TEST_F(PullFaultsTest, NotEnoughSpaceIsFoundBeforeTheDownload) {
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

}  // namespace
}  // namespace featurescope
