// Jobs and their specifications between the contract and the core.
#include "server/base/status.h"
#include "server/service/convert.h"
#include "server/service/training_spec.h"

namespace featurescope {
namespace {

template <typename T>
std::optional<T> Optional(bool has, T value) {
  return has ? std::optional<T>(value) : std::nullopt;
}

v1::JobState ToProto(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return v1::QUEUED;
    case JobState::kRunning:
      return v1::RUNNING;
    case JobState::kSucceeded:
      return v1::SUCCEEDED;
    case JobState::kFailed:
      return v1::FAILED;
    case JobState::kCancelled:
      return v1::CANCELLED;
    case JobState::kPaused:
      return v1::PAUSED;
  }
  return v1::JOB_STATE_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<JobState> FromProto(v1::JobState state) {
  switch (state) {
    case v1::QUEUED:
      return JobState::kQueued;
    case v1::RUNNING:
      return JobState::kRunning;
    case v1::SUCCEEDED:
      return JobState::kSucceeded;
    case v1::FAILED:
      return JobState::kFailed;
    case v1::CANCELLED:
      return JobState::kCancelled;
    case v1::PAUSED:
      return JobState::kPaused;
    default:
      return InvalidField("states", "states holds ", static_cast<int>(state),
                          ", which is no job state");
  }
}

IndexingJob FromProto(const v1::IndexingSpec& spec) {
  IndexingJob job;
  job.sae_id = spec.sae_id();
  job.corpus_id = spec.corpus_id();
  IndexSpec& indexing = job.indexing;
  indexing.max_tokens = spec.max_tokens();
  if (spec.top_examples() > 0) indexing.top_examples = spec.top_examples();
  if (spec.bands() > 0) indexing.bands = spec.bands();
  if (spec.examples_per_band() > 0) indexing.examples_per_band = spec.examples_per_band();
  if (spec.window() > 0) indexing.window = spec.window();
  indexing.seed = spec.seed();
  return job;
}

void ToProto(const IndexingJob& job, v1::IndexingSpec* out) {
  out->set_sae_id(job.sae_id);
  out->set_corpus_id(job.corpus_id);
  out->set_max_tokens(job.indexing.max_tokens);
  out->set_top_examples(job.indexing.top_examples);
  out->set_bands(job.indexing.bands);
  out->set_examples_per_band(job.indexing.examples_per_band);
  out->set_window(job.indexing.window);
  out->set_seed(job.indexing.seed);
}

absl::StatusOr<ImportJob> FromProto(const v1::ImportSpec& spec) {
  ImportJob job;
  switch (spec.what_case()) {
    case v1::ImportSpec::kModel: {
      const v1::ModelImport& model = spec.model();
      job.what = ImportOf::kModel;
      job.id = model.model_id();
      job.source = model.repo();
      job.revision = model.revision();
      job.include.assign(model.include().begin(), model.include().end());
      return job;
    }
    case v1::ImportSpec::kSae: {
      const v1::SaeImport& sae = spec.sae();
      job.what = ImportOf::kSae;
      job.id = sae.sae_id();
      job.source = sae.source();
      job.revision = sae.revision();
      job.include.assign(sae.include().begin(), sae.include().end());
      job.model_id = sae.model_id();
      job.hook_name = sae.hook_name();
      job.center_writing_weights =
          Optional(sae.has_center_writing_weights(), sae.center_writing_weights());
      job.any_width = sae.any_width();
      return job;
    }
    case v1::ImportSpec::WHAT_NOT_SET:
      break;
  }
  return InvalidField("spec", "spec names neither a model nor an SAE to import");
}

void ToProto(const ImportJob& job, v1::ImportSpec* out) {
  if (job.what == ImportOf::kModel) {
    v1::ModelImport* model = out->mutable_model();
    model->set_repo(job.source);
    model->set_revision(job.revision);
    for (const std::string& pattern : job.include) model->add_include(pattern);
    model->set_model_id(job.id);
    return;
  }
  v1::SaeImport* sae = out->mutable_sae();
  sae->set_source(job.source);
  sae->set_revision(job.revision);
  for (const std::string& pattern : job.include) sae->add_include(pattern);
  sae->set_sae_id(job.id);
  sae->set_model_id(job.model_id);
  sae->set_hook_name(job.hook_name);
  if (job.center_writing_weights) sae->set_center_writing_weights(*job.center_writing_weights);
  sae->set_any_width(job.any_width);
}

namespace {

void ToProto(const JobTransfer& transfer, v1::Transfer* out) {
  out->set_bytes_done(transfer.bytes_done);
  out->set_bytes_total(transfer.bytes_total);
  out->set_files_done(transfer.files_done);
  out->set_files_total(transfer.files_total);
  out->set_bytes_per_second(transfer.bytes_per_second);
}

}  // namespace

absl::Status ToProto(const JobRow& row, v1::Job* out) {
  out->set_id(row.id);
  out->set_state(ToProto(row.state));
  out->set_progress(row.progress);
  out->set_phase(row.phase);
  out->set_error(row.error);
  out->set_created(FormatTimestamp(row.created_ms));
  out->set_started(FormatTimestamp(row.started_ms));
  out->set_finished(FormatTimestamp(row.finished_ms));
  out->set_attempt(row.attempt);
  out->set_tokens_per_second(row.tokens_per_second);
  out->set_eta_seconds(row.eta_seconds);
  if (row.kind == kTrainingKind) {
    ASSIGN_OR_RETURN(const TrainingJob job, TrainingJobFromJson(row.spec));
    ToProto(job, out->mutable_training());
  } else if (row.kind == kSweepKind) {
    ASSIGN_OR_RETURN(const SweepJob job, SweepJobFromJson(row.spec));
    ToProto(job, out->mutable_sweep());
  } else if (row.kind == kIndexingKind) {
    ASSIGN_OR_RETURN(const IndexingJob job, IndexingJobFromJson(row.spec));
    ToProto(job, out->mutable_indexing());
  } else if (row.kind == kEvaluationKind) {
    ASSIGN_OR_RETURN(const EvaluationJob job, EvaluationJobFromJson(row.spec));
    ToProto(job, out->mutable_evaluation());
  } else if (row.kind == kCachingKind) {
    ASSIGN_OR_RETURN(const CachingJob job, CachingJobFromJson(row.spec));
    ToProto(job, out->mutable_caching());
    ToProto(row.transfer, out->mutable_transfer());
  } else if (row.kind == kImportKind) {
    ASSIGN_OR_RETURN(const ImportJob job, ImportJobFromJson(row.spec));
    ToProto(job, out->mutable_importing());
    ToProto(row.transfer, out->mutable_transfer());
  }
  return absl::OkStatus();
}

}  // namespace featurescope
