#include "server/engine/device_worker.h"

#include <atomic>
#include <functional>
#include <latch>
#include <limits>
#include <stdexcept>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/status.h"
#include "server/engine/completion.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What ran, in order: the names of the tasks of each batch.
class Journal {
 public:
  void Add(std::vector<std::string> names) {
    MutexLock lock(&mutex_);
    batches_.push_back(std::move(names));
  }
  std::vector<std::vector<std::string>> batches() const {
    MutexLock lock(&mutex_);
    return batches_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::vector<std::string>> batches_ ABSL_GUARDED_BY(mutex_);
};

// Takes `turns` turns and notes each in the journal.
class NotedTask : public InteractiveTask {
 public:
  NotedTask(std::string name, std::string key, Journal* journal, int64_t n_tokens = 1,
            int turns = 1)
      : name_(std::move(name)),
        key_(std::move(key)),
        journal_(journal),
        n_tokens_(n_tokens),
        turns_left_(turns) {}

  const std::string& batch_key() const override { return key_; }
  int64_t n_tokens() const override { return n_tokens_; }
  const CancelToken& cancel() const override { return cancel_; }

  std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
      absl::Span<const std::shared_ptr<InteractiveTask>> batch) override {
    std::vector<std::string> names;
    for (const auto& entry : batch) names.push_back(static_cast<NotedTask&>(*entry).name_);
    journal_->Add(std::move(names));
    std::vector<std::shared_ptr<InteractiveTask>> again;
    for (const auto& entry : batch) {
      auto& task = static_cast<NotedTask&>(*entry);
      if (--task.turns_left_ > 0) {
        again.push_back(entry);
      } else {
        task.completion_.Set(absl::OkStatus());
      }
    }
    return again;
  }
  void Fail(const absl::Status& status) override { completion_.Set(status); }

  absl::Status Wait() { return completion_.Wait(); }

 private:
  const std::string name_;
  const std::string key_;
  Journal* const journal_;
  const int64_t n_tokens_;
  int turns_left_;
  const CancelToken cancel_;
  Completion completion_;
};

// Keeps a worker busy from construction to Release().
class Hold {
 public:
  explicit Hold(DeviceWorker* worker) {
    thread_ = std::thread([this, worker] {
      EXPECT_TRUE(worker
                      ->RunInteractive(CancelToken(),
                                       [this] {
                                         started_.count_down();
                                         release_.wait();
                                         return absl::OkStatus();
                                       })
                      .ok());
    });
    started_.wait();
  }
  ~Hold() { Release(); }

  void Release() {
    if (!thread_.joinable()) return;
    release_.count_down();
    thread_.join();
  }

 private:
  std::latch started_{1};
  std::latch release_{1};
  std::thread thread_;
};

std::shared_ptr<NotedTask> PostNoted(DeviceWorker& worker, std::shared_ptr<NotedTask> task) {
  EXPECT_TRUE(worker.Post(task).ok());
  return task;
}

void WaitUntil(const std::function<bool()>& condition) {
  while (!condition()) std::this_thread::yield();
}

TEST(DeviceWorkerTest, TasksOfOneKeyRunTogetherAndOthersInTheirTurn) {
  Journal journal;
  DeviceWorker worker({});
  Hold hold(&worker);
  auto a1 = PostNoted(worker, std::make_shared<NotedTask>("a1", "a", &journal));
  auto b1 = PostNoted(worker, std::make_shared<NotedTask>("b1", "b", &journal));
  auto a2 = PostNoted(worker, std::make_shared<NotedTask>("a2", "a", &journal));
  auto lone1 = PostNoted(worker, std::make_shared<NotedTask>("lone1", "", &journal));
  auto lone2 = PostNoted(worker, std::make_shared<NotedTask>("lone2", "", &journal));
  hold.Release();
  for (auto& task : {a1, b1, a2, lone1, lone2}) EXPECT_TRUE(task->Wait().ok());
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("a1", "a2"), ElementsAre("b1"),
                                             ElementsAre("lone1"), ElementsAre("lone2")));
}

TEST(DeviceWorkerTest, BatchesKeepToTheTokenBudget) {
  Journal journal;
  DeviceWorker worker({.max_batch_tokens = 10});
  Hold hold(&worker);
  auto big = PostNoted(worker, std::make_shared<NotedTask>("big", "k", &journal, 50));
  auto six = PostNoted(worker, std::make_shared<NotedTask>("six", "k", &journal, 6));
  auto five = PostNoted(worker, std::make_shared<NotedTask>("five", "k", &journal, 5));
  auto four = PostNoted(worker, std::make_shared<NotedTask>("four", "k", &journal, 4));
  hold.Release();
  for (auto& task : {big, six, five, four}) EXPECT_TRUE(task->Wait().ok());
  EXPECT_THAT(journal.batches(),
              ElementsAre(ElementsAre("big"), ElementsAre("six", "four"), ElementsAre("five")));
}

