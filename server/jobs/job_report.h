// What a running job has to say, on its way to the database and to watchers.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/cancel.h"
#include "server/engine/run_context.h"
#include "server/jobs/job_queue.h"
#include "server/jobs/tensorboard_log.h"

namespace featurescope {

// Takes progress and metrics from the run's thread without delay and writes them on a thread of its
// own, a few times a second, metrics to TensorBoard's event files, too; renews the job's lease on
// the way. A lost lease cancels the run.
class JobReport {
 public:
  // `queue` must outlive the report.
  JobReport(JobQueue* queue, const JobRow& job, CancelToken cancel, absl::Duration write_interval,
            absl::Duration heartbeat);
  // Finish().
  ~JobReport();

  // `transfer` of jobs that move bytes.
  void OnProgress(const RunProgress& progress, const JobTransfer& transfer = {});
  void OnMetrics(const RunMetrics& metrics);
  // `fraction` 0 to 1.
  void OnTransfer(double fraction, const std::string& phase, const JobTransfer& transfer);
  // Writes what is left and ends.
  void Finish();

 private:
  void Loop();
  void Write();
  void WriteMetrics(std::vector<MetricRow> points);

  JobQueue* const queue_;
  const std::string job_id_;
  const int64_t lease_epoch_;
  const CancelToken cancel_;
  const absl::Duration write_interval_;
  const absl::Duration heartbeat_;
  absl::Time last_write_;  // of the report's own thread
  TensorBoardLog events_;  // likewise

  absl::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  JobProgress progress_ ABSL_GUARDED_BY(mutex_);
  // The first progress that was told, for runs that tell no rate.
  absl::Time first_time_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  double first_progress_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<MetricRow> points_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_values_ ABSL_GUARDED_BY(mutex_) = 0;  // in points_
  std::thread thread_;
};

}  // namespace featurescope
