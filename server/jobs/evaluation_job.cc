#include "server/jobs/evaluation_job.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/jobs/job_inputs.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr char kSpecification[] = "job specification";
constexpr char kResult[] = "stored evaluation";
constexpr uint64_t kMostTokens = 1ull << 32;

std::string Text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The numbers of an array.
template <typename T>
absl::Status ReadNumbers(const Json& histogram, const char* key, std::vector<T>* out) {
  const Json* array = JsonFind(histogram, key);
  if (array == nullptr || !array->is_array()) {
    return InvalidArgument(kResult, ": field ", key, " is no array");
  }
  for (const Json& number : *array) {
    const bool fits =
        std::is_floating_point_v<T> ? number.is_number() : number.is_number_unsigned();
    if (!fits) return InvalidArgument(kResult, ": field ", key, " holds ", Text(number));
    out->push_back(number.get<T>());
  }
  return absl::OkStatus();
}

absl::StatusOr<EvaluationInputs> LoadEvaluationInputs(Catalog* catalog, const EvaluationJob& job) {
  ASSIGN_OR_RETURN(const SaeRow sae, catalog->GetSae(job.sae_id));
  ASSIGN_OR_RETURN(const ModelRow model, catalog->GetModel(sae.model_id));
  EvaluationInputs inputs;
  inputs.sae_id = sae.id;
  ASSIGN_OR_RETURN(inputs.hook, HookPoint::Parse(sae.hook_name));
  ASSIGN_OR_RETURN(inputs.hook_out, HookPoint::Parse(sae.hook_name_out));
  inputs.center_writing_weights = sae.center_writing_weights;
  ASSIGN_OR_RETURN(inputs.model, catalog->LoadedModel(sae.model_id));
  ASSIGN_OR_RETURN(inputs.sae, catalog->LoadedSae(sae.id));
  ASSIGN_OR_RETURN(CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  inputs.corpus = std::move(corpus.tokens);
  ASSIGN_OR_RETURN(inputs.special_tokens, SpecialTokensOf(catalog, model, *inputs.model));
  return inputs;
}

}  // namespace

absl::string_view EvaluationPartName(EvaluationPart part) {
  switch (part) {
    case EvaluationPart::kHeldOut:
      return "heldout";
    case EvaluationPart::kAll:
      return "all";
    case EvaluationPart::kAuto:
      break;
  }
  return "auto";
}

absl::StatusOr<EvaluationPart> ParseEvaluationPart(absl::string_view name) {
  for (const EvaluationPart part :
       {EvaluationPart::kAuto, EvaluationPart::kHeldOut, EvaluationPart::kAll}) {
    if (EvaluationPartName(part) == name) return part;
  }
  return InvalidField("part", "part is \"", name, "\", it must be auto, heldout or all");
}

std::string ToJson(const EvaluationJob& job) {
  return Text({{"sae_id", job.sae_id},
               {"corpus_id", job.corpus_id},
               {"part", std::string(EvaluationPartName(job.evaluation.part))},
               {"max_tokens", job.evaluation.max_tokens},
               {"ablations", job.evaluation.ablations},
               {"special_tokens", job.evaluation.special_tokens}});
}

absl::StatusOr<EvaluationJob> EvaluationJobFromJson(absl::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, kSpecification));
  EvaluationJob job;
  EvaluationSpec& spec = job.evaluation;
  ASSIGN_OR_RETURN(job.sae_id, JsonString(json, "sae_id", kSpecification));
  ASSIGN_OR_RETURN(job.corpus_id, JsonString(json, "corpus_id", kSpecification));
  ASSIGN_OR_RETURN(const std::string part, JsonStringOr(json, "part", kSpecification, "auto"));
  ASSIGN_OR_RETURN(spec.part, ParseEvaluationPart(part));
  ASSIGN_OR_RETURN(const int64_t max_tokens,
                   JsonIntOr(json, "max_tokens", kSpecification,
                             static_cast<int64_t>(spec.max_tokens), 1, int64_t{kMostTokens}));
  spec.max_tokens = static_cast<uint64_t>(max_tokens);
  ASSIGN_OR_RETURN(spec.ablations, JsonBoolOr(json, "ablations", kSpecification, spec.ablations));
  ASSIGN_OR_RETURN(spec.special_tokens,
                   JsonBoolOr(json, "special_tokens", kSpecification, spec.special_tokens));
  return job;
}