TEST(DeviceWorkerTest, FirstTaskWaitsForCompanyUntilTheBudgetIsFull) {
  Journal journal;
  DeviceWorker worker({.max_batch_tokens = 2, .max_batch_delay = absl::Hours(1)});
  auto first = PostNoted(worker, std::make_shared<NotedTask>("first", "k", &journal));
  auto second = PostNoted(worker, std::make_shared<NotedTask>("second", "k", &journal));
  EXPECT_TRUE(first->Wait().ok());
  EXPECT_TRUE(second->Wait().ok());
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("first", "second")));
}

TEST(DeviceWorkerTest, FirstTaskRunsAloneOnceItsDelayHasPassed) {
  Journal journal;
  DeviceWorker worker({.max_batch_delay = absl::Milliseconds(5)});
  auto task = PostNoted(worker, std::make_shared<NotedTask>("alone", "k", &journal));
  EXPECT_TRUE(task->Wait().ok());
}

TEST(DeviceWorkerTest, ReturnedTasksTakeTurnsWithNewOnes) {
  Journal journal;
  DeviceWorker worker({});
  Hold hold(&worker);
  auto looped = PostNoted(worker, std::make_shared<NotedTask>("loop", "g", &journal, 1, 3));
  auto once = PostNoted(worker, std::make_shared<NotedTask>("once", "a", &journal));
  auto joins = PostNoted(worker, std::make_shared<NotedTask>("joins", "g", &journal, 1, 2));
  hold.Release();
  for (auto& task : {looped, once, joins}) EXPECT_TRUE(task->Wait().ok());
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("loop", "joins"), ElementsAre("once"),
                                             ElementsAre("loop", "joins"), ElementsAre("loop")));
}

TEST(DeviceWorkerTest, FullQueueRefusesAtOnce) {
  Journal journal;
  DeviceWorker worker({.max_waiting = 2});
  Hold hold(&worker);
  auto a = PostNoted(worker, std::make_shared<NotedTask>("a", "k", &journal));
  auto b = PostNoted(worker, std::make_shared<NotedTask>("b", "k", &journal));
  const absl::Status refused = worker.Post(std::make_shared<NotedTask>("c", "k", &journal));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("2 requests wait, the limit is 2"));
  EXPECT_EQ(worker.RunInteractive(CancelToken(), [] { return absl::OkStatus(); }).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(worker.stats().waiting, 2u);
  EXPECT_EQ(worker.stats().refused, 2u);
  hold.Release();
  EXPECT_TRUE(a->Wait().ok());
  EXPECT_TRUE(b->Wait().ok());
}

TEST(DeviceWorkerTest, TasksBetweenTwoTurnsCountAsWaiting) {
  // A task that holds its place while it runs its second turn, and looks at the queue from there.
  class Looper : public InteractiveTask {
   public:
    Looper(DeviceWorker* worker, Journal* journal) : worker_(worker), journal_(journal) {}
    const std::string& batch_key() const override { return key_; }
    int64_t n_tokens() const override { return 1; }
    const CancelToken& cancel() const override { return cancel_; }
    std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
        absl::Span<const std::shared_ptr<InteractiveTask>> batch) override {
      if (++turn_ == 1) return {batch[0]};
      posted_ = worker_->Post(std::make_shared<NotedTask>("extra", "k", journal_));
      completion_.Set(absl::OkStatus());
      return {};
    }
    void Fail(const absl::Status& status) override { completion_.Set(status); }
    absl::Status Wait() { return completion_.Wait(); }
    absl::Status posted() const { return posted_; }

   private:
    DeviceWorker* const worker_;
    Journal* const journal_;
    const std::string key_ = "loop";
    const CancelToken cancel_;
    int turn_ = 0;
    absl::Status posted_;
    Completion completion_;
  };
  Journal journal;
  DeviceWorker worker({.max_waiting = 1});
  auto looper = std::make_shared<Looper>(&worker, &journal);
  ASSERT_TRUE(worker.Post(looper).ok());
  EXPECT_TRUE(looper->Wait().ok());
  EXPECT_EQ(looper->posted().code(), absl::StatusCode::kResourceExhausted);
}

