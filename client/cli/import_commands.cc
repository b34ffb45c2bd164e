// model pull, sae pull: downloads from the hub, as jobs.
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::CatalogService;
using v1::JobService;

absl::StatusOr<v1::Job> Submit(const Args& args, CommandContext& context,
                               v1::SubmitImportRequest request) {
  request.set_idempotency_key(args.Get("idempotency-key"));
  v1::Job job;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::SubmitImport, request, &job));
  if (args.Has("wait")) return WaitForJob(context, job.id());
  PrintAnswer(
      context, job,
      absl::StrCat("job ", job.id(), " downloads it; follow it with: featurescope job watch ",
                   job.id(), "\n"));
  return job;
}

absl::Status PullModel(const Args& args, CommandContext& context) {
  v1::SubmitImportRequest request;
  v1::ModelImport& import = *request.mutable_spec()->mutable_model();
  import.set_repo(args.at(0));
  import.set_revision(args.Get("revision"));
  import.set_model_id(args.Get("id"));
  for (const std::string& pattern : args.All("include")) import.add_include(pattern);
  ASSIGN_OR_RETURN(const v1::Job job, Submit(args, context, request));
  if (!args.Has("wait")) return absl::OkStatus();
  v1::GetModelRequest get;
  get.set_model_id(job.importing().model().model_id());
  v1::Model model;
  RETURN_IF_ERROR(
      context.client.Call(context.client.catalog(), &CatalogService::Stub::GetModel, get, &model));
  PrintAnswer(context, model, absl::StrCat("added ", ModelText(model)));
  return absl::OkStatus();
}

absl::Status PullSae(const Args& args, CommandContext& context) {
  v1::SubmitImportRequest request;
  v1::SaeImport& import = *request.mutable_spec()->mutable_sae();
  import.set_source(args.at(0));
  import.set_revision(args.Get("revision"));
  import.set_sae_id(args.Get("id"));
  import.set_model_id(args.Get("model"));
  import.set_hook_name(args.Get("hook"));
  import.set_any_width(args.Has("any-width"));
  if (args.Has("center-writing-weights") && args.Has("no-center-writing-weights")) {
    return InvalidArgument(
        "--center-writing-weights and --no-center-writing-weights exclude each other");
  }
  if (args.Has("center-writing-weights")) import.set_center_writing_weights(true);
  if (args.Has("no-center-writing-weights")) import.set_center_writing_weights(false);
  for (const std::string& pattern : args.All("include")) import.add_include(pattern);
  ASSIGN_OR_RETURN(const v1::Job job, Submit(args, context, request));
  if (!args.Has("wait")) return absl::OkStatus();
  v1::GetSaeRequest get;
  get.set_sae_id(job.importing().sae().sae_id());
  v1::Sae sae;
  RETURN_IF_ERROR(
      context.client.Call(context.client.catalog(), &CatalogService::Stub::GetSae, get, &sae));
  PrintAnswer(context, sae, absl::StrCat("added ", SaeTable(context.terminal, sae)));
  return absl::OkStatus();
}

}  // namespace

std::vector<Command> ImportCommands() {
  const Flag revision{"revision", "REV", "branch, tag or commit (default: main)"};
  const Flag include{"include", "PATTERN", "only files that match, in place of our own choice",
                     false, true};
  const Flag key{"idempotency-key", "KEY", "submitting twice with one key makes one job"};
  const Flag wait{"wait", "", "wait for the end, with a progress bar"};
  return {
      {"model",
       "pull",
       "Downloads a model from the hub, as a job.",
       {{"ORG/NAME"}},
       {{"id", "ID", "the new entry's id (default: from the name)"}, revision, include, key, wait},
       PullModel},
      {"sae",
       "pull",
       "Downloads an SAE from the hub, as a job: RELEASE/ID (see sae releases) or ORG/NAME/PATH.",
       {{"RELEASE/ID"}},
       {{"id", "ID", "the new entry's id (default: from the source)"},
        {"model", "ID", "the model; may be left out where it is known and on the server"},
        {"hook", "NAME", "the hook point, where neither release nor files say it"},
        {"center-writing-weights", "", "trained on a model with centred writing weights"},
        {"no-center-writing-weights", "", "not so, whatever is known of the release"},
        {"any-width", "", "accept an SAE of another width, for vectors only"},
        revision,
        include,
        key,
        wait},
       PullSae},
  };
}

}  // namespace featurescope
