#include "server/engine/device_worker.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/status.h"
#include "server/engine/completion.h"

namespace featurescope {
namespace {

absl::Status ShuttingDown() { return absl::UnavailableError("the server is shutting down"); }

// Code that is called here returns statuses; an exception that still comes out of it is a bug, and
// must not take the server with it.
template <typename F>
absl::Status Guarded(F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory on the device worker");
  } catch (const std::exception& e) {
    return Internal("uncaught exception on the device worker: ", e.what());
  } catch (...) {
    return Internal("uncaught exception on the device worker");
  }
}

class FunctionTask : public InteractiveTask {
 public:
  FunctionTask(CancelToken cancel, std::function<absl::Status()> work)
      : cancel_(std::move(cancel)), work_(std::move(work)) {}

  const std::string& batch_key() const override { return no_key_; }
  int64_t n_tokens() const override { return 1; }
  const CancelToken& cancel() const override { return cancel_; }
  std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
      absl::Span<const std::shared_ptr<InteractiveTask>>) override {
    completion_.Set(Guarded(work_));
    return {};
  }
  void Fail(const absl::Status& status) override { completion_.Set(status); }

  absl::Status Wait() { return completion_.Wait(); }

 private:
  const std::string no_key_;
  const CancelToken cancel_;
  const std::function<absl::Status()> work_;
  Completion completion_;
};

}  // namespace

// One call of RunBackground; lives on its caller's stack. Its fields belong to the worker's mutex,
// except that `work` runs without it.
struct DeviceWorker::Background {
  std::function<absl::Status()> work;
  absl::Time posted_at;
  bool taken = false;
  bool done = false;
  absl::Status result;
  CondVar changed;
};

// What the loop does next. One of the three is set; none: stop.
struct DeviceWorker::Turn {
  std::vector<Task> expired;
  std::vector<Task> batch;
  Background* background = nullptr;
};

DeviceWorker::DeviceWorker(const DeviceWorkerOptions& options)
    : options_(options), held_bytes_(options.max_held_bytes), thread_([this] { Loop(); }) {}

DeviceWorker::~DeviceWorker() {
  Shutdown();
  thread_.join();
}

bool DeviceWorker::OnWorkerThread() const { return std::this_thread::get_id() == thread_.get_id(); }

absl::Status DeviceWorker::Post(std::shared_ptr<InteractiveTask> task) {
  MutexLock lock(&mutex_);
  if (shutting_down_) return ShuttingDown();
  if (waiting_.size() + n_continuing_ >= options_.max_waiting) {
    ++stats_.refused;
    return ResourceExhausted("the device's queue is full: ", waiting_.size() + n_continuing_,
                             " requests wait, the limit is ", options_.max_waiting,
                             "; try again later");
  }
  waiting_.push_back({std::move(task), absl::Now()});
  n_waiting_.store(waiting_.size(), std::memory_order_relaxed);
  work_arrived_.Signal();
  return absl::OkStatus();
}

absl::Status DeviceWorker::RunInteractive(const CancelToken& cancel,
                                          std::function<absl::Status()> work) {
  RETURN_IF_ERROR(cancel.Check());
  if (OnWorkerThread()) return work();
  auto task = std::make_shared<FunctionTask>(cancel, std::move(work));
  RETURN_IF_ERROR(Post(task));
  return task->Wait();
}

absl::Status DeviceWorker::RunBackground(const CancelToken& cancel,
                                         std::function<absl::Status()> work) {
  RETURN_IF_ERROR(cancel.Check());
  if (OnWorkerThread()) return work();
  Background background;
  background.work = std::move(work);
  background.posted_at = absl::Now();

  MutexLock lock(&mutex_);
  if (shutting_down_) return ShuttingDown();
  background_.push_back(&background);
  work_arrived_.Signal();
  while (!background.done) {
    if (background.taken) {
      background.changed.Wait(&mutex_);
      continue;
    }
    if (absl::Status status = cancel.Check(); !status.ok()) {
      background_.erase(std::find(background_.begin(), background_.end(), &background));
      return status;
    }
    // A cancelled token does not signal.
    background.changed.WaitFor(&mutex_, absl::Milliseconds(20));
  }
  return background.result;
}

void DeviceWorker::Shutdown() {
  std::deque<Waiting> waiting;
  {
    MutexLock lock(&mutex_);
    shutting_down_ = true;
    waiting.swap(waiting_);
    n_waiting_.store(0, std::memory_order_relaxed);
    for (Background* background : background_) {
      background->result = ShuttingDown();
      background->done = true;
      background->changed.Signal();
    }
    background_.clear();
    work_arrived_.Signal();
  }
  for (const Waiting& entry : waiting) entry.task->Fail(ShuttingDown());
}

DeviceWorkerStats DeviceWorker::stats() const {
  MutexLock lock(&mutex_);
  DeviceWorkerStats stats = stats_;
  stats.waiting = waiting_.size();
  stats.background_waiting = background_.size();
  return stats;
}

