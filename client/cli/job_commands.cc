// train, index, job: long work.
#include <algorithm>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::JobService;

std::string StateName(v1::JobState state) {
  return absl::AsciiStrToLower(v1::JobState_Name(state));
}

bool IsFinal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED;
}

std::string Title(const v1::Job& job) {
  if (job.has_training()) return absl::StrCat("train ", job.training().sae_id());
  if (job.importing().has_model()) return absl::StrCat("pull ", job.importing().model().repo());
  if (job.importing().has_sae()) return absl::StrCat("pull ", job.importing().sae().source());
  return absl::StrCat("index ", job.indexing().sae_id(), " over ", job.indexing().corpus_id());
}

std::string Detail(const v1::Job& job, const std::map<std::string, double>& metrics) {
  if (job.state() == v1::PAUSED) return absl::StrCat("waits: ", job.error());
  std::string detail = job.phase();
  if (job.tokens_per_second() > 0) {
    absl::StrAppend(&detail, "  ", FormatCount(job.tokens_per_second()), " tok/s");
  }
  if (job.has_transfer() && job.transfer().bytes_total() > 0) {
    const v1::Transfer& transfer = job.transfer();
    absl::StrAppend(&detail, "  ", FormatBytes(static_cast<double>(transfer.bytes_done())), " of ",
                    FormatBytes(static_cast<double>(transfer.bytes_total())), ", file ",
                    std::min(transfer.files_done() + 1, transfer.files_total()), " of ",
                    transfer.files_total());
    if (transfer.bytes_per_second() > 0) {
      absl::StrAppend(&detail, "  ", FormatBytes(transfer.bytes_per_second()), "/s");
    }
  }
  if (job.eta_seconds() > 0)
    absl::StrAppend(&detail, "  ", FormatDuration(job.eta_seconds()), " left");
  for (const char* name : {"loss", "fvu", "l0", "dead_share"}) {
    const auto found = metrics.find(name);
    if (found != metrics.end()) {
      absl::StrAppend(&detail, "  ", name, " ", FormatNumber(found->second, 3));
    }
  }
  return detail;
}

absl::Status AfterSubmission(const Args& args, CommandContext& context, v1::Job job) {
  if (args.Has("wait")) {
    ASSIGN_OR_RETURN(job, WaitForJob(context, job.id()));
  }
  if (context.json) {
    PrintJson(job);
  } else if (args.Has("wait")) {
    Print(absl::StrCat(Title(job), ": ", StateName(job.state()), "\n"));
  } else {
    Print(absl::StrCat("job ", job.id(), " (", Title(job), ") is ", StateName(job.state()),
                       "; follow it with: featurescope job watch ", job.id(), "\n"));
  }
  return absl::OkStatus();
}

