#include "client/cli/training_text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/commands.h"
#include "client/cli/training_fields.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::JobService;

constexpr double kGib = 1024.0 * 1024 * 1024;
constexpr char kHeldOut[] = "heldout_";

using Fields = std::map<std::string, std::string>;

// NaN where it was not measured.
double MetricOf(const TrainedSae& sae, const std::string& name) {
  const auto found = sae.metrics.find(name);
  return found == sae.metrics.end() ? NAN : found->second;
}

std::string NumberText(double value) { return std::isnan(value) ? "-" : FormatNumber(value); }

std::string ShareText(double value) {
  return std::isnan(value) ? "-" : absl::StrFormat("%.1f%%", 100 * value);
}

// What one SAE came to, in a line; the loss and dead features are always those of training.
std::string MetricsLine(const TrainedSae& sae) {
  std::string line = sae.held_out ? "held-out tokens: " : "last steps: ";
  std::vector<std::string> parts;
  // Not the squared error: that of training is of scaled inputs, and summed.
  for (const auto& [name, label] : std::vector<std::pair<std::string, std::string>>{
           {"l0", "L0"}, {"explained_variance", "explained variance"}, {"cosine", "cosine"}}) {
    if (sae.metrics.contains(name)) {
      parts.push_back(absl::StrCat(label, " ", NumberText(MetricOf(sae, name))));
    }
  }
  return absl::StrCat(line, absl::StrJoin(parts, ", "), "; training: loss ",
                      NumberText(MetricOf(sae, "loss")), ", dead ",
                      ShareText(MetricOf(sae, "dead_share")));
}

}  // namespace

std::string SpecsText(const Terminal& terminal, const std::vector<v1::TrainingSpec>& specs,
                      v1::TrainingSpec defaults) {
  defaults.clear_architecture();  // worth a line whatever it is
  const std::vector<std::pair<std::string, std::string>> usual = SetFields(defaults);
  const Fields by_default(usual.begin(), usual.end());
  std::vector<std::string> names;  // in the order of the contract, as far as the specs have them
  std::vector<Fields> values;
  for (const v1::TrainingSpec& spec : specs) {
    Fields& fields = values.emplace_back();
    for (const std::pair<std::string, std::string>& field : SetFields(spec)) {
      if (std::find(usual.begin(), usual.end(), field) != usual.end()) continue;
      fields.insert(field);
      if (std::find(names.begin(), names.end(), field.first) == names.end()) {
        names.push_back(field.first);
      }
    }
  }
  std::vector<std::pair<std::string, std::string>> common;
  std::vector<std::string> different;
  for (const std::string& name : names) {
    const bool same = std::all_of(values.begin(), values.end(), [&](const Fields& fields) {
      return fields.contains(name) && values[0].contains(name) &&
             fields.at(name) == values[0].at(name);
    });
    if (same) {
      common.emplace_back(name, values[0].at(name));
    } else {
      different.push_back(name);
    }
  }
  std::string text = Properties(terminal, common);
  if (different.empty()) return text;
  std::vector<std::vector<std::string>> rows;
  for (const Fields& fields : values) {
    std::vector<std::string>& row = rows.emplace_back();
    for (const std::string& name : different) {
      const Fields& where = fields.contains(name) ? fields : by_default;
      row.push_back(where.contains(name) ? where.at(name) : "-");
    }
  }
  absl::StrAppend(&text, FormatTable(terminal, different, rows));
  return text;
}

std::string PlanText(const Terminal& terminal, const v1::TrainingPlan& plan,
                     const v1::TrainingSpec& defaults) {
  const std::vector<v1::TrainingSpec> specs(plan.resolved().begin(), plan.resolved().end());
  std::string text = SpecsText(terminal, specs, defaults);
  absl::StrAppendFormat(&text, "%d steps; memory %.2f GiB beside the model", plan.steps(),
                        static_cast<double>(plan.memory_bytes()) / kGib);
  if (plan.available_bytes() > 0) {
    absl::StrAppendFormat(&text, ", %.2f GiB are free",
                          static_cast<double>(plan.available_bytes()) / kGib);
  }
  return text + "\n";
}

absl::StatusOr<v1::ListPresetsResponse> AllPresets(CommandContext& context) {
  v1::ListPresetsResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::ListPresets,
                                      v1::ListPresetsRequest(), &response));
  return response;
}

std::string AdviceText(const Terminal& terminal, const std::vector<v1::Advice>& advice,
                       bool with_ids) {
  std::string text;
  for (const v1::Advice& one : advice) {
    absl::StrAppend(&text, "- ", with_ids ? absl::StrCat(one.sae_id(), ": ") : "",
                    terminal.Bold(one.rule()), ": ", one.evidence(), "; ", one.suggestion(), "\n");
  }
  return text;
}