std::string ToJson(const EvaluationResult& result) {
  Json json = {{"n_contexts", result.n_contexts},
               {"n_tokens", result.n_tokens},
               {"n_predicted", result.n_predicted},
               {"metrics", Json::object()},
               {"histograms", Json::object()}};
  for (const auto& [name, value] : result.metrics) {
    if (std::isfinite(value)) json["metrics"][name] = value;
  }
  for (const auto& [name, histogram] : result.histograms) {
    json["histograms"][name] = {{"edges", histogram.edges}, {"counts", histogram.counts}};
  }
  return Text(json);
}

absl::StatusOr<EvaluationResult> EvaluationResultFromJson(absl::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, kResult));
  EvaluationResult result;
  const auto count = [&json](const char* key) -> absl::StatusOr<uint64_t> {
    ASSIGN_OR_RETURN(const int64_t value, JsonInt(json, key, kResult, 0));
    return static_cast<uint64_t>(value);
  };
  ASSIGN_OR_RETURN(result.n_contexts, count("n_contexts"));
  ASSIGN_OR_RETURN(result.n_tokens, count("n_tokens"));
  ASSIGN_OR_RETURN(result.n_predicted, count("n_predicted"));
  const Json* metrics = JsonFind(json, "metrics");
  const Json* histograms = JsonFind(json, "histograms");
  if (metrics == nullptr || !metrics->is_object() || histograms == nullptr ||
      !histograms->is_object()) {
    return InvalidArgument(kResult, ": metrics or histograms are missing");
  }
  for (const auto& [name, value] : metrics->items()) {
    ASSIGN_OR_RETURN(result.metrics[name], JsonFloat(*metrics, name, kResult));
  }
  for (const auto& [name, value] : histograms->items()) {
    MetricHistogram& histogram = result.histograms[name];
    RETURN_IF_ERROR(ReadNumbers(value, "edges", &histogram.edges));
    RETURN_IF_ERROR(ReadNumbers(value, "counts", &histogram.counts));
  }
  return result;
}

absl::Status CheckEvaluation(Catalog* catalog, const EvaluationJob& job, std::string* model_id) {
  ASSIGN_OR_RETURN(const SaeRow sae, catalog->GetSae(job.sae_id));
  if (sae.vectors_only) {
    return FailedPrecondition("SAE \"", sae.id,
                              "\" takes vectors only: its width is not its hook point's");
  }
  ASSIGN_OR_RETURN(const ModelRow model, catalog->GetModel(sae.model_id));
  ASSIGN_OR_RETURN(const CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  if (corpus.row.context_size > model.n_ctx) {
    return FailedPrecondition("corpus \"", job.corpus_id, "\" has contexts of ",
                              corpus.row.context_size, " tokens; model \"", model.id,
                              "\" takes at most ", model.n_ctx);
  }
  const EvaluationSpec& spec = job.evaluation;
  if (spec.max_tokens < 1 || spec.max_tokens > kMostTokens) {
    return InvalidField("max_tokens", "max_tokens is ", spec.max_tokens, ", it must be in [1, ",
                        kMostTokens, "]");
  }
  if (spec.part == EvaluationPart::kHeldOut && corpus.row.n_heldout_contexts == 0) {
    return FailedPrecondition("corpus \"", job.corpus_id,
                              "\" holds nothing out: add it again with a holdout, or evaluate on "
                              "all of it");
  }
  *model_id = model.id;
  return absl::OkStatus();
}

absl::Status RunEvaluationJob(Catalog* catalog, const JobRow& row, const RunContext& context) {
  ASSIGN_OR_RETURN(const EvaluationJob job, EvaluationJobFromJson(row.spec));
  ASSIGN_OR_RETURN(const bool stored, catalog->state().HasEvaluation(row.id));
  if (stored) return absl::OkStatus();
  ASSIGN_OR_RETURN(const EvaluationInputs inputs, LoadEvaluationInputs(catalog, job));
  ASSIGN_OR_RETURN(const EvaluationResult result, Evaluate(inputs, job.evaluation, context));
  EvaluationRow found;
  found.job_id = row.id;
  found.sae_id = job.sae_id;
  found.corpus_id = job.corpus_id;
  found.spec = row.spec;
  found.result = ToJson(result);
  return catalog->state().AddEvaluation(found, row.lease_epoch);
}

}  // namespace featurescope
