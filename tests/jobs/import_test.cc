// Import jobs against a hub on the loopback.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "server/jobs/import_job.h"
#include "server/jobs/job_runner.h"
#include "tests/base/temp_dir.h"
#include "tests/catalog/tiny_model.h"
#include "tests/hub/fake_hub.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

constexpr char kHook[] = "blocks.1.hook_resid_post";
constexpr absl::Duration kPatience = absl::Minutes(5);

FakeRepo RepoOf(const std::string& directory, const std::string& prefix = "") {
  FakeRepo repo;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::ifstream in(entry.path(), std::ios::binary);
    std::stringstream content;
    content << in.rdbuf();
    const std::string name = prefix + entry.path().filename().string();
    repo.files[name] = {content.str(), absl::EndsWith(name, ".safetensors")};
  }
  return repo;
}

ImportJob ModelFrom(const std::string& repo, const std::string& id = "") {
  ImportJob job;
  job.what = ImportOf::kModel;
  job.source = repo;
  job.id = id;
  return job;
}

ImportJob SaeFrom(const std::string& source, const std::string& id = "") {
  ImportJob job = ModelFrom(source, id);
  job.what = ImportOf::kSae;
  return job;
}

class ImportJobTest : public ::testing::Test {
 protected:
  ImportJobTest() {
    CatalogOptions options;
    options.allowed_roots = {dir_ / "nothing-of-the-hub"};
    std::filesystem::create_directory(dir_ / "nothing-of-the-hub");
    auto catalog = Catalog::Open(dir_ / "data", options);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    catalog_ = *std::move(catalog);
    queue_ = std::make_unique<JobQueue>(catalog_.get());
    WriteTinyModel(dir_ / "m", true);
    WriteTinySae(dir_ / "s", kTinyWidth, kHook);
    hub_.Edit([this](FakeHub::State& state) {
      state.repos["org/Tiny-LM"] = RepoOf(dir_ / "m");
      state.repos["org/saes"] = RepoOf(dir_ / "s", "layer.1/");
    });
  }
  ~ImportJobTest() override {
    runner_.reset();
    computing_.reset();
    device_.Shutdown();
  }

  void Start(absl::Duration retry_paused = absl::Milliseconds(50)) {
    JobRunnerOptions options;
    options.write_interval = absl::Milliseconds(5);
    options.retry_paused = retry_paused;
    options.kinds = {kImportKind};
    options.hub = hub_.Options(dir_ / "cache");
    runner_ = std::make_unique<JobRunner>(queue_.get(), &device_, options);
  }
  JobRow Await(const std::string& id, const std::function<bool(const JobRow&)>& done) {
    const absl::Time deadline = absl::Now() + kPatience;
    auto watcher = queue_->Watch({{id}, false});
    EXPECT_TRUE(watcher.ok()) << watcher.status();
    while (watcher.ok()) {
      const auto event = (*watcher)->WaitNext(CancelToken(deadline), absl::Seconds(1));
      if (!event.ok()) {
        ADD_FAILURE() << event.status();
        break;
      }
      if (event->has_value() && (*event)->job && done(*(*event)->job)) return *(*event)->job;
    }
    return queue_->Get(id).value();
  }
  JobRow Run(const ImportJob& job) {
    const auto submitted = queue_->SubmitImport(job, "");
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    if (!submitted.ok()) return {};
    return Await(submitted->id, [](const JobRow& row) { return IsFinal(row.state); });
  }

  TempDir dir_;
  FakeHub hub_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<JobQueue> queue_;
  DeviceWorker device_{DeviceWorkerOptions()};
  std::unique_ptr<JobRunner> runner_;
  std::unique_ptr<JobRunner> computing_;
};

TEST_F(ImportJobTest, AModelArrivesAndSaysWhereItCameFrom) {
  Start();
  const JobRow end = Run(ModelFrom("org/Tiny-LM"));
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  const ModelRow model = catalog_->GetModel("tiny-lm").value();
  EXPECT_EQ(model.source, absl::StrCat("org/Tiny-LM@", std::string(40, 'c')));
  EXPECT_TRUE(model.has_tokenizer);
  EXPECT_TRUE(catalog_->LoadedModel("tiny-lm").ok());
  EXPECT_EQ(end.transfer.bytes_done, end.transfer.bytes_total);
  EXPECT_GT(end.transfer.bytes_total, 10000u);
  EXPECT_EQ(end.transfer.files_total, 4u);
  EXPECT_EQ(end.transfer.files_done, 4u);
  EXPECT_EQ(end.phase, "adding");
}

TEST_F(ImportJobTest, TheSameAgainIsNoErrorAndDownloadsNothing) {
  Start();
  ASSERT_EQ(Run(ModelFrom("org/Tiny-LM")).state, JobState::kSucceeded);
  const size_t n = hub_.Requests("/lfs/").size();
  ASSERT_EQ(Run(ModelFrom("org/Tiny-LM")).state, JobState::kSucceeded);
  EXPECT_EQ(hub_.Requests("/lfs/").size(), n);
}

TEST_F(ImportJobTest, AnSaeArrivesWithItsModelAndHook) {
  Start();
  ASSERT_EQ(Run(ModelFrom("org/Tiny-LM", "m")).state, JobState::kSucceeded);
  ImportJob job = SaeFrom("org/saes/layer.1");
  const JobRow unclear = Run(job);
  EXPECT_EQ(unclear.state, JobState::kFailed);
  EXPECT_THAT(unclear.error, HasSubstr("--model: m")) << "its files name no model";
  job.model_id = "m";
  job.center_writing_weights = true;
  const JobRow end = Run(job);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  const SaeRow sae = catalog_->GetSae("org-saes-layer.1").value();
  EXPECT_EQ(sae.model_id, "m");
  EXPECT_EQ(sae.hook_name, kHook);
  EXPECT_TRUE(sae.center_writing_weights);
  EXPECT_TRUE(catalog_->LoadedSae(sae.id).ok());
}

