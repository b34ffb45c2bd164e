// evaluate, evaluation: how good an SAE is on a corpus.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/evaluation_text.h"
#include "client/cli/job_text.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::JobService;

absl::StatusOr<v1::ListEvaluationsResponse> EvaluationsOf(CommandContext& context,
                                                          const std::string& sae_id) {
  v1::ListEvaluationsRequest request;
  request.set_sae_id(sae_id);
  v1::ListEvaluationsResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::ListEvaluations,
                                      request, &response));
  return response;
}

absl::Status Evaluate(const Args& args, CommandContext& context) {
  v1::SubmitEvaluationRequest request;
  v1::EvaluationSpec& spec = *request.mutable_spec();
  spec.set_sae_id(args.Get("sae"));
  spec.set_corpus_id(args.Get("corpus"));
  spec.set_part(args.Get("part"));
  ASSIGN_OR_RETURN(const uint64_t tokens, args.Integer("tokens", 0, UINT64_MAX));
  spec.set_max_tokens(tokens);
  spec.set_no_ablations(args.Has("no-ablations"));
  spec.set_special_tokens(args.Has("special-tokens"));
  request.set_idempotency_key(args.Get("idempotency-key"));
  v1::Job job;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::SubmitEvaluation,
                                      request, &job, absl::Minutes(30)));
  if (!args.Has("wait")) return AfterSubmission(args, context, job);
  ASSIGN_OR_RETURN(job, WaitForJob(context, job.id()));
  ASSIGN_OR_RETURN(const v1::ListEvaluationsResponse response,
                   EvaluationsOf(context, spec.sae_id()));
  for (const v1::Evaluation& evaluation : response.evaluations()) {
    if (evaluation.job_id() != job.id()) continue;
    PrintAnswer(context, evaluation, EvaluationTable(context.terminal, evaluation, response));
    return absl::OkStatus();
  }
  return NotFound("job ", job.id(), " has ended, but its result is not there: the SAE ",
                  spec.sae_id(), " may have been deleted");
}

absl::Status ListEvaluations(const Args& args, CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::ListEvaluationsResponse response,
                   EvaluationsOf(context, args.Get("sae")));
  constexpr const char* kShown[] = {"l0",     "explained_variance", "dead_share", "ce_clean",
                                    "ce_sae", "ce_loss_recovered",  "kl_sae"};
  std::vector<std::string> header = {"SAE", "corpus", "tokens"};
  header.insert(header.end(), std::begin(kShown), std::end(kShown));
  header.emplace_back("when");
  std::vector<std::vector<std::string>> rows;
  for (const v1::Evaluation& evaluation : response.evaluations()) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {evaluation.sae_id(), evaluation.corpus_id(), absl::StrCat(evaluation.n_tokens())};
    for (const char* name : kShown) {
      const auto found = evaluation.metrics().find(name);
      row.push_back(found == evaluation.metrics().end() ? "-" : FormatNumber(found->second));
    }
    row.push_back(evaluation.created());
  }
  PrintAnswer(context, response, FormatTable(context.terminal, header, rows));
  return absl::OkStatus();
}

}  // namespace

std::vector<Command> EvaluationCommands() {
  return {
      {"evaluate",
       "",
       "Measures an SAE on a corpus, as a job: reconstruction, features, and what the model still "
       "predicts.",
       {},
       {{"sae", "ID", "the SAE", true},
        {"corpus", "ID", "the corpus", true},
        {"part", "PART", "heldout, all, or auto: what is held out, where something is (default)"},
        {"tokens", "N", "at most that many, in whole contexts (default: 65536)"},
        {"no-ablations", "",
         "leave out the passes with zero and the mean in place of the activation"},
        {"special-tokens", "", "count and replace special tokens, too"},
        {"idempotency-key", "KEY", "submitting twice with one key makes one job"},
        {"wait", "", "wait for the end and show the numbers with their definitions"}},
       Evaluate},
      {"evaluation",
       "list",
       "Lists what was measured, the newest first.",
       {},
       {{"sae", "ID", "only of this SAE"}},
       ListEvaluations},
  };
}

}  // namespace featurescope
