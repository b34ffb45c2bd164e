// One thread per device on which all of its computing happens.
//
// Interactive tasks are batched and always go first. Background work (a training or indexing job)
// runs in quanta between them. The queue of interactive tasks is bounded: a full queue refuses at
// once.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"
#include "server/engine/byte_budget.h"
#include "server/base/mutex.h"

namespace featurescope {

// A piece of interactive work. Tasks with equal, non-empty batch keys may run in one RunBatch call.
class InteractiveTask {
 public:
  virtual ~InteractiveTask() = default;

  // The three below are asked with the worker's lock held: they only return what they hold.

  // What can run together, e.g. "activations:<model>:<sae>". Empty: runs alone.
  virtual const std::string& batch_key() const = 0;
  // How much of the batch's budget the task takes.
  virtual int64_t n_tokens() const = 0;
  virtual const CancelToken& cancel() const = 0;

  // Computes all tasks of `batch` (this one is the first; all have its key) on the worker's thread.
  // Returns the tasks that want another turn, e.g. for their next token; they go to the back of the
  // queue. Tasks not returned have finished and have reported so themselves.
  virtual std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
      absl::Span<const std::shared_ptr<InteractiveTask>> batch) = 0;

  // Ends the task without running it (again): cancelled, past its deadline, or shut down. A task
  // that has already finished ignores it. Called on the worker's thread or that of Shutdown.
  virtual void Fail(const absl::Status& status) = 0;
};

struct DeviceWorkerOptions {
  // Interactive tasks that wait for their first or next turn; more are refused.
  size_t max_waiting = 256;
  int64_t max_batch_tokens = 4096;  // of one RunBatch call; a larger task runs alone
  // How long the first task of a batch may wait for others; 0: not at all.
  absl::Duration max_batch_delay = absl::ZeroDuration();
  // A background quantum that has waited this long goes before interactive work, so that jobs still
  // move when the interactive queue never empties. Infinite: never.
  absl::Duration max_background_wait = absl::Seconds(5);
  // Of what tasks keep between their turns, all together: the caches of running generations.
  uint64_t max_held_bytes = 8ull << 30;
};

struct DeviceWorkerStats {
  size_t waiting = 0;             // interactive tasks, without those running
  size_t background_waiting = 0;  // callers of RunBackground
  uint64_t interactive_batches = 0;
  uint64_t interactive_tasks = 0;  // turns of tasks
  uint64_t refused = 0;
  uint64_t expired = 0;  // tasks that were cancelled or too late before their turn
  uint64_t background_quanta = 0;
  absl::Duration interactive_busy;
  absl::Duration background_busy;
};

// Thread-safe.
class DeviceWorker {
 public:
  explicit DeviceWorker(const DeviceWorkerOptions& options);
  // Fails what waits, lets the running batch end. No other call may be running.
  ~DeviceWorker();
  DeviceWorker(const DeviceWorker&) = delete;
  DeviceWorker& operator=(const DeviceWorker&) = delete;

  // Puts the task in the queue.
  //   errors  ResourceExhausted  the queue is full
  //           Unavailable        the worker is shutting down
  absl::Status Post(std::shared_ptr<InteractiveTask> task);

  // Runs `work` on the worker's thread as one interactive task that batches with nothing, and waits
  // for it. For short things: a tokenised forward, a vector encoded. Called on the worker's own
  // thread, it runs `work` at once.
  //   errors  those of `work` and of Post; Cancelled or DeadlineExceeded when `cancel` is set
  //   before
  //           its turn
  absl::Status RunInteractive(const CancelToken& cancel, std::function<absl::Status()> work);

  // Runs `work` on the worker's thread when nothing interactive waits, and waits for it. A caller
  // splits long work into quanta (about 50 ms on a GPU, at most 250 ms on a CPU), one call each.
  // Callers take turns. Called on the worker's own thread, it runs `work` at once.
  //   errors  those of `work`; Cancelled when `cancel` is; Unavailable when shutting down
  absl::Status RunBackground(const CancelToken& cancel, std::function<absl::Status()> work);

  // Whether an interactive task waits: a quantum that can end early does so. Cheap.
  bool interactive_waiting() const { return n_waiting_.load(std::memory_order_relaxed) > 0; }

  // What tasks keep on the device between their turns; who posts them reserves it first.
  ByteBudget& held_bytes() { return held_bytes_; }

  // Refuses new tasks and fails waiting ones; does not wait for the running one.
  void Shutdown();

  DeviceWorkerStats stats() const;
  const DeviceWorkerOptions& options() const { return options_; }

 private:
  using Task = std::shared_ptr<InteractiveTask>;
  struct Waiting {
    Task task;
    absl::Time posted_at;  // InfinitePast: has had a turn already
  };
  struct Background;
  struct Turn;

  void Loop();
  // Waits for something to do.
  Turn NextTurn();
  std::vector<Task> TakeExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Task> TakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool BackgroundIsNext(absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How much longer the first task waits for company.
  absl::Duration BatchDelayLeft(absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunInteractiveTurn(const std::vector<Task>& batch);
  void RunBackgroundTurn(Background* background);
  bool OnWorkerThread() const;

  const DeviceWorkerOptions options_;
  ByteBudget held_bytes_;
  std::atomic<size_t> n_waiting_{0};  // waiting_.size(), for those who do not hold the lock
  mutable Mutex mutex_;
  CondVar work_arrived_;
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  // Tasks of the running batch that have had a turn before: they keep their place in the queue.
  size_t n_continuing_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Background*> background_ ABSL_GUARDED_BY(mutex_);
  bool shutting_down_ ABSL_GUARDED_BY(mutex_) = false;
  DeviceWorkerStats stats_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace featurescope