TEST(DeviceWorkerTest, CancelledAndLateTasksNeverRun) {
  Journal journal;
  DeviceWorker worker({});
  Hold hold(&worker);
  auto cancelled = PostNoted(worker, std::make_shared<NotedTask>("cancelled", "k", &journal));
  auto kept = PostNoted(worker, std::make_shared<NotedTask>("kept", "k", &journal));
  cancelled->cancel().Cancel();
  const CancelToken late(absl::Now() - absl::Seconds(1));
  EXPECT_EQ(worker.RunInteractive(late, [] { return absl::OkStatus(); }).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(worker.RunBackground(late, [] { return absl::OkStatus(); }).code(),
            absl::StatusCode::kDeadlineExceeded);
  hold.Release();
  EXPECT_EQ(cancelled->Wait().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(kept->Wait().ok());
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("kept")));
  EXPECT_EQ(worker.stats().expired, 1u);
}

TEST(DeviceWorkerTest, CancelledBackgroundWorkReturnsWhileTheDeviceIsBusy) {
  DeviceWorker worker({});
  Hold hold(&worker);
  CancelToken cancel;
  bool ran = false;
  absl::Status status;
  std::thread job([&] {
    status = worker.RunBackground(cancel, [&] {
      ran = true;
      return absl::OkStatus();
    });
  });
  WaitUntil([&] { return worker.stats().background_waiting == 1; });
  cancel.Cancel();
  job.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  hold.Release();
  EXPECT_FALSE(ran);
  EXPECT_EQ(worker.stats().background_waiting, 0u);
}

TEST(DeviceWorkerTest, InteractiveWorkGoesBeforeBackgroundQuanta) {
  Journal journal;
  DeviceWorker worker({.max_background_wait = absl::InfiniteDuration()});
  Hold hold(&worker);
  std::thread job([&] {
    EXPECT_TRUE(worker
                    .RunBackground(CancelToken(),
                                   [&] {
                                     journal.Add({"quantum"});
                                     return absl::OkStatus();
                                   })
                    .ok());
  });
  WaitUntil([&] { return worker.stats().background_waiting == 1; });
  EXPECT_FALSE(worker.interactive_waiting());
  auto task = PostNoted(worker, std::make_shared<NotedTask>("task", "k", &journal, 1, 3));
  EXPECT_TRUE(worker.interactive_waiting());
  hold.Release();
  job.join();
  EXPECT_TRUE(task->Wait().ok());
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("task"), ElementsAre("task"),
                                             ElementsAre("task"), ElementsAre("quantum")));
}

TEST(DeviceWorkerTest, BackgroundWorkIsNotStarvedForEver) {
  Journal journal;
  DeviceWorker worker({.max_background_wait = absl::ZeroDuration()});
  Hold hold(&worker);
  std::thread job([&] {
    EXPECT_TRUE(worker
                    .RunBackground(CancelToken(),
                                   [&] {
                                     journal.Add({"quantum"});
                                     return absl::OkStatus();
                                   })
                    .ok());
  });
  WaitUntil([&] { return worker.stats().background_waiting == 1; });
  auto task = PostNoted(worker, std::make_shared<NotedTask>("task", "k", &journal));
  hold.Release();
  job.join();
  EXPECT_TRUE(task->Wait().ok());
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("quantum"), ElementsAre("task")));
}

TEST(DeviceWorkerTest, BackgroundCallersTakeTurns) {
  Journal journal;
  DeviceWorker worker({});
  Hold hold(&worker);
  auto job = [&](const std::string& name) {
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(worker
                      .RunBackground(CancelToken(),
                                     [&] {
                                       journal.Add({name});
                                       // The other job has come back for its next turn.
                                       WaitUntil([&] {
                                         return worker.stats().background_waiting == 1 ||
                                                journal.batches().size() == 6;
                                       });
                                       return absl::OkStatus();
                                     })
                      .ok());
    }
  };
  std::thread a(job, "a");
  WaitUntil([&] { return worker.stats().background_waiting == 1; });
  std::thread b(job, "b");
  WaitUntil([&] { return worker.stats().background_waiting == 2; });
  hold.Release();
  a.join();
  b.join();
  EXPECT_THAT(journal.batches(), ElementsAre(ElementsAre("a"), ElementsAre("b"), ElementsAre("a"),
                                             ElementsAre("b"), ElementsAre("a"), ElementsAre("b")));
}

