// Runs queued jobs one after another on a thread of its own; the computing happens on the device
// worker, in quanta between interactive requests.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/engine/device_worker.h"
#include "server/jobs/job_queue.h"

namespace featurescope {

struct JobRunnerOptions {
  // Progress goes to the database at most this often; metrics are gathered as long.
  absl::Duration write_interval = absl::Milliseconds(500);
  // A job that waits for room on the disk is tried again after this long.
  absl::Duration retry_paused = absl::Seconds(30);
  // ... and only when the data directory has at least this many bytes free.
  uint64_t min_free_bytes = 64u << 20;
  absl::Duration quantum = absl::Milliseconds(200);
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
  // which the next server takes it up. Waits for that. Thread-safe.
  void Stop();

 private:
  struct Run;

  void Loop();
  // Runs one claimed job to its end, a pause, or Stop().
  void RunOne(const JobRow& job);
  absl::Status Execute(const JobRow& job, Run* run);
  absl::Status RunTrainingJob(const JobRow& job, Run* run);
  absl::Status RunIndexingJob(const JobRow& job, Run* run);
  void Conclude(const JobRow& job, Run* run, const absl::Status& status);
  void RetryPausedJobs();

  JobQueue* const queue_;
  DeviceWorker* const device_;
  const JobRunnerOptions options_;
  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  Run* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Time next_retry_ = absl::InfinitePast();
  std::thread thread_;
};

}  // namespace featurescope
