// Caching jobs, and the activation caches that they leave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "server/base/status.h"
#include "server/jobs/caching_job.h"
#include "server/train/activation_files.h"
#include "tests/jobs/jobs_fixture.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

CachingJob TinyCaching(const std::string& id) {
  CachingJob job;
  job.cache_id = id;
  job.model_id = "m";
  job.corpus_id = "c";
  job.hook_names = {kHook, "blocks.0.hook_mlp_out"};
  return job;
}

class CachingJobTest : public JobsTest {
 protected:
  std::string CacheDir(const std::string& id) {
    return server_->catalog->ActivationCacheDir(id).value();
  }
  // The files of a cache by name.
  std::map<std::string, std::string> Files(const std::string& id) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(CacheDir(id))) {
      files[entry.path().filename().string()] = ReadFile(entry.path().string(), 1 << 28).value();
    }
    return files;
  }
};

TEST(CachingSpecTest, ASpecificationComesBackFromJson) {
  CachingJob job = TinyCaching("acts");
  job.dtype = DType::kF16;
  job.special_tokens = true;
  const CachingJob back = CachingJobFromJson(ToJson(job)).value();
  EXPECT_EQ(back.cache_id, "acts");
  EXPECT_EQ(back.hook_names, job.hook_names);
  EXPECT_EQ(back.dtype, DType::kF16);
  EXPECT_TRUE(back.special_tokens);
  EXPECT_EQ(ToJson(back), ToJson(job));
  for (
      const char* bad :
      {"[]", R"({"cache_id": "a", "model_id": "m", "corpus_id": "c"})",
       R"({"cache_id": "a", "model_id": "m", "corpus_id": "c", "hook_names": [1]})",
       R"({"cache_id": "a", "model_id": "m", "corpus_id": "c", "hook_names": [], "dtype": "int8"})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CachingJobFromJson(bad).status())) << bad;
  }
}

TEST(CachingSpecTest, ACacheThatDoesNotFitIsRefusedWithItsSize) {
  constexpr uint64_t kGigabyte = 1'000'000'000;
  EXPECT_TRUE(CheckRoomForCache(2 * kGigabyte, 0, 3 * kGigabyte, "/data").ok());
  EXPECT_TRUE(CheckRoomForCache(4 * kGigabyte, 2 * kGigabyte, 3 * kGigabyte, "/data").ok());
  EXPECT_TRUE(CheckRoomForCache(0, 0, ~uint64_t{0}, "/data").ok());
  for (const uint64_t bytes : {3 * kGigabyte, ~uint64_t{0}}) {
    const absl::Status status = CheckRoomForCache(bytes, 0, 3 * kGigabyte, "/data");
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("3 GB are free in /data"));
  }
  EXPECT_FALSE(CheckRoomForCache(1, 0, 0, "/data").ok());
}

