// What a training is, will do and has come to, in tables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "client/cli/terminal.h"
#include "featurescope/v1/jobs.pb.h"

namespace featurescope {

// The fields of some specifications that are not as in `defaults`: once what they have in common,
// and where they differ a table with a row for each.
std::string SpecsText(const Terminal& terminal, const std::vector<v1::TrainingSpec>& specs,
                      v1::TrainingSpec defaults);

std::string PlanText(const Terminal& terminal, const v1::TrainingPlan& plan,
                     const v1::TrainingSpec& defaults);

// The presets, and the defaults that they change.
absl::StatusOr<v1::ListPresetsResponse> AllPresets(CommandContext& context);

// "- rule: evidence; suggestion" for each, or nothing; `with_ids` has the SAE's id before it.
std::string AdviceText(const Terminal& terminal, const std::vector<v1::Advice>& advice,
                       bool with_ids);
// The same for many SAEs: each advice once, with the SAEs it is for and without the evidence.
std::string SweepAdviceText(const Terminal& terminal, const std::vector<v1::Advice>& advice,
                            const std::string& job_id);

// One trained SAE in numbers: those of held-out tokens where there are any.
struct TrainedSae {
  std::string sae_id;
  bool held_out = false;
  std::map<std::string, double> metrics;  // by name, without heldout_
};
// The last value of each metric; `sae_ids` has one id for a training, several for a sweep.
std::vector<TrainedSae> LastMetrics(const v1::GetMetricsResponse& response,
                                    const std::vector<std::string>& sae_ids, bool sweep);

// Which SAEs no other one beats: explains at least as much with at most as many active features,
// and is better in one of both.
std::vector<bool> ParetoOptimal(const std::vector<TrainedSae>& saes);

// A table sorted by L0, with the Pareto-optimal ones marked.
std::string SweepTable(const Terminal& terminal, std::vector<TrainedSae> saes);

// A finished training or sweep: its metrics, where its checkpoints are, and what is advised.
//   errors  those of the calls
absl::StatusOr<std::string> TrainingSummary(CommandContext& context, const v1::Job& job);

// What the server advises on a job.
absl::StatusOr<std::vector<v1::Advice>> AdviceOn(CommandContext& context,
                                                 const std::string& job_id);

}  // namespace featurescope
