#include "server/hub/pull.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/hub/hub_cache.h"
#include "server/hub/hub_client.h"
#include "server/hub/selection.h"
#include "server/hub/snapshot_download.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxIndexBytes = 64u << 20;

// One pull: a repository at a revision, as the hub lists it or, where the hub is not asked, as the
// cache has it.
class Pull {
 public:
  Pull(const PullOptions& options, const PullProgressFn& progress, const CancelToken& cancel)
      : options_(options), progress_(progress), cancel_(cancel), cache_(AbsoluteCacheDir()) {}

  absl::Status Open(const std::string& repo, const std::string& revision) {
    result_.repo = repo;
    result_.revision = revision;
    if (options_.hub.cache_dir.empty()) return InvalidArgument("no directory for the hub's cache");
    RETURN_IF_ERROR(options_.hub.offline ? OpenOffline() : OpenOnline());
    result_.commit = listing_.commit;
    result_.snapshot_dir = cache_.SnapshotDir(repo, listing_.commit);
    return absl::OkStatus();
  }

  const HubListing& listing() const { return listing_; }

  // Which SAE is the canonical one depends on those that are not in the cache, too.
  absl::Status CheckChoice(const SaeSource& source) const {
    if (!result_.from_cache || !IsOpenChoice(source)) return absl::OkStatus();
    return FailedPrecondition(source.path, " is chosen from the hub's list of SAEs; without it, ",
                              "name one, of which the cache has ",
                              ListSome(SaePlaces(listing_, "")));
  }

  // Brings the files into the snapshot.
  absl::Status Fetch(const std::vector<HubFile>& files, const PullProgressFn& progress) {
    if (result_.from_cache) return absl::OkStatus();  // listed from what is there
    ASSIGN_OR_RETURN(const uint64_t downloaded,
                     DownloadFiles(options_.hub, cache_, listing_, files, progress, cancel_));
    result_.bytes_downloaded += downloaded;
    return absl::OkStatus();
  }

  // The content of a file that was fetched.
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t max_bytes) const {
    return ReadFile(JoinPath(result_.snapshot_dir, path), max_bytes);
  }

  // Fetches the last files; the revision is noted only once the snapshot has all of them.
  absl::StatusOr<PulledFiles> Finish(const std::vector<HubFile>& files) {
    RETURN_IF_ERROR(Fetch(files, progress_));
    for (const HubFile& file : files) {
      result_.files.push_back(file.path);
      result_.bytes_total += file.size;
    }
    if (result_.from_cache) {
      ReportAllDone();
    } else {
      const absl::Status noted = cache_.SetCommit(result_.repo, result_.revision, result_.commit);
      if (!absl::IsPermissionDenied(noted)) RETURN_IF_ERROR(noted);
    }
    return std::move(result_);
  }

  // What is wrong with a snapshot from the cache is that it is not complete.
  absl::Status Explain(const absl::Status& status) const {
    if (status.ok() || !result_.from_cache || absl::IsCancelled(status)) return status;
    if (!unreachable_.ok()) {
      return absl::UnavailableError(
          absl::StrCat(unreachable_.message(), "; in the cache: ", status.message()));
    }
    return Annotate(
        status, absl::StrCat("offline, and the cache ", cache_.dir(), " has only a part of it"));
  }

 private:
  std::string AbsoluteCacheDir() const {
    std::error_code error;
    const auto path = std::filesystem::absolute(options_.hub.cache_dir, error);
    return error ? options_.hub.cache_dir : path.lexically_normal().string();
  }

  absl::Status OpenOffline() {
    result_.from_cache = true;
    absl::StatusOr<std::string> commit = cache_.CommitOf(result_.repo, result_.revision);
    if (!commit.ok()) {
      return Annotate(commit.status(), "offline (HF_HUB_OFFLINE), so the hub is not asked");
    }
    ASSIGN_OR_RETURN(listing_, cache_.ListSnapshot(result_.repo, *commit));
    return absl::OkStatus();
  }

  absl::Status OpenOnline() {
    HubClient client(options_.hub, [this] { return cancel_.Check(); });
    absl::StatusOr<HubListing> listing = client.List(result_.repo, result_.revision);
    if (listing.ok()) {
      listing_ = *std::move(listing);
      return absl::OkStatus();
    }
    if (!absl::IsUnavailable(listing.status())) return listing.status();
    const absl::StatusOr<std::string> commit = cache_.CommitOf(result_.repo, result_.revision);
    if (!commit.ok()) return listing.status();
    unreachable_ = listing.status();
    result_.from_cache = true;
    LogWarning(unreachable_.message(), "; using what the cache has of ", result_.repo, "@",
               *commit);
    ASSIGN_OR_RETURN(listing_, cache_.ListSnapshot(result_.repo, *commit));
    return absl::OkStatus();
  }

  void ReportAllDone() const {
    if (!progress_) return;
    const int n = static_cast<int>(result_.files.size());
    progress_({result_.bytes_total, result_.bytes_total, result_.bytes_total, n, n});
  }

  const PullOptions& options_;
  const PullProgressFn& progress_;
  const CancelToken& cancel_;
  const HubCache cache_;
  HubListing listing_;
  PulledFiles result_;
  absl::Status unreachable_;  // why the hub was not asked although it could be
};

