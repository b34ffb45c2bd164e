#include "server/jobs/import_job.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/catalog/known_sae.h"
#include "server/catalog/names.h"
#include "server/hub/pull.h"

namespace featurescope {
namespace {

constexpr size_t kMaxPatterns = 64;
constexpr size_t kMaxPatternBytes = 1024;
// The bar's share of downloading; what follows is reading and checking.
constexpr double kDownloadShare = 0.95;

// Turns what a download says into what a job says, with a smoothed speed. Thread-safe.
class TransferMeter {
 public:
  explicit TransferMeter(JobReport* report) : report_(report), last_time_(absl::Now()) {}

  void Tell(const PullProgress& progress) {
    MutexLock lock(&mutex_);
    JobTransfer transfer;
    transfer.bytes_done = progress.bytes_done;
    transfer.bytes_total = progress.bytes_total;
    transfer.files_done = static_cast<uint32_t>(std::max(progress.files_done, 0));
    transfer.files_total = static_cast<uint32_t>(std::max(progress.files_total, 0));
    transfer.bytes_per_second = Speed(progress);
    const double fraction =
        progress.bytes_total == 0
            ? 0
            : static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total);
    last_ = transfer;
    report_->OnTransfer(kDownloadShare * fraction, "downloading", transfer);
  }

  // What comes after the download.
  void TellAdding() {
    MutexLock lock(&mutex_);
    last_.bytes_per_second = 0;
    report_->OnTransfer(kDownloadShare, "adding", last_);
  }

 private:
  double Speed(const PullProgress& progress) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    constexpr double kSmoothing = 0.3;
    const absl::Time now = absl::Now();
    // What was in the cache did not come over the wire.
    const uint64_t moved =
        progress.bytes_done - std::min(progress.bytes_done, progress.bytes_cached);
    const double seconds = absl::ToDoubleSeconds(now - last_time_);
    if (seconds < 0.5) return speed_;
    const double latest =
        moved > last_moved_ ? static_cast<double>(moved - last_moved_) / seconds : 0;
    speed_ = speed_ == 0 ? latest : (1 - kSmoothing) * speed_ + kSmoothing * latest;
    last_time_ = now;
    last_moved_ = moved;
    return speed_;
  }

  JobReport* const report_;
  Mutex mutex_;
  absl::Time last_time_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_moved_ ABSL_GUARDED_BY(mutex_) = 0;
  double speed_ ABSL_GUARDED_BY(mutex_) = 0;
  JobTransfer last_ ABSL_GUARDED_BY(mutex_);
};

// The job's source with its revision, as the hub's client takes it.
std::string SourceOf(const ImportJob& job) {
  return job.revision.empty() ? job.source : absl::StrCat(job.source, "@", job.revision);
}

absl::Status ImportModel(Catalog* catalog, const PullOptions& pull, const ImportJob& job,
                         const CancelToken& cancel, TransferMeter* meter) {
  ASSIGN_OR_RETURN(const PulledModel pulled,
                   PullModel(
                       pull, [meter](const PullProgress& p) { meter->Tell(p); }, cancel));
  meter->TellAdding();
  AddSource source;
  source.name = absl::StrCat(pulled.repo, "@", pulled.commit);
  source.more_roots = {pull.hub.cache_dir};
  return catalog->AddModel(job.id, pulled.directory, source).status();
}

absl::Status ImportSae(Catalog* catalog, const PullOptions& pull, const ImportJob& job,
                       const CancelToken& cancel, TransferMeter* meter) {
  ASSIGN_OR_RETURN(const PulledSae pulled,
                   PullSae(
                       pull, [meter](const PullProgress& p) { meter->Tell(p); }, cancel));
  meter->TellAdding();
  AddSaeOptions options;
  options.model_id = job.model_id;
  options.hook_name = job.hook_name;
  options.any_width = job.any_width;
  options.center_writing_weights = job.center_writing_weights;
  options.known = KnownOf(pulled.source);
  options.source.name = absl::StrCat(job.source, "@", pulled.commit);
  options.source.more_roots = {pull.hub.cache_dir};
  return catalog->AddSae(job.id, pulled.path, options).status();
}

}  // namespace

absl::Status CheckImport(const ImportJob& job) {
  RETURN_IF_ERROR(CheckId(job.id, job.what == ImportOf::kModel ? "model id" : "SAE id"));
  if (job.source.empty()) return InvalidField("source", "there is nothing to download: no source");
  if (!job.revision.empty()) {
    const absl::Status revision = CheckHubRevision(job.revision);
    if (!revision.ok()) return InvalidField("revision", revision.message());
    if (absl::StrContains(job.source, "@")) {
      return InvalidField("revision", "the source \"", job.source, "\" names a revision already");
    }
  }
  if (job.include.size() > kMaxPatterns) {
    return InvalidField("include", "there are ", job.include.size(), " patterns, at most ",
                        kMaxPatterns, " are possible");
  }
  for (const std::string& pattern : job.include) {
    if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
      return InvalidField("include", "a pattern has ", pattern.size(), " bytes, it must be 1 to ",
                          kMaxPatternBytes);
    }
  }
  if (job.what == ImportOf::kModel) return HubRepo::Parse(SourceOf(job)).status();
  ASSIGN_OR_RETURN(const SaeSource source, ResolveSaeSource(job.source));
  if (!source.release.empty() && !job.revision.empty()) {
    return InvalidField("revision", "release ", source.release, " is known at revision ",
                        source.revision, "; another one is ", source.repo, "/", source.path, "@",
                        job.revision);
  }
  return absl::OkStatus();
}

std::string DefaultImportId(const ImportJob& job) {
  const absl::string_view source = job.source;
  const absl::string_view name = source.substr(0, source.find('@'));
  if (job.what == ImportOf::kModel) return IdFromName(name.substr(name.rfind('/') + 1));
  return IdFromName(name);
}

absl::Status RunImport(Catalog* catalog, const HubOptions& hub, const ImportJob& job,
                       const CancelToken& cancel, JobReport* report) {
  PullOptions pull;
  pull.hub = hub;
  pull.source = SourceOf(job);
  pull.include = job.include;
  TransferMeter meter(report);
  return job.what == ImportOf::kModel ? ImportModel(catalog, pull, job, cancel, &meter)
                                      : ImportSae(catalog, pull, job, cancel, &meter);
}

}  // namespace featurescope