TEST_F(CachingJobTest, ACacheIsMadeListedTrainedOnAndDeleted) {
  Open();
  const auto job = server_->queue->SubmitCaching(TinyCaching("acts"), "key");
  ASSERT_TRUE(job.ok()) << job.status();
  const JobRow end = server_->AwaitEnd(job->id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  EXPECT_EQ(end.transfer.bytes_done, end.transfer.bytes_total);
  EXPECT_EQ(server_->queue->SubmitCaching(TinyCaching("acts"), "key")->id, job->id);

  const std::vector<ActivationCacheEntry> entries = ListActivationCaches(*server_->catalog);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].id, "acts");
  EXPECT_THAT(entries[0].hook_names, ElementsAre(kHook, "blocks.0.hook_mlp_out"));
  EXPECT_THAT(entries[0].widths, ElementsAre(kTinyWidth, kTinyWidth));
  EXPECT_EQ(entries[0].dtype, "bfloat16");
  EXPECT_EQ(entries[0].bytes, entries[0].n_rows * 2 * kTinyWidth * 2);
  uint64_t on_disk = 0;
  for (const auto& [name, bytes] : Files("acts")) {
    if (name.ends_with(".bin")) on_disk += bytes.size();
  }
  EXPECT_EQ(entries[0].bytes, on_disk);
  EXPECT_EQ(end.transfer.bytes_total, on_disk);
  const auto opened = ActivationFiles::OpenCache(CacheDir("acts"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(static_cast<uint64_t>((*opened)->n_rows()), entries[0].n_rows);

  TrainingJob training = TinyTraining("from-cache", kEndless);
  training.corpus_id = "";
  training.activation_cache = "acts";
  const auto trains = server_->queue->SubmitTraining(training, "");
  ASSERT_TRUE(trains.ok()) << trains.status();
  const absl::Status needed = DeleteActivationCache(server_->catalog.get(), "acts");
  EXPECT_TRUE(absl::IsFailedPrecondition(needed)) << needed;
  EXPECT_THAT(std::string(needed.message()), HasSubstr(trains->id));
  ASSERT_TRUE(server_->queue->Cancel(trains->id).ok());
  server_->AwaitEnd(trains->id);
  EXPECT_TRUE(DeleteActivationCache(server_->catalog.get(), "acts").ok());
  EXPECT_FALSE(fs::exists(CacheDir("acts")));
  EXPECT_TRUE(ListActivationCaches(*server_->catalog).empty());
  EXPECT_TRUE(absl::IsNotFound(DeleteActivationCache(server_->catalog.get(), "acts")));
  EXPECT_TRUE(absl::IsInvalidArgument(DeleteActivationCache(server_->catalog.get(), "../models")));
}

TEST_F(CachingJobTest, SubmissionRefusesWhatCannotWork) {
  Open(false);
  const auto refused = [this](const std::function<void(CachingJob*)>& change) {
    CachingJob job = TinyCaching("acts");
    change(&job);
    return server_->queue->SubmitCaching(job, "").status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(refused([](CachingJob* j) { j->cache_id = "../x"; })));
  EXPECT_TRUE(absl::IsNotFound(refused([](CachingJob* j) { j->model_id = "none"; })));
  EXPECT_TRUE(absl::IsNotFound(refused([](CachingJob* j) { j->corpus_id = "none"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(refused([](CachingJob* j) { j->hook_names.clear(); })));
  for (const char* hook : {"blocks", "blocks.9.hook_resid_post", kHook}) {
    const absl::Status status = refused([&](CachingJob* j) { j->hook_names.push_back(hook); });
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_TRUE(status.GetPayload(kFieldPayload).has_value()) << hook;
  }
  WriteTinyModel(dir_ / "n", false, 2);
  ASSERT_TRUE(server_->catalog->AddModel("n", dir_ / "n").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(refused([](CachingJob* j) { j->model_id = "n"; })));
  // One job at a time makes it.
  const std::string first = server_->queue->SubmitCaching(TinyCaching("acts"), "")->id;
  EXPECT_TRUE(absl::IsAlreadyExists(refused([](CachingJob*) {})));
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->catalog->DeleteCorpus("c")));
  server_->Start();
  ASSERT_EQ(server_->AwaitEnd(first).state, JobState::kSucceeded);
  EXPECT_TRUE(absl::IsAlreadyExists(refused([](CachingJob*) {})));
}

TEST_F(CachingJobTest, AfterKillACacheIsTheSameAsWithoutIt) {
  Open(false);
  const std::string id = server_->queue->SubmitCaching(TinyCaching("killed"), "")->id;
  Close();
  RunUntilKilled(dir_ / "data", id, "state = 'running'");
  Open();
  const JobRow end = server_->AwaitEnd(id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  const std::string twin = server_->queue->SubmitCaching(TinyCaching("twin"), "")->id;
  ASSERT_EQ(server_->AwaitEnd(twin).state, JobState::kSucceeded);
  EXPECT_EQ(Files("killed"), Files("twin"));
}

TEST_F(CachingJobTest, WhatAnEndedJobLeftHalfWrittenIsRemoved) {
  Open(false);
  const std::string id = server_->queue->SubmitCaching(TinyCaching("acts"), "")->id;
  fs::create_directories(CacheDir("acts"));
  std::ofstream(CacheDir("acts") + "/plan.json") << "{}";
  Close();
  Open(false);
  // The job may go on with it.
  EXPECT_TRUE(fs::exists(CacheDir("acts")));
  EXPECT_TRUE(ListActivationCaches(*server_->catalog).empty());
  ASSERT_TRUE(server_->queue->Cancel(id).ok());
  EXPECT_FALSE(fs::exists(CacheDir("acts")));
  fs::create_directories(CacheDir("older"));
  Close();
  Open();
  EXPECT_FALSE(fs::exists(CacheDir("older")));
  // Neither does a new job meet it.
  const std::string again = server_->queue->SubmitCaching(TinyCaching("acts"), "")->id;
  EXPECT_EQ(server_->AwaitEnd(again).state, JobState::kSucceeded);
}

}  // namespace
}  // namespace featurescope