void DeviceWorker::Loop() {
  while (true) {
    const Turn turn = NextTurn();
    if (!turn.expired.empty()) {
      for (const Task& task : turn.expired) task->Fail(task->cancel().Check());
    } else if (!turn.batch.empty()) {
      RunInteractiveTurn(turn.batch);
    } else if (turn.background != nullptr) {
      RunBackgroundTurn(turn.background);
    } else {
      return;
    }
  }
}

DeviceWorker::Turn DeviceWorker::NextTurn() {
  MutexLock lock(&mutex_);
  Turn turn;
  while (!shutting_down_) {
    turn.expired = TakeExpired();
    if (!turn.expired.empty()) return turn;
    const absl::Time now = absl::Now();
    if (BackgroundIsNext(now)) {
      turn.background = background_.front();
      turn.background->taken = true;
      background_.pop_front();
      return turn;
    }
    if (waiting_.empty()) {
      work_arrived_.Wait(&mutex_);
      continue;
    }
    if (const absl::Duration left = BatchDelayLeft(now); left > absl::ZeroDuration()) {
      work_arrived_.WaitFor(&mutex_, left);
      continue;
    }
    turn.batch = TakeBatch();
    return turn;
  }
  return turn;
}

bool DeviceWorker::BackgroundIsNext(absl::Time now) const {
  if (background_.empty()) return false;
  return waiting_.empty() || now - background_.front()->posted_at >= options_.max_background_wait;
}

absl::Duration DeviceWorker::BatchDelayLeft(absl::Time now) const {
  const Waiting& first = waiting_.front();
  if (options_.max_batch_delay <= absl::ZeroDuration() || first.task->batch_key().empty()) {
    return absl::ZeroDuration();
  }
  int64_t n_tokens = 0;
  for (const Waiting& entry : waiting_) {
    if (entry.task->batch_key() == first.task->batch_key()) n_tokens += entry.task->n_tokens();
  }
  if (n_tokens >= options_.max_batch_tokens) return absl::ZeroDuration();
  return options_.max_batch_delay - (now - first.posted_at);
}

std::vector<DeviceWorker::Task> DeviceWorker::TakeExpired() {
  std::vector<Task> expired;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (it->task->cancel().cancelled()) {
      expired.push_back(std::move(it->task));
      it = waiting_.erase(it);
    } else {
      ++it;
    }
  }
  stats_.expired += expired.size();
  n_waiting_.store(waiting_.size(), std::memory_order_relaxed);
  return expired;
}

std::vector<DeviceWorker::Task> DeviceWorker::TakeBatch() {
  std::vector<Task> batch;
  std::deque<Waiting> rest;
  int64_t n_tokens = 0;
  for (Waiting& entry : waiting_) {
    const int64_t more = entry.task->n_tokens();
    const bool fits = batch.empty() || (!batch.front()->batch_key().empty() &&
                                        entry.task->batch_key() == batch.front()->batch_key() &&
                                        n_tokens + more <= options_.max_batch_tokens);
    if (!fits) {
      rest.push_back(std::move(entry));
      continue;
    }
    n_tokens += more;
    if (entry.posted_at == absl::InfinitePast()) ++n_continuing_;
    batch.push_back(std::move(entry.task));
  }
  waiting_.swap(rest);
  n_waiting_.store(waiting_.size(), std::memory_order_relaxed);
  return batch;
}

void DeviceWorker::RunInteractiveTurn(const std::vector<Task>& batch) {
  const absl::Time start = absl::Now();
  {
    // Before it runs, so that whoever has an answer finds it counted.
    MutexLock lock(&mutex_);
    ++stats_.interactive_batches;
    stats_.interactive_tasks += batch.size();
  }
  std::vector<Task> again;
  const absl::Status status = Guarded([&] {
    again = batch.front()->RunBatch(batch);
    return absl::OkStatus();
  });
  if (!status.ok()) {
    for (const Task& task : batch) task->Fail(status);
    again.clear();
  }

  bool shutting_down = false;
  {
    MutexLock lock(&mutex_);
    stats_.interactive_busy += absl::Now() - start;
    n_continuing_ = 0;
    shutting_down = shutting_down_;
    if (!shutting_down) {
      for (Task& task : again) waiting_.push_back({std::move(task), absl::InfinitePast()});
      n_waiting_.store(waiting_.size(), std::memory_order_relaxed);
    }
  }
  if (shutting_down) {
    for (const Task& task : again) task->Fail(ShuttingDown());
  }
}

void DeviceWorker::RunBackgroundTurn(Background* background) {
  const absl::Time start = absl::Now();
  absl::Status result = Guarded(background->work);
  MutexLock lock(&mutex_);
  ++stats_.background_quanta;
  stats_.background_busy += absl::Now() - start;
  background->result = std::move(result);
  background->done = true;
  // With the lock held: once it is released, *background is gone.
  background->changed.Signal();
}

}  // namespace featurescope