TEST(DeviceWorkerTest, ReturnsTheStatusOfTheWork) {
  DeviceWorker worker({});
  EXPECT_EQ(worker.RunInteractive(CancelToken(), [] { return NotFound("no such thing"); }),
            NotFound("no such thing"));
  EXPECT_EQ(worker.RunBackground(CancelToken(), [] { return NotFound("no such thing"); }),
            NotFound("no such thing"));
}

TEST(DeviceWorkerTest, AnExceptionFailsItsTaskAndNotTheWorker) {
  DeviceWorker worker({});
  const absl::Status thrown = worker.RunInteractive(
      CancelToken(), []() -> absl::Status { throw std::runtime_error("oops"); });
  EXPECT_EQ(thrown.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(thrown.message()), HasSubstr("oops"));
  EXPECT_EQ(
      worker.RunBackground(CancelToken(), []() -> absl::Status { throw std::bad_alloc(); }).code(),
      absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(worker.RunInteractive(CancelToken(), [] { return absl::OkStatus(); }).ok());
}

TEST(DeviceWorkerTest, CallsFromItsOwnThreadRunAtOnce) {
  DeviceWorker worker({});
  int depth = 0;
  EXPECT_TRUE(worker
                  .RunInteractive(CancelToken(),
                                  [&] {
                                    return worker.RunBackground(CancelToken(), [&] {
                                      depth = 2;
                                      return absl::OkStatus();
                                    });
                                  })
                  .ok());
  EXPECT_EQ(depth, 2);
}

TEST(DeviceWorkerTest, ShutdownFailsWhatWaitsAndRefusesWhatComes) {
  Journal journal;
  DeviceWorker worker({});
  Hold hold(&worker);
  auto waiting = PostNoted(worker, std::make_shared<NotedTask>("waiting", "k", &journal));
  absl::Status job_status;
  std::thread job(
      [&] { job_status = worker.RunBackground(CancelToken(), [] { return absl::OkStatus(); }); });
  WaitUntil([&] { return worker.stats().background_waiting == 1; });
  worker.Shutdown();
  job.join();
  EXPECT_EQ(job_status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(waiting->Wait().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(worker.Post(std::make_shared<NotedTask>("new", "k", &journal)).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(worker.RunBackground(CancelToken(), [] { return absl::OkStatus(); }).code(),
            absl::StatusCode::kUnavailable);
  hold.Release();  // the running task ends as if nothing had happened
  EXPECT_TRUE(journal.batches().empty());
}

TEST(DeviceWorkerTest, ShutdownEndsTasksThatWantAnotherTurn) {
  Journal journal;
  auto endless =
      std::make_shared<NotedTask>("endless", "k", &journal, 1, std::numeric_limits<int>::max());
  {
    DeviceWorker worker({});
    ASSERT_TRUE(worker.Post(endless).ok());
    WaitUntil([&] { return worker.stats().interactive_batches > 3; });
  }
  EXPECT_EQ(endless->Wait().code(), absl::StatusCode::kUnavailable);
}

TEST(DeviceWorkerTest, ManyThreadsOfAllKindsGetTheirAnswers) {
  Journal journal;
  DeviceWorker worker({.max_waiting = 64, .max_batch_tokens = 4});
  int on_worker = 0;  // touched on the worker's thread only
  std::atomic<int> ok{0};
  std::atomic<int> cancelled{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const CancelToken cancel;
        absl::Status status;
        if (t % 4 == 0) {
          status = worker.RunBackground(cancel, [&] {
            ++on_worker;
            return absl::OkStatus();
          });
        } else if (t % 4 == 1) {
          status = worker.RunInteractive(cancel, [&] {
            ++on_worker;
            return absl::OkStatus();
          });
        } else {
          auto task = std::make_shared<NotedTask>("t", t == 2 ? "a" : "b", &journal, 1, 3);
          EXPECT_TRUE(worker.Post(task).ok());
          if (t == 7 && i % 2 == 0) task->cancel().Cancel();
          status = task->Wait();
        }
        if (status.ok()) {
          ++ok;
        } else {
          EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
          ++cancelled;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ok + cancelled, 400);
  EXPECT_LE(cancelled, 25);
  int seen = 0;
  EXPECT_TRUE(worker
                  .RunInteractive(CancelToken(),
                                  [&] {
                                    seen = on_worker;
                                    return absl::OkStatus();
                                  })
                  .ok());
  EXPECT_EQ(seen, 200);
}

}  // namespace
}  // namespace featurescope
