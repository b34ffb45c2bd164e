// index, job: long work. Training is in train_command.cc.
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/job_text.h"
#include "client/cli/training_text.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::JobService;

absl::Status Index(const Args& args, CommandContext& context) {
  v1::SubmitIndexingRequest request;
  v1::IndexingSpec& spec = *request.mutable_spec();
  spec.set_sae_id(args.Get("sae"));
  spec.set_corpus_id(args.Get("corpus"));
  ASSIGN_OR_RETURN(const uint64_t tokens, args.Integer("tokens", 0, UINT64_MAX));
  ASSIGN_OR_RETURN(const uint64_t top, args.Integer("top-examples", 0));
  ASSIGN_OR_RETURN(const uint64_t bands, args.Integer("bands", 0));
  ASSIGN_OR_RETURN(const uint64_t per_band, args.Integer("examples-per-band", 0));
  ASSIGN_OR_RETURN(const uint64_t window, args.Integer("window", 0));
  ASSIGN_OR_RETURN(const uint64_t seed, args.Integer("seed", 0, UINT64_MAX));
  spec.set_max_tokens(tokens);
  spec.set_top_examples(static_cast<uint32_t>(top));
  spec.set_bands(static_cast<uint32_t>(bands));
  spec.set_examples_per_band(static_cast<uint32_t>(per_band));
  spec.set_window(static_cast<uint32_t>(window));
  spec.set_seed(seed);
  request.set_idempotency_key(args.Get("idempotency-key"));
  v1::Job job;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::SubmitIndexing, request, &job));
  return AfterSubmission(args, context, std::move(job));
}

absl::Status ListJobs(const Args&, CommandContext& context) {
  v1::ListJobsResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::ListJobs,
                                      v1::ListJobsRequest(), &response));
  if (context.json) {
    PrintJson(response);
    return absl::OkStatus();
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& job : response.jobs()) {
    rows.push_back({job.id(), JobTitle(job), StateName(job.state()),
                    absl::StrFormat("%.0f%%", 100 * job.progress()), job.created(), job.error()});
  }
  Print(FormatTable(context.terminal, {"job", "what", "state", "progress", "created", "error"},
                    rows));
  return absl::OkStatus();
}

// What its specification sets, and what came of it so far.
absl::Status ShowTraining(CommandContext& context, const v1::Job& job) {
  std::vector<v1::TrainingSpec> specs;
  if (job.has_training()) specs.push_back(job.training());
  for (const v1::TrainingSpec& member : job.sweep().members()) {
    specs.push_back(job.sweep().base());
    specs.back().MergeFrom(member);
  }
  ASSIGN_OR_RETURN(const v1::ListPresetsResponse presets, AllPresets(context));
  ASSIGN_OR_RETURN(const std::string summary, TrainingSummary(context, job));
  Print(absl::StrCat(SpecsText(context.terminal, specs, presets.defaults()), summary));
  return absl::OkStatus();
}

absl::Status ShowJob(const Args& args, CommandContext& context) {
  v1::GetJobRequest request;
  request.set_job_id(args.at(0));
  v1::Job job;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::GetJob, request, &job));
  if (context.json) {
    PrintJson(job);
    return absl::OkStatus();
  }
  Print(absl::StrFormat(
      "job %s: %s\n  %s, %.1f %%, %s\n  created %s, started %s, finished %s, attempt %d\n",
      job.id(), JobTitle(job), StateName(job.state()), 100 * job.progress(), job.phase(),
      job.created(), job.started(), job.finished(), job.attempt()));
  if (!job.error().empty()) Print(absl::StrCat("  error: ", job.error(), "\n"));
  if (job.has_training() || job.has_sweep()) return ShowTraining(context, job);
  return absl::OkStatus();
}

absl::Status WatchJob(const Args& args, CommandContext& context) {
  absl::StatusOr<v1::Job> job = WaitForJob(context, args.at(0));
  if (!job.ok()) return job.status();
  if (!context.json) Print(absl::StrCat(JobTitle(*job), ": ", StateName(job->state()), "\n"));
  return absl::OkStatus();
}

absl::Status JobAdvice(const Args& args, CommandContext& context) {
  v1::GetAdviceRequest request;
  request.set_job_id(args.at(0));
  v1::GetAdviceResponse response;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::GetAdvice, request, &response));
  const std::string text =
      AdviceText(context.terminal, {response.advice().begin(), response.advice().end()}, true);
  PrintAnswer(context, response, text.empty() ? "nothing looks wrong\n" : text);
  return absl::OkStatus();
}