std::string SweepAdviceText(const Terminal& terminal, const std::vector<v1::Advice>& advice,
                            const std::string& job_id) {
  // What is advised, in the order it came, and for which SAEs.
  std::vector<std::pair<const v1::Advice*, std::vector<std::string>>> groups;
  for (const v1::Advice& one : advice) {
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& other) {
      return other.first->rule() == one.rule() && other.first->suggestion() == one.suggestion();
    });
    if (group == groups.end()) {
      groups.emplace_back(&one, std::vector<std::string>{one.sae_id()});
    } else {
      group->second.push_back(one.sae_id());
    }
  }
  std::string text;
  for (const auto& [one, ids] : groups) {
    absl::StrAppend(&text, "- ", terminal.Bold(one->rule()), ": ", absl::StrJoin(ids, ", "), "; ",
                    one->suggestion(), "\n");
  }
  if (text.empty()) return text;
  return absl::StrCat(text, "  (the numbers: featurescope job advice ", job_id, ")\n");
}

std::vector<TrainedSae> LastMetrics(const v1::GetMetricsResponse& response,
                                    const std::vector<std::string>& sae_ids, bool sweep) {
  std::vector<TrainedSae> saes;
  for (const std::string& id : sae_ids) {
    std::map<std::string, double> last;
    for (const v1::MetricPoint& point : response.points()) {
      for (const auto& [name, value] : point.values()) {
        absl::string_view metric = name;
        if (sweep && !absl::ConsumePrefix(&metric, absl::StrCat(id, "/"))) continue;
        last[std::string(metric)] = value;
      }
    }
    TrainedSae& sae = saes.emplace_back();
    sae.sae_id = id;
    sae.metrics = last;
    for (const auto& [name, value] : last) {
      if (!absl::StartsWith(name, kHeldOut)) continue;
      sae.held_out = true;
      sae.metrics[std::string(absl::StripPrefix(name, kHeldOut))] = value;
      sae.metrics.erase(name);
    }
  }
  return saes;
}

std::vector<bool> ParetoOptimal(const std::vector<TrainedSae>& saes) {
  std::vector<bool> optimal;
  for (const TrainedSae& sae : saes) {
    const double l0 = MetricOf(sae, "l0");
    const double explained = MetricOf(sae, "explained_variance");
    const bool beaten = std::any_of(saes.begin(), saes.end(), [&](const TrainedSae& other) {
      const double its_l0 = MetricOf(other, "l0");
      const double its_explained = MetricOf(other, "explained_variance");
      return its_l0 <= l0 && its_explained >= explained &&
             (its_l0 < l0 || its_explained > explained);
    });
    optimal.push_back(!beaten && !std::isnan(l0) && !std::isnan(explained));
  }
  return optimal;
}

std::string SweepTable(const Terminal& terminal, std::vector<TrainedSae> saes) {
  std::stable_sort(saes.begin(), saes.end(), [](const TrainedSae& a, const TrainedSae& b) {
    return MetricOf(a, "l0") < MetricOf(b, "l0");
  });
  const std::vector<bool> optimal = ParetoOptimal(saes);
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < saes.size(); ++i) {
    rows.push_back({saes[i].sae_id, NumberText(MetricOf(saes[i], "l0")),
                    NumberText(MetricOf(saes[i], "explained_variance")),
                    ShareText(MetricOf(saes[i], "dead_share")),
                    NumberText(MetricOf(saes[i], "loss")), optimal[i] ? "*" : ""});
  }
  const bool held_out = !saes.empty() && saes[0].held_out;
  return absl::StrCat(
      FormatTable(terminal, {"SAE", "L0", "explained variance", "dead", "loss", "Pareto"}, rows),
      held_out ? "L0 and explained variance are of held-out tokens; " : "",
      "* no other SAE of the sweep explains more with fewer active features\n");
}

absl::StatusOr<std::vector<v1::Advice>> AdviceOn(CommandContext& context,
                                                 const std::string& job_id) {
  v1::GetAdviceRequest request;
  request.set_job_id(job_id);
  v1::GetAdviceResponse response;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::GetAdvice, request, &response));
  return std::vector<v1::Advice>(response.advice().begin(), response.advice().end());
}

absl::StatusOr<std::string> TrainingSummary(CommandContext& context, const v1::Job& job) {
  v1::GetMetricsRequest request;
  request.set_job_id(job.id());
  v1::GetMetricsResponse metrics;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::GetMetrics, request, &metrics));
  std::vector<std::string> ids;
  for (const v1::TrainingSpec& member : job.sweep().members()) ids.push_back(member.sae_id());
  if (job.has_training()) ids = {job.training().sae_id()};
  const std::vector<TrainedSae> saes = LastMetrics(metrics, ids, job.has_sweep());
  std::string text;
  if (!metrics.points().empty()) {
    text = job.has_sweep() ? SweepTable(context.terminal, saes)
                           : absl::StrCat(MetricsLine(saes[0]), "\n");
  }
  ASSIGN_OR_RETURN(const std::vector<v1::Advice> advice, AdviceOn(context, job.id()));
  absl::StrAppend(&text, job.has_sweep() ? SweepAdviceText(context.terminal, advice, job.id())
                                         : AdviceText(context.terminal, advice, false));
  if (!job.checkpoint_dir().empty()) {
    absl::StrAppend(&text, "checkpoints: ", job.checkpoint_dir(), "\n");
  }
  return text;
}

}  // namespace featurescope