TEST_F(ImportJobTest, AHubThatFailsInPassingPausesTheJobUntilItIsBack) {
  Start();
  std::atomic<bool> down = true;
  hub_.InterceptHub([&down](const TestRequest&) -> std::optional<TestReply> {
    if (!down) return std::nullopt;
    return TestReply{503, {}, "later"};
  });
  const std::string id = queue_->SubmitImport(ModelFrom("org/Tiny-LM"), "")->id;
  const JobRow paused = Await(id, [](const JobRow& job) { return job.state == JobState::kPaused; });
  EXPECT_THAT(paused.error, HasSubstr("503"));
  down = false;
  EXPECT_EQ(Await(id, [](const JobRow& job) { return IsFinal(job.state); }).state,
            JobState::kSucceeded);
  hub_.InterceptHub(nullptr);
}

TEST_F(ImportJobTest, WhatIsNotThereFails) {
  Start();
  const JobRow end = Run(ModelFrom("org/none"));
  EXPECT_EQ(end.state, JobState::kFailed);
  EXPECT_THAT(end.error, HasSubstr("org/none"));
  ImportJob revision = ModelFrom("org/Tiny-LM");
  revision.revision = "v9";
  EXPECT_THAT(Run(revision).error, HasSubstr("v9"));
}

TEST_F(ImportJobTest, ADownloadIsCancelled) {
  Start();
  absl::Notification asked;
  absl::Notification go;
  hub_.InterceptCdn([&](const TestRequest&) -> std::optional<TestReply> {
    if (!asked.HasBeenNotified()) asked.Notify();
    go.WaitForNotificationWithTimeout(kPatience);
    return std::nullopt;
  });
  const std::string id = queue_->SubmitImport(ModelFrom("org/Tiny-LM"), "")->id;
  ASSERT_TRUE(asked.WaitForNotificationWithTimeout(kPatience));
  ASSERT_TRUE(queue_->Cancel(id).ok());
  EXPECT_EQ(Await(id, [](const JobRow& job) { return IsFinal(job.state); }).state,
            JobState::kCancelled);
  go.Notify();
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetModel("tiny-lm").status()));
}

TEST_F(ImportJobTest, RunsBesideAJobThatComputes) {
  ASSERT_TRUE(catalog_->state().SubmitJob({kTrainingKind, "not read", "", "", {}}).ok());
  Start();
  EXPECT_EQ(Run(ModelFrom("org/Tiny-LM")).state, JobState::kSucceeded);
  EXPECT_EQ(queue_->List({}, 10, "")->jobs.back().state, JobState::kQueued)
      << "this runner takes imports only";
}

TEST_F(ImportJobTest, MistakesAreFoundBeforeAnythingIsDownloaded) {
  const auto refused = [&](const ImportJob& job) { return queue_->SubmitImport(job, "").status(); };
  EXPECT_TRUE(absl::IsInvalidArgument(refused(ModelFrom(""))));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(ModelFrom("../../etc", "x"))));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(ModelFrom("org/Tiny-LM", "Not An Id"))));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(SaeFrom("no-release"))));
  EXPECT_TRUE(absl::IsNotFound(refused(SaeFrom("gpt2-small-res-jb/layer_8"))));
  ImportJob job = SaeFrom("org/saes/layer.1");
  job.model_id = "none";
  EXPECT_TRUE(absl::IsNotFound(refused(job)));
  job = SaeFrom("org/saes/layer.1");
  job.hook_name = "blocks";
  EXPECT_TRUE(absl::IsInvalidArgument(refused(job)));
  job = SaeFrom("gpt2-small-res-jb/blocks.8.hook_resid_pre");
  job.revision = "v2";
  EXPECT_THAT(std::string(refused(job).message()), HasSubstr("GPT2-Small-SAEs-Reformatted"));
  job = ModelFrom("org/Tiny-LM@main");
  job.revision = "v2";
  EXPECT_TRUE(absl::IsInvalidArgument(refused(job)));
  job = ModelFrom("org/Tiny-LM");
  job.include.assign(65, "*");
  EXPECT_TRUE(absl::IsInvalidArgument(refused(job)));
  job.include = {""};
  EXPECT_TRUE(absl::IsInvalidArgument(refused(job)));
  EXPECT_TRUE(queue_->List({}, 10, "")->jobs.empty());
  EXPECT_TRUE(hub_.Requests("").empty());
}

TEST_F(ImportJobTest, OneKeyMakesOneJob) {
  const std::string id = queue_->SubmitImport(ModelFrom("org/Tiny-LM"), "key")->id;
  EXPECT_EQ(queue_->SubmitImport(ModelFrom("org/Tiny-LM"), "key")->id, id);
  EXPECT_TRUE(absl::IsAlreadyExists(queue_->SubmitImport(ModelFrom("org/saes"), "key").status()));
  EXPECT_TRUE(absl::IsAlreadyExists(queue_->SubmitImport(ModelFrom("org/Tiny-LM"), "").status()))
      << "an unfinished job makes the same model";
}

}  // namespace
}  // namespace featurescope