absl::Status Train(const Args& args, CommandContext& context) {
  v1::SubmitTrainingRequest request;
  v1::TrainingSpec& spec = *request.mutable_spec();
  spec.set_sae_id(args.Get("id"));
  spec.set_model_id(args.Get("model"));
  spec.set_corpus_id(args.Get("corpus"));
  spec.set_hook_name(args.Get("hook"));
  spec.set_architecture(args.Get("architecture"));
  ASSIGN_OR_RETURN(const uint64_t d_sae, args.Integer("d-sae", 0));
  ASSIGN_OR_RETURN(const uint64_t k, args.Integer("k", 0));
  ASSIGN_OR_RETURN(const uint64_t tokens, args.Integer("tokens", 0, UINT64_MAX));
  ASSIGN_OR_RETURN(const uint64_t batch_size, args.Integer("batch-size", 0));
  ASSIGN_OR_RETURN(const uint64_t seed, args.Integer("seed", 0, UINT64_MAX));
  ASSIGN_OR_RETURN(const uint64_t buffer_tokens, args.Integer("buffer-tokens", 0, UINT64_MAX));
  ASSIGN_OR_RETURN(const uint64_t dead_after, args.Integer("dead-after-tokens", 0, UINT64_MAX));
  ASSIGN_OR_RETURN(const double learning_rate, args.Number("lr", 0));
  ASSIGN_OR_RETURN(const double l1_coefficient, args.Number("l1", 0));
  spec.set_d_sae(static_cast<uint32_t>(d_sae));
  spec.set_k(static_cast<uint32_t>(k));
  spec.set_tokens(tokens);
  spec.set_batch_size(static_cast<uint32_t>(batch_size));
  spec.set_seed(seed);
  spec.set_buffer_tokens(buffer_tokens);
  spec.set_dead_after_tokens(dead_after);
  spec.set_learning_rate(learning_rate);
  spec.set_l1_coefficient(l1_coefficient);
  if (args.Has("auxk")) {
    ASSIGN_OR_RETURN(const double auxk, args.Number("auxk", 0));
    spec.set_auxk_coefficient(auxk);
  }
  if (args.Has("warmup-steps")) {
    ASSIGN_OR_RETURN(const uint64_t steps, args.Integer("warmup-steps", 0));
    spec.set_lr_warmup_steps(static_cast<uint32_t>(steps));
  }
  if (args.Has("decay-steps")) {
    ASSIGN_OR_RETURN(const uint64_t steps, args.Integer("decay-steps", 0));
    spec.set_lr_decay_steps(static_cast<uint32_t>(steps));
  }
  if (args.Has("clip-norm")) {
    ASSIGN_OR_RETURN(const double clip_norm, args.Number("clip-norm", 0));
    spec.set_clip_norm(clip_norm);
  }
  request.set_idempotency_key(args.Get("idempotency-key"));
  v1::Job job;
  RETURN_IF_ERROR(
      context.client.Call(context.client.jobs(), &JobService::Stub::SubmitTraining, request, &job));
  return AfterSubmission(args, context, std::move(job));
}

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
    rows.push_back({job.id(), Title(job), StateName(job.state()),
                    absl::StrFormat("%.0f%%", 100 * job.progress()), job.created(), job.error()});
  }
  Print(FormatTable(context.terminal, {"job", "what", "state", "progress", "created", "error"},
                    rows));
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
      job.id(), Title(job), StateName(job.state()), 100 * job.progress(), job.phase(),
      job.created(), job.started(), job.finished(), job.attempt()));
  if (!job.error().empty()) Print(absl::StrCat("  error: ", job.error(), "\n"));
  return absl::OkStatus();
}

absl::Status WatchJob(const Args& args, CommandContext& context) {
  absl::StatusOr<v1::Job> job = WaitForJob(context, args.at(0));
  if (!job.ok()) return job.status();
  if (!context.json) Print(absl::StrCat(Title(*job), ": ", StateName(job->state()), "\n"));
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
        progress.Show(job.progress(), Title(job), Detail(job, metrics));
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
  return absl::AbortedError(absl::StrCat("job ", job.id(), " (", Title(job), ") ",
                                         StateName(job.state()), job.error().empty() ? "" : ": ",
                                         job.error()));
}

std::vector<Command> JobCommands() {
  const Flag wait{"wait", "", "wait for the end, with a progress bar"};
  const Flag seed{"seed", "N", "the same seed gives the same result"};
  const Flag key{"idempotency-key", "KEY", "submitting twice with one key makes one job"};
  return {
      {"train",
       "",
       "Trains an SAE on a model's activations, as a job.",
       {},
       {{"id", "NEW", "the new SAE's id", true},
        {"model", "ID", "the model", true},
        {"corpus", "ID", "the corpus", true},
        {"hook", "NAME", "the hook point, e.g. blocks.3.hook_resid_post", true},
        {"architecture", "NAME", "standard or topk", true},
        {"d-sae", "N", "number of features", true},
        {"tokens", "N", "tokens to train on", true},
        {"k", "K", "topk: active features per token"},
        {"l1", "X", "standard: weight of the L1 penalty (default: 5)"},
        {"lr", "X", "learning rate (default: by architecture)"},
        {"batch-size", "N", "tokens per step (default: 4096)"},
        {"buffer-tokens", "N", "activations held for shuffling (default: 64 batches)"},
        {"warmup-steps", "N", "linear rise of the learning rate"},
        {"decay-steps", "N", "linear fall at the end"},
        {"auxk", "X", "topk: weight of the dead features' loss (default: 1/32)"},
        {"dead-after-tokens", "N", "topk: when a feature counts as dead"},
        {"clip-norm", "X", "clip the gradient's norm (default: 1; 0: not)"},
        seed,
        key,
        wait},
       Train},
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
      {"job", "cancel", "Cancels a job.", {{"ID"}}, {}, CancelJob},
  };
}

}  // namespace featurescope
