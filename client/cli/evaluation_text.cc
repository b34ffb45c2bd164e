#include "client/cli/evaluation_text.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace featurescope {

std::string EvaluationTable(const Terminal& terminal, const v1::Evaluation& evaluation,
                            const v1::ListEvaluationsResponse& response) {
  std::vector<std::vector<std::string>> rows;
  for (const v1::MetricDefinition& definition : response.definitions()) {
    const auto found = evaluation.metrics().find(definition.name());
    if (found == evaluation.metrics().end()) continue;
    rows.push_back({definition.name(), FormatNumber(found->second), definition.formula()});
  }
  return absl::StrCat(
      absl::StrFormat("SAE %s on %s: %d tokens of %d contexts\n", evaluation.sae_id(),
                      evaluation.corpus_id(), evaluation.n_tokens(), evaluation.n_contexts()),
      FormatTable(terminal, {"metric", "value", "definition"}, rows),
      "y: what the SAE is to reproduce, y_hat: its output, f: its activations, m: the mean of y, "
      "d: the width\n");
}

std::string EvaluationLine(const v1::Evaluation& evaluation) {
  std::vector<std::string> parts;
  for (const auto& [name, label] : std::vector<std::pair<std::string, std::string>>{
           {"l0", "L0"},
           {"explained_variance", "explained variance"},
           {"ce_loss_recovered", "CE recovered"},
           {"kl_sae", "KL"}}) {
    const auto found = evaluation.metrics().find(name);
    if (found == evaluation.metrics().end()) continue;
    parts.push_back(absl::StrCat(label, " ", FormatNumber(found->second, 3)));
  }
  return absl::StrFormat("on %s (%d tokens): %s", evaluation.corpus_id(), evaluation.n_tokens(),
                         absl::StrJoin(parts, ", "));
}

}  // namespace featurescope
