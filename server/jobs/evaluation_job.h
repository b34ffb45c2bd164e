// The evaluation job: measures an SAE on a corpus and stores what it found.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/catalog/catalog.h"
#include "server/engine/run_context.h"
#include "server/explore/evaluation.h"
#include "server/store/state_db.h"

namespace featurescope {

constexpr char kEvaluationKind[] = "evaluation";

struct EvaluationJob {
  std::string sae_id;
  std::string corpus_id;
  EvaluationSpec evaluation;
};

// auto, heldout, all.
absl::string_view EvaluationPartName(EvaluationPart part);
//   errors  InvalidArgument  naming the field `part`
absl::StatusOr<EvaluationPart> ParseEvaluationPart(absl::string_view name);

// As in spec_json.h.
std::string ToJson(const EvaluationJob& job);
absl::StatusOr<EvaluationJob> EvaluationJobFromJson(absl::string_view json);

// What is stored of a result: all of it but numbers that are not finite.
std::string ToJson(const EvaluationResult& result);
//   errors  InvalidArgument  naming the field
absl::StatusOr<EvaluationResult> EvaluationResultFromJson(absl::string_view json);

// What can be said of the job before anything is loaded but the corpus. `model_id` gets the SAE's
// model.
//
//   errors  NotFound            the SAE or the corpus
//           FailedPrecondition  the SAE takes vectors only; the corpus has longer contexts than the
//                               model takes, or holds nothing out where that is asked for
//           InvalidArgument     max_tokens
absl::Status CheckEvaluation(Catalog* catalog, const EvaluationJob& job, std::string* model_id);

// Runs the evaluation of `row`, which the caller has claimed, and stores its result. What a run
// before a crash has stored is not done again.
//   errors  those of Evaluate and of loading; Aborted  the lease is lost
absl::Status RunEvaluationJob(Catalog* catalog, const JobRow& row, const RunContext& context);

}  // namespace featurescope
