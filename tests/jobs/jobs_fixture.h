// What the tests of jobs have in common: a server without its network on a tiny model, and another
// process of the test's binary that runs the queue and is killed.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>

#include "server/jobs/job_queue.h"
#include "server/jobs/job_runner.h"
#include "tests/base/temp_dir.h"
#include "tests/catalog/tiny_model.h"

extern char** environ;

namespace featurescope {

inline constexpr char kHook[] = "blocks.1.hook_resid_post";
inline constexpr char kDataVariable[] = "FEATURESCOPE_JOBS_TEST_DATA";
// The largest file, in bytes, that the child may write: stands for a full disk.
inline constexpr char kLimitVariable[] = "FEATURESCOPE_JOBS_TEST_FILE_LIMIT";
// Far more than any computer trains within a test: such a job ends by being cancelled.
inline constexpr uint64_t kEndless = 500'000'000'000;

inline TrainingJob TinyTraining(const std::string& id, uint64_t tokens = 6000) {
  TrainingJob job;
  job.sae_id = id;
  job.model_id = "m";
  job.corpus_id = "c";
  job.hook_name = kHook;
  job.training.d_sae = 64;
  job.training.k = 4;
  job.training.tokens = tokens;
  job.training.batch_size = 128;
  job.training.buffer_tokens = 1024;
  job.training.seed = 7;
  return job;
}

inline IndexingJob TinyIndexing() {
  IndexingJob job;
  job.sae_id = "s";
  job.corpus_id = "c";
  job.indexing.seed = 7;
  return job;
}

// A server without its network: catalog, queue, device and runner on one data directory.
class Server {
 public:
  static constexpr absl::Duration kPatience = absl::Minutes(5);

  explicit Server(const std::string& data_dir) {
    CatalogOptions options;
    options.allowed_roots = {"/"};
    auto opened = Catalog::Open(data_dir, options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (!opened.ok()) return;
    catalog = *std::move(opened);
    queue = std::make_unique<JobQueue>(catalog.get());
    device = std::make_unique<DeviceWorker>(DeviceWorkerOptions());
  }
  ~Server() {
    runner.reset();
    if (device) device->Shutdown();
  }
  void Start(absl::Duration retry_paused = absl::Milliseconds(50)) {
    JobRunnerOptions options;
    options.write_interval = absl::Milliseconds(5);
    options.quantum = absl::Milliseconds(20);
    options.retry_paused = retry_paused;
    runner = std::make_unique<JobRunner>(queue.get(), device.get(), options);
  }
  // The job once `done` says so.
  JobRow Await(const std::string& id, const std::function<bool(const JobRow&)>& done) {
    const absl::Time deadline = absl::Now() + kPatience;
    auto watcher = queue->Watch({{id}, false});
    EXPECT_TRUE(watcher.ok()) << watcher.status();
    while (watcher.ok()) {
      const auto event = (*watcher)->WaitNext(CancelToken(deadline), absl::Seconds(1));
      if (!event.ok()) {
        ADD_FAILURE() << event.status() << "; " << queue->Get(id)->phase;
        break;
      }
      if (event->has_value() && (*event)->job && done(*(*event)->job)) return *(*event)->job;
    }
    return queue->Get(id).value();
  }
  JobRow AwaitEnd(const std::string& id) {
    return Await(id, [](const JobRow& job) { return IsFinal(job.state); });
  }

  std::unique_ptr<Catalog> catalog;
  std::unique_ptr<JobQueue> queue;
  std::unique_ptr<DeviceWorker> device;
  std::unique_ptr<JobRunner> runner;
};

// Model m, its SAE s and corpus c in a data directory.
inline void Furnish(Catalog* catalog, const TempDir& dir) {
  WriteTinyModel(dir / "m", true);
  WriteTinySae(dir / "s", kTinyWidth, kHook);
  WriteTinyText(dir / "text.jsonl", 400);
  ASSERT_TRUE(catalog->AddModel("m", dir / "m").ok());
  const auto sae = catalog->AddSae("s", dir / "s", {"m", "", false});
  ASSERT_TRUE(sae.ok()) << sae.status();
  AddCorpusOptions options;
  options.paths = {dir / "text.jsonl"};
  options.model_id = "m";
  const auto corpus = catalog->AddCorpus("c", options, nullptr, CancelToken());
  ASSERT_TRUE(corpus.ok()) << corpus.status();
}

class JobsTest : public ::testing::Test {
 protected:
  void Open(bool with_runner = true) {
    server_ = std::make_unique<Server>(dir_ / "data");
    if (server_->catalog->ListModels()->empty()) Furnish(server_->catalog.get(), dir_);
    if (with_runner) server_->Start();
  }
  void Close() { server_.reset(); }

  TempDir dir_;
  std::unique_ptr<Server> server_;
};

// ---- kill -9: JobsChild in jobs_test.cc runs the queue of a data directory.

inline pid_t SpawnChild(const std::string& data_dir) {
  ::setenv(kDataVariable, data_dir.c_str(), 1);
  std::string self = "/proc/self/exe";
  std::string filter = "--gtest_filter=JobsChild.*";
  std::string disabled = "--gtest_also_run_disabled_tests";
  std::string output = "--gtest_output=";
  char* const arguments[] = {self.data(), filter.data(), disabled.data(), output.data(), nullptr};
  pid_t child = -1;
  EXPECT_EQ(::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments, environ), 0);
  return child;
}

// Runs the queue of `data_dir` in a process that is killed once `condition`, of SQL, holds for the
// job, or the job has ended before that was seen.
inline void RunUntilKilled(const std::string& data_dir, const std::string& job_id,
                           const std::string& condition) {
  const pid_t child = SpawnChild(data_dir);
  const absl::Time deadline = absl::Now() + Server::kPatience;
  bool reached = false;
  while (!reached && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));  // between two looks at another process
    const auto db = Database::Open(data_dir + "/state.db", OpenMode::kReader);
    if (db.ok()) {
      const auto holds = (*db)->QueryInt("SELECT (" + condition + ") OR state = 'succeeded' " +
                                         "FROM job WHERE id='" + job_id + "'");
      reached = holds.ok() && *holds != 0;
    }
    ASSERT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "the child ended by itself";
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(reached) << condition;
}

}  // namespace featurescope
