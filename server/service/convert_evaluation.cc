// Evaluations between the contract and the core.
#include "server/base/status.h"
#include "server/service/convert.h"

namespace featurescope {

absl::StatusOr<EvaluationJob> FromProto(const v1::EvaluationSpec& spec) {
  EvaluationJob job;
  job.sae_id = spec.sae_id();
  job.corpus_id = spec.corpus_id();
  EvaluationSpec& evaluation = job.evaluation;
  ASSIGN_OR_RETURN(evaluation.part,
                   ParseEvaluationPart(spec.part().empty() ? "auto" : spec.part()));
  if (spec.max_tokens() > 0) evaluation.max_tokens = spec.max_tokens();
  evaluation.ablations = !spec.no_ablations();
  evaluation.special_tokens = spec.special_tokens();
  return job;
}

void ToProto(const EvaluationJob& job, v1::EvaluationSpec* out) {
  out->set_sae_id(job.sae_id);
  out->set_corpus_id(job.corpus_id);
  out->set_part(std::string(EvaluationPartName(job.evaluation.part)));
  out->set_max_tokens(job.evaluation.max_tokens);
  out->set_no_ablations(!job.evaluation.ablations);
  out->set_special_tokens(job.evaluation.special_tokens);
}

absl::Status ToProto(const EvaluationRow& row, v1::Evaluation* out) {
  ASSIGN_OR_RETURN(const EvaluationJob job, EvaluationJobFromJson(row.spec));
  ASSIGN_OR_RETURN(const EvaluationResult result, EvaluationResultFromJson(row.result));
  out->set_sae_id(row.sae_id);
  out->set_corpus_id(row.corpus_id);
  out->set_job_id(row.job_id);
  out->set_created(FormatTimestamp(row.created_ms));
  ToProto(job, out->mutable_spec());
  out->set_n_contexts(result.n_contexts);
  out->set_n_tokens(result.n_tokens);
  out->set_n_predicted(result.n_predicted);
  out->mutable_metrics()->insert(result.metrics.begin(), result.metrics.end());
  for (const auto& [name, histogram] : result.histograms) {
    v1::MetricHistogram& to = (*out->mutable_histograms())[name];
    to.mutable_edges()->Add(histogram.edges.begin(), histogram.edges.end());
    to.mutable_counts()->Add(histogram.counts.begin(), histogram.counts.end());
  }
  return absl::OkStatus();
}

void ToProto(const MetricDefinition& definition, v1::MetricDefinition* out) {
  const auto text = [](absl::string_view view) { return std::string(view); };
  out->set_name(text(definition.name));
  out->set_formula(text(definition.formula));
  out->set_meaning(text(definition.meaning));
}

}  // namespace featurescope
