#include "server/jobs/job_queue.h"

#include <utility>

#include "server/base/hook_point.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/jobs/import_job.h"
#include "server/jobs/job_inputs.h"
#include "server/jobs/training_job.h"

namespace featurescope {

JobQueue::JobQueue(Catalog* catalog)
    : catalog_(catalog), watchers_(std::make_unique<JobWatchers>()) {
  RemoveIncompleteCaches(catalog_);
}

JobQueue::~JobQueue() = default;

absl::Status JobQueue::CheckIndexing(const IndexingJob& job, std::string* model_id) const {
  ASSIGN_OR_RETURN(const SaeRow sae, catalog_->GetSae(job.sae_id));
  if (sae.vectors_only) {
    return FailedPrecondition("SAE \"", sae.id,
                              "\" takes vectors only: its width is not its hook point's");
  }
  ASSIGN_OR_RETURN(const ModelRow model, catalog_->GetModel(sae.model_id));
  ASSIGN_OR_RETURN(const CorpusHandle corpus, catalog_->LoadedCorpus(job.corpus_id));
  RETURN_IF_ERROR(CheckTokenizer(corpus.row, model));
  if (corpus.row.context_size > model.n_ctx) {
    return FailedPrecondition("corpus \"", job.corpus_id, "\" has contexts of ",
                              corpus.row.context_size, " tokens; model \"", model.id,
                              "\" takes at most ", model.n_ctx);
  }
  *model_id = model.id;
  IndexSpec spec = job.indexing;
  return spec.Resolve(*corpus.tokens);
}

absl::StatusOr<JobRow> JobQueue::SubmitTraining(const TrainingJob& job,
                                                absl::string_view idempotency_key) {
  JobSubmission submission;
  submission.kind = kTrainingKind;
  submission.spec = ToJson(job);
  submission.idempotency_key = std::string(idempotency_key);
  return SubmitTrainings({&job, 1}, std::move(submission));
}

absl::StatusOr<JobRow> JobQueue::SubmitSweep(const SweepJob& job,
                                             absl::string_view idempotency_key) {
  JobSubmission submission;
  submission.kind = kSweepKind;
  submission.spec = ToJson(job);
  submission.idempotency_key = std::string(idempotency_key);
  return SubmitTrainings(job.members, std::move(submission));
}

absl::StatusOr<JobRow> JobQueue::SubmitTrainings(absl::Span<const TrainingJob> members,
                                                 JobSubmission submission) {
  // A repeated call finds its own job, and by then perhaps the SAEs that it made.
  ASSIGN_OR_RETURN(const std::optional<JobRow> submitted,
                   catalog_->state().FindSubmitted(submission));
  if (submitted) return *submitted;
  RETURN_IF_ERROR(MakeTrainingPlan(catalog_, members).status());
  for (const TrainingJob& member : members) {
    std::string target = absl::StrCat("sae:", member.sae_id);
    if (submission.target.empty()) {
      submission.target = std::move(target);
    } else {
      submission.more_targets.push_back(std::move(target));
    }
  }
  submission.uses = ResourcesOf(members[0]);
  return Submit(submission);
}

absl::StatusOr<JobRow> JobQueue::SubmitIndexing(const IndexingJob& job,
                                                absl::string_view idempotency_key) {
  JobSubmission submission;
  submission.kind = kIndexingKind;
  submission.spec = ToJson(job);
  submission.idempotency_key = std::string(idempotency_key);
  submission.target = absl::StrCat("index:", job.sae_id, "@", job.corpus_id);
  ASSIGN_OR_RETURN(const std::optional<JobRow> submitted,
                   catalog_->state().FindSubmitted(submission));
  if (submitted) return *submitted;
  std::string model_id;
  RETURN_IF_ERROR(CheckIndexing(job, &model_id));
  submission.uses = {absl::StrCat("sae:", job.sae_id), absl::StrCat("corpus:", job.corpus_id),
                     absl::StrCat("model:", model_id)};
  return Submit(submission);
}

absl::StatusOr<JobRow> JobQueue::SubmitEvaluation(const EvaluationJob& job,
                                                  absl::string_view idempotency_key) {
  JobSubmission submission;
  submission.kind = kEvaluationKind;
  submission.spec = ToJson(job);
  submission.idempotency_key = std::string(idempotency_key);
  ASSIGN_OR_RETURN(const std::optional<JobRow> submitted,
                   catalog_->state().FindSubmitted(submission));
  if (submitted) return *submitted;
  std::string model_id;
  RETURN_IF_ERROR(CheckEvaluation(catalog_, job, &model_id));
  ASSIGN_OR_RETURN(const ModelRow model, catalog_->GetModel(model_id));
  ASSIGN_OR_RETURN(const CorpusRow corpus, catalog_->GetCorpus(job.corpus_id));
  RETURN_IF_ERROR(CheckTokenizer(corpus, model));
  submission.uses = {absl::StrCat("sae:", job.sae_id), absl::StrCat("corpus:", job.corpus_id),
                     absl::StrCat("model:", model_id)};
  return Submit(submission);
}

absl::StatusOr<JobRow> JobQueue::SubmitCaching(const CachingJob& job,
                                               absl::string_view idempotency_key) {
  JobSubmission submission;
  submission.kind = kCachingKind;
  submission.spec = ToJson(job);
  submission.idempotency_key = std::string(idempotency_key);
  submission.target = absl::StrCat("cache:", job.cache_id);
  ASSIGN_OR_RETURN(const std::optional<JobRow> submitted,
                   catalog_->state().FindSubmitted(submission));
  if (submitted) return *submitted;
  ASSIGN_OR_RETURN(const ModelRow model, catalog_->GetModel(job.model_id));
  ASSIGN_OR_RETURN(const CorpusRow corpus, catalog_->GetCorpus(job.corpus_id));
  RETURN_IF_ERROR(CheckTokenizer(corpus, model));
  RETURN_IF_ERROR(CheckCaching(catalog_, job));
  submission.uses = {absl::StrCat("model:", job.model_id), absl::StrCat("corpus:", job.corpus_id)};
  return Submit(submission);
}

absl::StatusOr<JobRow> JobQueue::SubmitImport(ImportJob job, absl::string_view idempotency_key) {
  if (job.id.empty()) job.id = DefaultImportId(job);
  const bool is_model = job.what == ImportOf::kModel;
  JobSubmission submission;
  submission.kind = kImportKind;
  submission.spec = ToJson(job);
  submission.idempotency_key = std::string(idempotency_key);
  submission.target = absl::StrCat(is_model ? "model:" : "sae:", job.id);
  if (!job.model_id.empty()) submission.uses = {absl::StrCat("model:", job.model_id)};
  ASSIGN_OR_RETURN(const std::optional<JobRow> submitted,
                   catalog_->state().FindSubmitted(submission));
  if (submitted) return *submitted;
  RETURN_IF_ERROR(CheckImport(job));
  if (!job.model_id.empty()) RETURN_IF_ERROR(catalog_->GetModel(job.model_id).status());
  if (!job.hook_name.empty()) RETURN_IF_ERROR(HookPoint::Parse(job.hook_name).status());
  return Submit(submission);
}

absl::StatusOr<JobRow> JobQueue::Submit(const JobSubmission& submission) {
  constexpr size_t kMaxKey = 256;
  if (submission.idempotency_key.size() > kMaxKey) {
    return InvalidArgument("the idempotency key has ", submission.idempotency_key.size(),
                           " bytes, at most ", kMaxKey, " are possible");
  }
  ASSIGN_OR_RETURN(JobRow job, catalog_->state().SubmitJob(submission));
  PublishState(job.id);
  Wake();
  return job;
}

absl::StatusOr<JobRow> JobQueue::Get(absl::string_view job_id) const {
  return catalog_->state().GetJob(job_id);
}

absl::StatusOr<JobPage> JobQueue::List(absl::Span<const JobState> states, uint32_t page_size,
                                       absl::string_view page_token) const {
  return catalog_->state().ListJobs(states, page_size, page_token);
}

absl::StatusOr<JobRow> JobQueue::Cancel(absl::string_view job_id) {
  ASSIGN_OR_RETURN(JobRow job, catalog_->state().RequestCancel(job_id));
  {
    absl::MutexLock lock(&mutex_);
    const auto it = running_.find(job.id);
    if (it != running_.end()) it->second.Cancel();
  }
  if (IsFinal(job.state)) RemoveFilesOf(job.id);
  PublishState(job.id);
  Wake();
  return job;
}

absl::StatusOr<std::vector<MetricRow>> JobQueue::Metrics(absl::string_view job_id,
                                                         uint32_t max_points) const {
  return catalog_->state().GetMetrics(job_id, max_points);
}

absl::StatusOr<std::vector<EvaluationRow>> JobQueue::Evaluations(absl::string_view sae_id) const {
  if (!sae_id.empty()) RETURN_IF_ERROR(catalog_->GetSae(sae_id).status());
  return catalog_->state().ListEvaluations(sae_id);
}

absl::StatusOr<std::unique_ptr<JobWatcher>> JobQueue::Watch(const WatchFilter& filter) const {
  constexpr uint32_t kNewest = 1000;
  if (filter.job_ids.size() > JobWatcher::kMaxJobs) {
    return InvalidArgument(filter.job_ids.size(), " job ids, at most ", JobWatcher::kMaxJobs,
                           " are possible");
  }
  absl::MutexLock lock(&publish_mutex_);
  std::vector<JobRow> present;
  if (filter.job_ids.empty()) {
    ASSIGN_OR_RETURN(JobPage newest, catalog_->state().ListJobs({}, kNewest, ""));
    // The oldest first, as they happened.
    present.assign(std::make_move_iterator(newest.jobs.rbegin()),
                   std::make_move_iterator(newest.jobs.rend()));
  }
  for (const std::string& id : filter.job_ids) {
    ASSIGN_OR_RETURN(present.emplace_back(), catalog_->state().GetJob(id));
  }
  return watchers_->Watch(filter, present);
}

void JobQueue::Shutdown() { watchers_->Close(); }

void JobQueue::AddWakeup(const void* runner, std::function<void()> wakeup) {
  absl::MutexLock lock(&mutex_);
  wakeups_[runner] = std::move(wakeup);
}

void JobQueue::RemoveWakeup(const void* runner) {
  absl::MutexLock lock(&mutex_);
  wakeups_.erase(runner);
}

void JobQueue::Wake() const {
  absl::MutexLock lock(&mutex_);
  for (const auto& [runner, wakeup] : wakeups_) wakeup();
}

void JobQueue::RegisterRunning(const std::string& job_id, CancelToken cancel) {
  absl::MutexLock lock(&mutex_);
  running_[job_id] = std::move(cancel);
}

void JobQueue::UnregisterRunning(const std::string& job_id) {
  absl::MutexLock lock(&mutex_);
  running_.erase(job_id);
}

void JobQueue::RemoveFilesOf(absl::string_view job_id) const {
  catalog_->EndJobFiles(job_id);
  RemoveIncompleteCaches(catalog_);
}

void JobQueue::PublishState(absl::string_view job_id) const {
  absl::MutexLock lock(&publish_mutex_);
  const auto job = catalog_->state().GetJob(job_id);
  if (job.ok()) {
    watchers_->Publish(*job);
  } else {
    LogWarning("job ", job_id, ": ", job.status().ToString());
  }
}

}  // namespace featurescope
