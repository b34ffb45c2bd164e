// The durable queue of long jobs: submitting, looking, cancelling, watching.
//
// Submission validates all that can be known at once; an accepted job is on disk. JobRunner runs
// what is queued.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/catalog/catalog.h"
#include "server/jobs/caching_job.h"
#include "server/jobs/evaluation_job.h"
#include "server/jobs/spec_json.h"
#include "server/jobs/watch.h"

namespace featurescope {

// Thread-safe.
class JobQueue {
 public:
  // `catalog` must outlive the queue.
  explicit JobQueue(Catalog* catalog);
  ~JobQueue();

  // Answer once the job is on disk. The same key with the same specification gives the job that
  // exists.
  //   errors  NotFound            the model, SAE or corpus
  //           InvalidArgument     a field; the message names it with value and range (a training or
  //                               sweep: those of MakeTrainingPlan)
  //           FailedPrecondition  the corpus was made with another tokenizer; the SAE is for
  //           vectors
  //                               only
  //           AlreadyExists       the key with another specification; the new SAE's id is taken;
  //                               an unfinished job makes the same
  absl::StatusOr<JobRow> SubmitTraining(const TrainingJob& job, absl::string_view idempotency_key);
  absl::StatusOr<JobRow> SubmitSweep(const SweepJob& job, absl::string_view idempotency_key);
  absl::StatusOr<JobRow> SubmitIndexing(const IndexingJob& job, absl::string_view idempotency_key);
  absl::StatusOr<JobRow> SubmitEvaluation(const EvaluationJob& job,
                                          absl::string_view idempotency_key);
  // ResourceExhausted: the cache would not fit on the disk.
  absl::StatusOr<JobRow> SubmitCaching(const CachingJob& job, absl::string_view idempotency_key);
  // An empty id is made from the source; a model that is not named must be the only one.
  absl::StatusOr<JobRow> SubmitImport(ImportJob job, absl::string_view idempotency_key);

  absl::StatusOr<JobRow> Get(absl::string_view job_id) const;
  // The newest first; `page_size` 1 to 1000.
  absl::StatusOr<JobPage> List(absl::Span<const JobState> states, uint32_t page_size,
                               absl::string_view page_token) const;
  // A waiting job is cancelled at once, a running one at its next quantum.
  //   errors  NotFound; FailedPrecondition  it has finished
  absl::StatusOr<JobRow> Cancel(absl::string_view job_id);
  absl::StatusOr<std::vector<MetricRow>> Metrics(absl::string_view job_id,
                                                 uint32_t max_points) const;

  // What evaluations of the SAE have found, or of all (empty), the newest first.
  //   errors  NotFound  the SAE
  absl::StatusOr<std::vector<EvaluationRow>> Evaluations(absl::string_view sae_id) const;

  // Begins with the present state of each job in the filter (without ids: all unfinished ones and
  // the newest finished ones, JobWatcher::kMaxJobs at most).
  //   errors  NotFound  a job id of the filter
  absl::StatusOr<std::unique_ptr<JobWatcher>> Watch(const WatchFilter& filter) const;

  // Ends all watches; called once at shutdown.
  void Shutdown();

  // ---- for JobRunner.
  Catalog& catalog() { return *catalog_; }
  JobWatchers& watchers() { return *watchers_; }
  // Called when there is something to claim or to look at again, until RemoveWakeup of the same
  // runner.
  void AddWakeup(const void* runner, std::function<void()> wakeup);
  void RemoveWakeup(const void* runner);
  // While a job runs, Cancel() of it sets `cancel`.
  void RegisterRunning(const std::string& job_id, CancelToken cancel);
  void UnregisterRunning(const std::string& job_id);
  // Removes what a job that has ended leaves half done; see Catalog::EndJobFiles.
  void RemoveFilesOf(absl::string_view job_id) const;
  // Tells the watchers the job's present state.
  void PublishState(absl::string_view job_id) const;

 private:
  absl::Status CheckIndexing(const IndexingJob& job, std::string* model_id) const;
  absl::StatusOr<JobRow> SubmitTrainings(absl::Span<const TrainingJob> members,
                                         JobSubmission submission);
  absl::StatusOr<JobRow> Submit(const JobSubmission& submission);
  void Wake() const;

  Catalog* const catalog_;
  const std::unique_ptr<JobWatchers> watchers_;
  // Held while a state is read and told, so that watchers never go back in time.
  mutable absl::Mutex publish_mutex_;
  mutable absl::Mutex mutex_;
  std::map<const void*, std::function<void()>> wakeups_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, CancelToken> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace featurescope
