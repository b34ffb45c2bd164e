#include "server/jobs/job_runner.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/catalog/staging.h"
#include "server/engine/run_context.h"
#include "server/formats/file.h"
#include "server/jobs/caching_job.h"
#include "server/jobs/evaluation_job.h"
#include "server/jobs/import_job.h"
#include "server/jobs/job_inputs.h"
#include "server/jobs/job_report.h"
#include "server/jobs/training_job.h"

namespace featurescope {
namespace {

constexpr absl::Duration kRetryDatabase = absl::Seconds(1);

uint64_t FreeBytes(const std::string& dir) {
  struct statvfs info;
  if (::statvfs(dir.c_str(), &info) != 0) return std::numeric_limits<uint64_t>::max();
  return uint64_t{info.f_bavail} * info.f_frsize;
}

// Whether the status says that something outside is used up that may come back: room on the disk,
// the memory budget, or a hub's patience. A device that is too small stays so.
bool MayPass(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return false;
  for (const char* sign : {"No space left on device", "Disk quota exceeded", "no room on the disk",
                           "of the budget of", "are free there", "limits the rate of requests"}) {
    if (absl::StrContains(status.message(), sign)) return true;
  }
  return false;
}

absl::Status RunIndexingJob(Catalog* catalog, const JobRow& job, const RunContext& context) {
  ASSIGN_OR_RETURN(const IndexingJob indexing, IndexingJobFromJson(job.spec));
  ASSIGN_OR_RETURN(const IndexInputs inputs, LoadIndexInputs(catalog, indexing));
  return RunIndexing(inputs, indexing.indexing, context,
                     catalog->IndexPath(indexing.sae_id, indexing.corpus_id));
}

}  // namespace

JobRunner::JobRunner(JobQueue* queue, DeviceWorker* device, const JobRunnerOptions& options)
    : queue_(queue), device_(device), options_(options) {
  queue_->AddWakeup(this, [this] {
    absl::MutexLock lock(&mutex_);
    woken_ = true;
  });
  thread_ = std::thread([this] { Loop(); });
}

JobRunner::~JobRunner() { Stop(); }

void JobRunner::Stop() {
  absl::call_once(stop_once_, [this] {
    queue_->RemoveWakeup(this);
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      current_.Cancel();
    }
    thread_.join();
  });
}

bool JobRunner::Sleep(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  return !mutex_.AwaitWithTimeout(absl::Condition(&stopping_), duration);
}

void JobRunner::Loop() {
  next_retry_ = absl::Now() + options_.retry_paused;
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this]()
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || woken_; };
      mutex_.AwaitWithDeadline(absl::Condition(&ready), next_retry_);
      if (stopping_) return;
      woken_ = false;
    }
    if (absl::Now() >= next_retry_) {
      RetryPausedJobs();
      next_retry_ = absl::Now() + options_.retry_paused;
    }
    while (true) {
      const auto job = queue_->catalog().state().ClaimJob(options_.kinds);
      if (!job.ok()) {
        LogError("no job can be claimed: ", job.status().ToString());
        if (!Sleep(kRetryDatabase)) return;
        continue;
      }
      if (!job->has_value()) break;
      RunOne(**job);
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
    }
  }
}

