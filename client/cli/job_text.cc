#include "client/cli/job_text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

std::string TransferText(const v1::Transfer& transfer) {
  std::string text = absl::StrCat(
      "  ", FormatBytes(static_cast<double>(transfer.bytes_done())), " of ",
      FormatBytes(static_cast<double>(transfer.bytes_total())), ", file ",
      std::min(transfer.files_done() + 1, transfer.files_total()), " of ", transfer.files_total());
  if (transfer.bytes_per_second() > 0) {
    absl::StrAppend(&text, "  ", FormatBytes(transfer.bytes_per_second()), "/s");
  }
  return text;
}

std::string SweepTitle(const v1::SweepSpec& sweep) {
  const int n = sweep.members_size();
  if (n == 0) return absl::StrCat("sweep ", sweep.base().sae_id());
  return absl::StrCat("sweep ", sweep.members(0).sae_id(),
                      n > 1 ? absl::StrCat(" and ", n - 1, " more") : "");
}

std::string MetricsText(const v1::Job& job, const std::map<std::string, double>& metrics) {
  std::string prefix;
  std::string text;
  if (job.has_sweep() && job.sweep().members_size() > 0) {
    prefix = absl::StrCat(job.sweep().members(0).sae_id(), "/");
    text = absl::StrCat("  ", job.sweep().members(0).sae_id(), ":");
  }
  bool any = false;
  for (const auto& [name, label] :
       std::vector<std::pair<std::string, std::string>>{{"loss", "loss"},
                                                        {"explained_variance", "explained"},
                                                        {"l0", "L0"},
                                                        {"dead_share", "dead"},
                                                        {"ce_loss_recovered", "CE recovered"}}) {
    const auto found = metrics.find(prefix + name);
    if (found == metrics.end()) continue;
    any = true;
    absl::StrAppend(&text, "  ", label, " ",
                    name == "dead_share" ? absl::StrFormat("%.1f%%", 100 * found->second)
                                         : FormatNumber(found->second, 3));
  }
  return any ? text : "";
}

}  // namespace

std::string StateName(v1::JobState state) {
  return absl::AsciiStrToLower(v1::JobState_Name(state));
}

bool IsFinal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED;
}

std::string JobTitle(const v1::Job& job) {
  switch (job.spec_case()) {
    case v1::Job::kTraining:
      return absl::StrCat("train ", job.training().sae_id());
    case v1::Job::kSweep:
      return SweepTitle(job.sweep());
    case v1::Job::kEvaluation:
      return absl::StrCat("evaluate ", job.evaluation().sae_id(), " on ",
                          job.evaluation().corpus_id());
    case v1::Job::kCaching:
      return absl::StrCat("cache ", job.caching().cache_id());
    case v1::Job::kImporting:
      return absl::StrCat("pull ", job.importing().has_model() ? job.importing().model().repo()
                                                               : job.importing().sae().source());
    default:
      return absl::StrCat("index ", job.indexing().sae_id(), " over ", job.indexing().corpus_id());
  }
}

std::string ProgressText(const v1::Job& job, const std::map<std::string, double>& metrics) {
  if (job.state() == v1::PAUSED) return absl::StrCat("waits: ", job.error());
  std::string text = job.phase();
  if (job.tokens_per_second() > 0) {
    absl::StrAppend(&text, "  ", FormatCount(job.tokens_per_second()), " tok/s");
  }
  if (job.has_transfer() && job.transfer().bytes_total() > 0) {
    absl::StrAppend(&text, TransferText(job.transfer()));
  }
  if (job.eta_seconds() > 0) {
    absl::StrAppend(&text, "  ", FormatDuration(job.eta_seconds()), " left");
  }
  return absl::StrCat(text, MetricsText(job, metrics));
}

absl::Status AfterSubmission(const Args& args, CommandContext& context, v1::Job job) {
  if (args.Has("wait")) {
    ASSIGN_OR_RETURN(job, WaitForJob(context, job.id()));
  }
  if (context.json) {
    PrintJson(job);
  } else if (args.Has("wait")) {
    Print(absl::StrCat(JobTitle(job), ": ", StateName(job.state()), "\n"));
  } else {
    Print(absl::StrCat("job ", job.id(), " (", JobTitle(job), ") is ", StateName(job.state()),
                       "; follow it with: featurescope job watch ", job.id(), "\n"));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