absl::Status JobMetrics(const Args& args, CommandContext& context) {
  v1::GetMetricsRequest request;
  request.set_job_id(args.at(0));
  ASSIGN_OR_RETURN(const uint64_t points, args.Integer("points", 0));
  request.set_max_points(static_cast<uint32_t>(points));
  v1::GetMetricsResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::GetMetrics, request,
                                      &response));
  std::map<std::string, double> last;
  for (const v1::MetricPoint& point : response.points()) {
    for (const auto& [name, value] : point.values()) last[name] = value;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, value] : last) rows.push_back({name, FormatNumber(value)});
  PrintAnswer(context, response, FormatTable(context.terminal, {"metric", "last"}, rows));
  return absl::OkStatus();
}

absl::Status CancelJob(const Args& args, CommandContext& context) {
  v1::CancelJobRequest request;
  request.set_job_id(args.at(0));
  v1::Job job;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::CancelJob, request, &job));
  if (context.json) {
    PrintJson(job);
  } else {
    Print(absl::StrCat("job ", job.id(), " is ", StateName(job.state()), "\n"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Job> WaitForJob(CommandContext& context, const std::string& job_id) {
  v1::WatchJobsRequest request;
  request.add_job_ids(job_id);
  request.set_metrics(true);
  ProgressLine progress(context.terminal);
  std::map<std::string, double> metrics;
  v1::Job job;
  // A stream that breaks off (a server that restarts, say) is opened again: the job is durable.
  for (int failures = 0; !IsFinal(job.state());) {
    grpc::ClientContext call;
    auto stream = context.client.jobs().WatchJobs(&call, request);
    v1::WatchJobsResponse response;
    while (!IsFinal(job.state()) && stream->Read(&response)) {
      failures = 0;
      if (response.has_job()) job = response.job();
      for (const auto& point : response.metrics().points()) {
        for (const auto& [name, value] : point.values()) metrics[name] = value;
      }
      if (context.json) {
        if (!response.has_tick()) PrintJson(response);
      } else {
        progress.Show(job.progress(), JobTitle(job), ProgressText(job, metrics));
      }
    }
    if (IsFinal(job.state())) {
      call.TryCancel();
      break;
    }
    const absl::Status status = context.client.Explain(stream->Finish());
    if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status) && !status.ok())
      return status;
    if (++failures > 30) return status;
    absl::SleepFor(absl::Seconds(1));
  }
  progress.Finish();
  if (job.state() == v1::SUCCEEDED) return job;
  return absl::AbortedError(
      absl::StrCat("job ", job.id(), " (", JobTitle(job), ") ", StateName(job.state()),
                   job.error().empty() ? "" : ": ", job.error(),
                   job.checkpoint_dir().empty() ? "" : "; checkpoints: ", job.checkpoint_dir()));
}

std::vector<Command> JobCommands() {
  const Flag wait{"wait", "", "wait for the end, with a progress bar"};
  const Flag seed{"seed", "N", "the same seed gives the same result"};
  const Flag key{"idempotency-key", "KEY", "submitting twice with one key makes one job"};
  return {
      {"index",
       "",
       "Indexes every feature of an SAE over a corpus, as a job.",
       {},
       {{"sae", "ID", "the SAE", true},
        {"corpus", "ID", "the corpus", true},
        {"tokens", "N", "at most that many tokens"},
        {"top-examples", "N", "strongest examples of each feature (default: 20)"},
        {"bands", "N", "activation bands (default: 10)"},
        {"examples-per-band", "N", "samples of each band (default: 5)"},
        {"window", "N", "tokens on each side of an example (default: 32)"},
        seed,
        key,
        wait},
       Index},
      {"job", "list", "Lists the jobs, the newest first.", {}, {}, ListJobs},
      {"job", "show", "Shows a job.", {{"ID"}}, {}, ShowJob},
      {"job", "watch", "Follows a job to its end.", {{"ID"}}, {}, WatchJob},
      {"job",
       "advice",
       "Says what a training's curves show to be going wrong, and what to try.",
       {{"ID"}},
       {},
       JobAdvice},
      {"job",
       "metrics",
       "Shows a job's metrics; with --json their whole course.",
       {{"ID"}},
       {{"points", "N", "at most that many points (default: 1000)"}},
       JobMetrics},
      {"job", "cancel", "Cancels a job.", {{"ID"}}, {}, CancelJob},
  };
}

}  // namespace featurescope
