// train, preset: SAEs trained by recipes, alone or as a sweep.
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/job_text.h"
#include "client/cli/near_names.h"
#include "client/cli/training_flags.h"
#include "client/cli/training_text.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::JobService;

// A plan or a submission may load the model first.
constexpr absl::Duration kLongCall = absl::Minutes(30);

absl::Status ShowPlan(CommandContext& context, const v1::SweepSpec& sweep) {
  v1::PlanTrainingRequest request;
  *request.mutable_spec() = sweep;
  v1::TrainingPlan plan;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::PlanTraining,
                                      request, &plan, kLongCall));
  ASSIGN_OR_RETURN(const v1::ListPresetsResponse presets, AllPresets(context));
  PrintAnswer(context, plan, PlanText(context.terminal, plan, presets.defaults()));
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> Submit(const Args& args, CommandContext& context,
                               const v1::SweepSpec& sweep) {
  v1::Job job;
  if (sweep.members().empty()) {
    v1::SubmitTrainingRequest request;
    *request.mutable_spec() = sweep.base();
    request.set_idempotency_key(args.Get("idempotency-key"));
    RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::SubmitTraining,
                                        request, &job, kLongCall));
  } else {
    v1::SubmitSweepRequest request;
    *request.mutable_spec() = sweep;
    request.set_idempotency_key(args.Get("idempotency-key"));
    RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::SubmitSweep,
                                        request, &job, kLongCall));
  }
  return job;
}

absl::Status Train(const Args& args, CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::SweepSpec sweep, TrainingFromFlags(args));
  if (args.Has("dry-run")) return ShowPlan(context, sweep);
  ASSIGN_OR_RETURN(const v1::Job job, Submit(args, context, sweep));
  RETURN_IF_ERROR(AfterSubmission(args, context, job));
  if (!args.Has("wait") || context.json) return absl::OkStatus();
  v1::GetJobRequest request;
  request.set_job_id(job.id());
  v1::Job done;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::GetJob, request, &done));
  ASSIGN_OR_RETURN(const std::string summary, TrainingSummary(context, done));
  Print(summary);
  return absl::OkStatus();
}

// "4096", "16 x d_in" or nothing.
std::string WidthText(const v1::TrainingSpec& spec) {
  if (spec.d_sae() > 0) return absl::StrCat(spec.d_sae());
  return spec.expansion() > 0 ? absl::StrCat(spec.expansion(), " x d_in") : "";
}

absl::Status ListPresets(const Args&, CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::ListPresetsResponse response, AllPresets(context));
  std::vector<std::vector<std::string>> rows;
  for (const v1::Preset& preset : response.presets()) {
    const v1::TrainingSpec& spec = preset.spec();
    rows.push_back(
        {preset.name(),
         spec.architecture().empty() ? response.defaults().architecture() : spec.architecture(),
         WidthText(spec), preset.title()});
  }
  PrintAnswer(context, response,
              FormatTable(context.terminal, {"preset", "architecture", "d_sae", "about"}, rows));
  return absl::OkStatus();
}

absl::Status ShowPreset(const Args& args, CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::ListPresetsResponse response, AllPresets(context));
  std::vector<std::string> names;
  for (const v1::Preset& preset : response.presets()) {
    names.push_back(preset.name());
    if (preset.name() != args.at(0)) continue;
    PrintAnswer(
        context, preset,
        absl::StrCat(context.terminal.Bold(preset.name()), ": ", preset.title(), "\n",
                     Properties(context.terminal, {{"source", preset.source()},
                                                   {"model", preset.model()},
                                                   {"hook", preset.hook_name()},
                                                   {"you give", preset.open()},
                                                   {"differs", preset.differs()}}),
                     "sets\n", SpecsText(context.terminal, {preset.spec()}, v1::TrainingSpec())));
    return absl::OkStatus();
  }
  const std::vector<std::string> near = NearNames(args.at(0), names);
  return NotFound("no preset \"", args.at(0), "\"; ", near.empty() ? "there are: " : "near it: ",
                  absl::StrJoin(near.empty() ? names : near, ", "));
}

}  // namespace

std::vector<Command> TrainCommands() {
  std::vector<Flag> flags = TrainingSpecFlags();
  flags.push_back({"dry-run", "", "show what it would do and the memory it needs; submit nothing"});
  flags.push_back({"idempotency-key", "KEY", "submitting twice with one key makes one job"});
  flags.push_back({"wait", "", "wait for the end, with a progress bar, and show what came of it"});
  return {
      {"train",
       "",
       "Trains an SAE, or with --sweep several, on a model's activations, as a job.",
       {},
       flags,
       Train},
      {"preset",
       "list",
       "Lists the published recipes that train --preset knows.",
       {},
       {},
       ListPresets},
      {"preset",
       "show",
       "Shows a recipe, where it is from and what it sets.",
       {{"NAME"}},
       {},
       ShowPreset},
  };
}

}  // namespace featurescope
