#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tests/jobs/jobs_fixture.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST_F(JobsTest, ATrainingJobMakesAnSaeAndLeavesItsMetrics) {
  Open();
  const auto job = server_->queue->SubmitTraining(TinyTraining("new"), "");
  ASSERT_TRUE(job.ok()) << job.status();
  const JobRow end = server_->AwaitEnd(job->id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  EXPECT_EQ(end.progress, 1.0);
  EXPECT_EQ(end.attempt, 1u);
  const SaeRow sae = server_->catalog->GetSae("new").value();
  EXPECT_EQ(sae.training_job_id, job->id);
  EXPECT_EQ(sae.d_sae, 64u);
  EXPECT_EQ(sae.hook_name, kHook);
  EXPECT_TRUE(server_->catalog->LoadedSae("new").ok());
  const std::vector<MetricRow> metrics = server_->queue->Metrics(job->id, 1000).value();
  ASSERT_FALSE(metrics.empty());
  EXPECT_TRUE(metrics.back().values.contains("loss"));
  EXPECT_FALSE(std::filesystem::exists(server_->catalog->JobDir(job->id)));
  EXPECT_TRUE(
      absl::IsAlreadyExists(server_->queue->SubmitTraining(TinyTraining("new"), "").status()));
}

TEST_F(JobsTest, AnIndexingJobMakesAnIndex) {
  Open();
  const auto job = server_->queue->SubmitIndexing(TinyIndexing(), "");
  ASSERT_TRUE(job.ok()) << job.status();
  const JobRow end = server_->AwaitEnd(job->id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  const auto index = server_->catalog->OpenIndex("s", "");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ((*index)->info().d_sae, 32u);
  EXPECT_GT((*index)->info().n_alive, 0u);
  EXPECT_TRUE((*index)->Verify().ok());
}

TEST_F(JobsTest, SubmissionFindsMistakesAtOnce) {
  Open(false);
  JobQueue& queue = *server_->queue;
  const auto training = [&](const std::function<void(TrainingJob*)>& change) {
    TrainingJob job = TinyTraining("new");
    change(&job);
    return queue.SubmitTraining(job, "").status();
  };
  EXPECT_TRUE(absl::IsNotFound(training([](TrainingJob* j) { j->model_id = "none"; })));
  EXPECT_TRUE(absl::IsNotFound(training([](TrainingJob* j) { j->corpus_id = "none"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(training([](TrainingJob* j) { j->sae_id = "No"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(training([](TrainingJob* j) { j->hook_name = "blocks"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(
      training([](TrainingJob* j) { j->hook_name = "blocks.7.hook_mlp_out"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(training([](TrainingJob* j) { j->training.k = 65; })));
  EXPECT_TRUE(absl::IsInvalidArgument(training([](TrainingJob* j) { j->training.tokens = 0; })));
  EXPECT_TRUE(absl::IsAlreadyExists(training([](TrainingJob* j) { j->sae_id = "s"; })));
  EXPECT_FALSE(training([](TrainingJob* j) { j->training.architecture = "none"; }).ok());
  IndexingJob indexing = TinyIndexing();
  indexing.sae_id = "none";
  EXPECT_TRUE(absl::IsNotFound(queue.SubmitIndexing(indexing, "").status()));
  indexing = TinyIndexing();
  indexing.indexing.bands = 1000000;
  EXPECT_TRUE(absl::IsInvalidArgument(queue.SubmitIndexing(indexing, "").status()));
  EXPECT_TRUE(queue.List({}, 10, "")->jobs.empty());
}

TEST_F(JobsTest, ACorpusOfAnotherTokenizerIsRefused) {
  Open(false);
  WriteTinyModel(dir_ / "n", false, 2);
  ASSERT_TRUE(server_->catalog->AddModel("n", dir_ / "n").ok());
  TrainingJob job = TinyTraining("new");
  job.model_id = "n";
  const auto submitted = server_->queue->SubmitTraining(job, "");
  EXPECT_TRUE(absl::IsFailedPrecondition(submitted.status())) << submitted.status();
}

TEST_F(JobsTest, TheSameKeyGivesTheSameJobEvenWhenItIsDone) {
  Open(false);
  const TrainingJob job = TinyTraining("new");
  const std::string id = server_->queue->SubmitTraining(job, "key")->id;
  EXPECT_EQ(server_->queue->SubmitTraining(job, "key")->id, id);
  EXPECT_TRUE(absl::IsAlreadyExists(server_->queue->SubmitTraining(job, "key2").status()));
  TrainingJob other = job;
  other.training.seed = 8;
  EXPECT_TRUE(absl::IsAlreadyExists(server_->queue->SubmitTraining(other, "key").status()));
  server_->Start();
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  EXPECT_EQ(server_->queue->SubmitTraining(job, "key")->id, id);
}

TEST_F(JobsTest, WhatAJobNeedsCannotBeDeleted) {
  Open(false);
  const std::string id = server_->queue->SubmitIndexing(TinyIndexing(), "")->id;
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->catalog->DeleteSae("s")));
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->catalog->DeleteCorpus("c")));
  EXPECT_EQ(server_->queue->Cancel(id)->state, JobState::kCancelled);
  EXPECT_TRUE(server_->catalog->DeleteSae("s").ok());
}

TEST_F(JobsTest, ARunningJobIsCancelledAndLeavesNothing) {
  Open();
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new", kEndless), "")->id;
  server_->Await(id, [](const JobRow& job) { return job.progress > 0; });
  ASSERT_TRUE(server_->queue->Cancel(id).ok());
  EXPECT_EQ(server_->AwaitEnd(id).state, JobState::kCancelled);
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->queue->Cancel(id).status()));
  EXPECT_TRUE(absl::IsNotFound(server_->catalog->GetSae("new").status()));
  EXPECT_FALSE(std::filesystem::exists(server_->catalog->JobDir(id)));
}

TEST_F(JobsTest, InteractiveWorkRunsWhileAJobRuns) {
  Open();
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new", kEndless), "")->id;
  server_->Await(id, [](const JobRow& job) { return job.progress > 0; });
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(server_->device
                    ->RunInteractive(CancelToken(absl::Now() + Server::kPatience),
                                     [] { return absl::OkStatus(); })
                    .ok());
  }
  EXPECT_EQ(server_->queue->Get(id)->state, JobState::kRunning);
  ASSERT_TRUE(server_->queue->Cancel(id).ok());
}

TEST_F(JobsTest, AStoppedServersJobContinuesWithTheNext) {
  Open();
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new", 60000), "")->id;
  server_->Await(id, [](const JobRow& job) { return job.progress > 0.1; });
  server_->runner->Stop();
  const JobRow stopped = server_->queue->Get(id).value();
  Close();
  Open();
  const JobRow end = server_->AwaitEnd(id);
  EXPECT_EQ(end.state, JobState::kSucceeded) << end.error;
  if (stopped.state == JobState::kQueued) {
    EXPECT_EQ(end.attempt, 2u);
  }
  EXPECT_EQ(end.crashes, 0u);
  // As if it had never been stopped.
  const std::string twin = server_->queue->SubmitTraining(TinyTraining("twin", 60000), "")->id;
  ASSERT_EQ(server_->AwaitEnd(twin).state, JobState::kSucceeded);
  EXPECT_EQ(server_->catalog->GetSae("new")->hash, server_->catalog->GetSae("twin")->hash);
}

TEST_F(JobsTest, AJobWithoutRoomWaitsAndGoesOn) {
  Open(false);
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  StateDb& state = server_->catalog->state();
  const JobRow claimed = state.ClaimJob()->value();
  ASSERT_TRUE(state.ReleaseJob(id, claimed.lease_epoch, JobState::kPaused, "no room").ok());
  server_->Start();
  EXPECT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
}

TEST_F(JobsTest, AJobThatCannotRunFailsAndTheNextRuns) {
  Open(false);
  const auto broken =
      server_->catalog->state().SubmitJob({"training", "{\"k\": \"x\"}", "", "", {}});
  const auto strange = server_->catalog->state().SubmitJob({"dancing", "{}", "", "", {}});
  const std::string good = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  server_->Start();
  EXPECT_EQ(server_->AwaitEnd(good).state, JobState::kSucceeded);
  EXPECT_EQ(server_->queue->Get(broken->id)->state, JobState::kFailed);
  EXPECT_THAT(server_->queue->Get(broken->id)->error, HasSubstr("field k"));
  EXPECT_EQ(server_->queue->Get(strange->id)->state, JobState::kFailed);
}

TEST_F(JobsTest, WatchersSeeStatesMetricsAndTheEndLast) {
  Open(false);
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  auto watcher = server_->queue->Watch({{}, true}).value();
  std::set<JobState> states;
  size_t points = 0;
  // A watcher is told the latest state only, so the first is read before there is another.
  const auto first = watcher->WaitNext(CancelToken(), absl::ZeroDuration());
  ASSERT_TRUE(first.ok() && first->has_value() && (*first)->job) << first.status();
  states.insert((*first)->job->state);
  server_->Start();
  while (true) {
    const auto event =
        watcher->WaitNext(CancelToken(absl::Now() + Server::kPatience), Server::kPatience);
    ASSERT_TRUE(event.ok() && event->has_value()) << event.status();
    if ((*event)->metrics) points += (*event)->metrics->points.size();
    if (!(*event)->job) continue;
    states.insert((*event)->job->state);
    if (IsFinal((*event)->job->state)) break;
  }
  EXPECT_TRUE(states.contains(JobState::kQueued));
  EXPECT_TRUE(states.contains(JobState::kSucceeded));
  EXPECT_EQ(points, server_->queue->Metrics(id, 100000)->size());
  EXPECT_TRUE(absl::IsNotFound(server_->queue->Watch({{"none"}, false}).status()));
}

// ---- kill -9: another process of this binary runs the queue and is killed.

// Runs only as that process.
TEST(JobsChild, DISABLED_RunsTheQueueUntilItIsKilled) {
  const char* data = ::getenv(kDataVariable);
  ASSERT_NE(data, nullptr);
  const char* bytes = ::getenv(kLimitVariable);
  if (bytes != nullptr) {
    const auto limit = static_cast<rlim_t>(::atoll(bytes));
    const rlimit limits{limit, limit};
    ::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limits), 0);
  }
  Server server(data);
  // There is never room again: a paused job stays so, and no kill meets it at work.
  server.Start(bytes != nullptr ? absl::InfiniteDuration() : absl::Milliseconds(50));
  ::pause();
}

TEST_F(JobsTest, AfterKillTrainingEndsAsWithoutIt) {
  Open(false);
  TrainingJob killed = TinyTraining("killed", 150'000), twin = TinyTraining("twin", 150'000);
  killed.training.checkpoint_steps = twin.training.checkpoint_steps = 40;
  const std::string id = server_->queue->SubmitTraining(killed, "")->id;
  Close();
  RunUntilKilled(dir_ / "data", id, "attempt = 1 AND progress >= 0.2");
  RunUntilKilled(dir_ / "data", id, "attempt = 2 AND progress >= 0.5");
  Open(false);
  const bool killed_twice = server_->queue->Get(id)->state == JobState::kQueued;
  server_->Start();
  const JobRow end = server_->AwaitEnd(id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  if (killed_twice) {
    EXPECT_EQ(end.attempt, 3u);
  }
  const std::string twin_id = server_->queue->SubmitTraining(twin, "")->id;
  ASSERT_EQ(server_->AwaitEnd(twin_id).state, JobState::kSucceeded);
  EXPECT_EQ(server_->catalog->GetSae("killed")->hash, server_->catalog->GetSae("twin")->hash);
  // The metrics of both are the same steps, each once.
  const auto steps = [&](const std::string& job) {
    std::vector<uint64_t> out;
    const std::vector<MetricRow> points = server_->queue->Metrics(job, 100000).value();
    for (const MetricRow& point : points) out.push_back(point.step);
    return out;
  };
  const std::vector<uint64_t> killed_steps = steps(id);
  EXPECT_EQ(std::set<uint64_t>(killed_steps.begin(), killed_steps.end()).size(),
            killed_steps.size());
  EXPECT_TRUE(std::is_sorted(killed_steps.begin(), killed_steps.end()));
}

TEST_F(JobsTest, AfterKillAnIndexHoldsTheSameAsWithoutIt) {
  Open(false);
  IndexingJob job = TinyIndexing();
  job.indexing.checkpoint_interval = absl::Milliseconds(1);
  const std::string id = server_->queue->SubmitIndexing(job, "")->id;
  Close();
  RunUntilKilled(dir_ / "data", id, "progress >= 0.05");
  Open();
  const JobRow end = server_->AwaitEnd(id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  const std::string hash = server_->catalog->OpenIndex("s", "c").value()->info().content_hash;
  const std::string again = server_->queue->SubmitIndexing(job, "")->id;
  ASSERT_EQ(server_->AwaitEnd(again).state, JobState::kSucceeded);
  EXPECT_EQ(server_->catalog->OpenIndex("s", "c").value()->info().content_hash, hash);
}

TEST_F(JobsTest, AJobMeetsAFullDiskPausesAndEndsWhenThereIsRoom) {
  Open(false);
  TrainingJob job = TinyTraining("new", 2560);
  job.training.d_sae = 65536;  // its checkpoints are larger than the child may write
  job.training.checkpoint_steps = 5;
  const std::string id = server_->queue->SubmitTraining(job, "")->id;
  Close();
  ::setenv(kLimitVariable, "8000000", 1);
  RunUntilKilled(dir_ / "data", id, "state = 'paused' AND error <> ''");
  ::unsetenv(kLimitVariable);
  Open(false);
  EXPECT_EQ(server_->queue->Get(id)->state, JobState::kPaused);
  server_->Start();
  const JobRow end = server_->AwaitEnd(id);
  EXPECT_EQ(end.state, JobState::kSucceeded) << end.error;
  EXPECT_EQ(end.error, "");
  EXPECT_EQ(end.crashes, 0u);
  EXPECT_TRUE(server_->catalog->LoadedSae("new").ok());
}

}  // namespace
}  // namespace featurescope
