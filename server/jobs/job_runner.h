// Runs queued jobs one after another on a thread of its own; the computing happens on the device
// worker, in quanta between interactive requests. A server has one runner for jobs that compute and
// one for imports, so that a download holds up nothing.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/cancel.h"
#include "server/engine/device_worker.h"
#include "server/hub/hub_options.h"
#include "server/jobs/job_queue.h"

namespace featurescope {

struct JobRunnerOptions {
  // Progress and metrics go to the database and to watchers this often.
  absl::Duration write_interval = absl::Milliseconds(500);
  // A paused job is tried again this long after it paused,
  absl::Duration retry_paused = absl::Seconds(30);
  // and only when the data directory has at least this many bytes free.
  uint64_t min_free_bytes = 64u << 20;
  // A running job's lease is renewed at least this often; a third of StateDbOptions::lease.
  absl::Duration heartbeat = absl::Seconds(10);
  absl::Duration quantum = absl::Milliseconds(200);
  // Only jobs of these kinds; empty: all.
  std::vector<std::string> kinds;
  HubOptions hub;  // where imports come from
};

class JobRunner {
 public:
  // Both must outlive the runner. Starts at once.
  JobRunner(JobQueue* queue, DeviceWorker* device, const JobRunnerOptions& options);
  // Stop().
  ~JobRunner();
  JobRunner(const JobRunner&) = delete;
  JobRunner& operator=(const JobRunner&) = delete;

  // Ends the running job at its next quantum with a checkpoint and puts it back in the queue, from
  // which the next server takes it up. Waits for that. Call it before the device worker shuts down.
  // Thread-safe.
  void Stop();

 private:
  void Loop();
  // Runs one claimed job to its end, a pause, or Stop().
  void RunOne(const JobRow& job);
  // Writes the state in which a run that returned `status` leaves its job; false: try again later.
  bool Conclude(const JobRow& job, const absl::Status& status);
  void RetryPausedJobs();
  // False as soon as Stop() was called.
  bool Sleep(absl::Duration duration);

  JobQueue* const queue_;
  DeviceWorker* const device_;
  const JobRunnerOptions options_;
  absl::once_flag stop_once_;
  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = true;
  CancelToken current_ ABSL_GUARDED_BY(mutex_);  // of the running job
  absl::Time next_retry_;                        // touched by the runner's thread only
  std::thread thread_;
};

}  // namespace featurescope