absl::StatusOr<std::vector<HubFile>> ModelFiles(const PullOptions& options, Pull* pull) {
  const HubListing& listing = pull->listing();
  if (!options.include.empty()) return SelectByPatterns(listing, options.include);
  if (listing.Find("config.json") == nullptr) {
    return FailedPrecondition(listing.repo, " has no config.json: it is no language model");
  }
  std::string index;
  if (const HubFile* file = listing.Find(kWeightIndex)) {
    RETURN_IF_ERROR(pull->Fetch({*file}, nullptr));
    ASSIGN_OR_RETURN(index, pull->Read(file->path, kMaxIndexBytes));
  }
  ASSIGN_OR_RETURN(const std::vector<HubFile> weights, SelectModelWeights(listing, index));
  std::vector<HubFile> files = SelectModelConfig(listing);
  files.insert(files.end(), weights.begin(), weights.end());
  return files;
}

}  // namespace

absl::StatusOr<PulledModel> PullModel(const PullOptions& options, const PullProgressFn& progress,
                                      const CancelToken& cancel) {
  ASSIGN_OR_RETURN(const HubRepo source, HubRepo::Parse(options.source));
  Pull pull(options, progress, cancel);
  RETURN_IF_ERROR(pull.Open(source.repo, source.revision));
  const absl::StatusOr<std::vector<HubFile>> files = ModelFiles(options, &pull);
  RETURN_IF_ERROR(pull.Explain(files.status()));
  ASSIGN_OR_RETURN(PulledFiles pulled, pull.Finish(*files));
  PulledModel model{std::move(pulled), ""};
  model.directory = model.snapshot_dir;
  return model;
}

absl::StatusOr<PulledSae> PullSae(const PullOptions& options, const PullProgressFn& progress,
                                  const CancelToken& cancel) {
  ASSIGN_OR_RETURN(SaeSource source, ResolveSaeSource(options.source));
  Pull pull(options, progress, cancel);
  RETURN_IF_ERROR(pull.Open(source.repo, source.revision));
  const auto files = [&]() -> absl::StatusOr<std::vector<HubFile>> {
    RETURN_IF_ERROR(pull.CheckChoice(source));
    ASSIGN_OR_RETURN(source, CompleteSaeSource(std::move(source), pull.listing()));
    if (!options.include.empty()) return SelectByPatterns(pull.listing(), options.include);
    return SelectSae(pull.listing(), source.path);
  }();
  RETURN_IF_ERROR(pull.Explain(files.status()));
  ASSIGN_OR_RETURN(PulledFiles pulled, pull.Finish(*files));
  PulledSae sae{std::move(pulled), "", std::move(source)};
  sae.path =
      sae.source.path.empty() ? sae.snapshot_dir : JoinPath(sae.snapshot_dir, sae.source.path);
  return sae;
}

}  // namespace featurescope