void JobRunner::RunOne(const JobRow& job) {
  Catalog& catalog = queue_->catalog();
  const CancelToken cancel;
  {
    absl::MutexLock lock(&mutex_);
    current_ = cancel;
    if (stopping_) cancel.Cancel();
  }
  queue_->RegisterRunning(job.id, cancel);
  // A cancellation that came between the claim and here.
  if (const auto now = catalog.state().GetJob(job.id); now.ok() && now->cancel_requested) {
    cancel.Cancel();
  }
  queue_->PublishState(job.id);
  LogInfo("job ", job.id, " (", job.kind, "), attempt ", job.attempt, ": begins");

  absl::Status status = EnsureDir(catalog.JobDir(job.id));
  {
    JobReport report(queue_, job, cancel, options_.write_interval, options_.heartbeat);
    RunContext context;
    context.device = device_;
    context.cancel = cancel;
    context.work_dir = JoinPath(catalog.JobDir(job.id), "work");
    context.quantum = options_.quantum;
    context.on_progress = [&report](const RunProgress& progress) { report.OnProgress(progress); };
    context.on_metrics = [&report](const RunMetrics& metrics) { report.OnMetrics(metrics); };
    if (status.ok()) status = EnsureDir(context.work_dir);
    if (status.ok()) status = cancel.Check();
    if (status.ok() && job.kind == kTrainingKind) {
      status = RunTrainingJob(&catalog, job, context);
    } else if (status.ok() && job.kind == kSweepKind) {
      status = RunSweepJob(&catalog, job, context);
    } else if (status.ok() && job.kind == kIndexingKind) {
      status = RunIndexingJob(&catalog, job, context);
    } else if (status.ok() && job.kind == kEvaluationKind) {
      status = RunEvaluationJob(&catalog, job, context);
    } else if (status.ok() && job.kind == kCachingKind) {
      status = RunCachingJob(
          &catalog, job, context,
          [&report](const RunProgress& p, const JobTransfer& t) { report.OnProgress(p, t); });
    } else if (status.ok() && job.kind == kImportKind) {
      const absl::StatusOr<ImportJob> import = ImportJobFromJson(job.spec);
      status = import.ok() ? RunImport(&catalog, options_.hub, *import, cancel, &report)
                           : import.status();
    } else if (status.ok()) {
      status = Internal("a job of the unknown kind \"", job.kind, "\"");
    }
    report.Finish();
  }
  queue_->UnregisterRunning(job.id);
  while (!Conclude(job, status) && Sleep(kRetryDatabase)) {
  }
  queue_->PublishState(job.id);
}

bool JobRunner::Conclude(const JobRow& job, const absl::Status& status) {
  StateDb& state = queue_->catalog().state();
  const auto now = state.GetJob(job.id);
  const bool cancelled = now.ok() && now->cancel_requested;
  bool stopping = false;
  {
    absl::MutexLock lock(&mutex_);
    stopping = stopping_;
  }
  absl::Status written;
  JobState end = JobState::kSucceeded;
  if (status.ok()) {
    written = state.FinishJob(job.id, job.lease_epoch, end, "");
  } else if (cancelled && absl::IsCancelled(status)) {
    end = JobState::kCancelled;
    written = state.FinishJob(job.id, job.lease_epoch, end, "");
  } else if (stopping && (absl::IsCancelled(status) || absl::IsUnavailable(status))) {
    end = JobState::kQueued;
    written = state.ReleaseJob(job.id, job.lease_epoch, end, "");
  } else if (MayPass(status) || absl::IsUnavailable(status)) {
    end = JobState::kPaused;
    written = state.ReleaseJob(job.id, job.lease_epoch, end, status.message());
  } else {
    end = JobState::kFailed;
    written = state.FinishJob(job.id, job.lease_epoch, end, status.message());
  }
  if (absl::IsAborted(written)) {
    LogWarning(written.message(), "; its result is not recorded");
    return true;
  }
  if (!written.ok()) {
    LogError("job ", job.id, ": its end is not recorded yet: ", written.ToString());
    return false;
  }
  LogInfo("job ", job.id, ": ", JobStateName(end), status.ok() ? "" : ": ", status.message());
  // However long it ran before: what it lacks does not come back in the same moment.
  if (end == JobState::kPaused) next_retry_ = absl::Now() + options_.retry_paused;
  // A released job may have been cancelled meanwhile.
  const auto ended = state.GetJob(job.id);
  if (ended.ok() && IsFinal(ended->state)) queue_->RemoveFilesOf(job.id);
  return true;
}

void JobRunner::RetryPausedJobs() {
  Catalog& catalog = queue_->catalog();
  const auto jobs = catalog.state().UnfinishedJobs();
  if (!jobs.ok() || FreeBytes(catalog.data_dir()) < options_.min_free_bytes) return;
  for (const JobRow& job : *jobs) {
    const bool mine =
        options_.kinds.empty() ||
        std::find(options_.kinds.begin(), options_.kinds.end(), job.kind) != options_.kinds.end();
    if (job.state != JobState::kPaused || !mine) continue;
    const absl::Status status = catalog.state().ResumeJob(job.id);
    if (status.ok()) queue_->PublishState(job.id);
  }
}

}  // namespace featurescope
