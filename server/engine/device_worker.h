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
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"

namespace featurescope {

// A piece of interactive work. Tasks with equal, non-empty batch keys may run in one RunBatch call.
class InteractiveTask {
 public:
  virtual ~InteractiveTask() = default;

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

  // Ends the task without running it (again): cancelled, past its deadline, or shut down.
  virtual void Fail(const absl::Status& status) = 0;
};

struct DeviceWorkerOptions {
  size_t max_waiting = 256;         // interactive tasks; more are refused
  int64_t max_batch_tokens = 4096;  // of one RunBatch call; a larger task runs alone
  // How long the first task of a batch may wait for others; 0: not at all.
  absl::Duration max_batch_delay = absl::ZeroDuration();
};

struct DeviceWorkerStats {
  size_t waiting = 0;
  uint64_t interactive_batches = 0;
  uint64_t interactive_tasks = 0;
  uint64_t refused = 0;
  uint64_t background_quanta = 0;
  absl::Duration interactive_busy;
  absl::Duration background_busy;
};

// Thread-safe.
class DeviceWorker {
 public:
  explicit DeviceWorker(const DeviceWorkerOptions& options);
  // Fails what waits, lets the running batch end.
  ~DeviceWorker();

  // Puts the task in the queue.
  //   errors  ResourceExhausted  the queue is full
  //           Unavailable        the worker is shutting down
  absl::Status Post(std::shared_ptr<InteractiveTask> task);

  // Runs `work` on the worker's thread as one interactive task that batches with nothing, and waits
  // for it. For short things: a tokenised forward, a vector encoded.
  absl::Status RunInteractive(const CancelToken& cancel, std::function<absl::Status()> work);

  // Runs `work` on the worker's thread when nothing interactive waits, and waits for it. A caller
  // splits long work into quanta (about 50 ms on a GPU, at most 250 ms on a CPU), one call each.
  // Callers take turns.
  //   errors  those of `work`; Cancelled when `cancel` is; Unavailable when shutting down
  absl::Status RunBackground(const CancelToken& cancel, std::function<absl::Status()> work);

  // Refuses new tasks and fails waiting ones.
  void Shutdown();

  DeviceWorkerStats stats() const;

 private:
  struct Background;

  void Loop();

  const DeviceWorkerOptions options_;
  mutable absl::Mutex mutex_;
  std::deque<std::shared_ptr<InteractiveTask>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::deque<Background*> background_ ABSL_GUARDED_BY(mutex_);
  bool shutting_down_ ABSL_GUARDED_BY(mutex_) = false;
  DeviceWorkerStats stats_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace featurescope
