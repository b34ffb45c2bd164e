#include "server/hub/snapshot_download.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/hub/hub_client.h"

namespace featurescope {
namespace {

constexpr absl::Duration kReportInterval = absl::Milliseconds(100);
constexpr int kTries = 2;  // of a file whose content was wrong

// What all downloads together have reached. Thread-safe.
class Tally {
 public:
  explicit Tally(const PullProgressFn& progress) : progress_(progress) {}

  void Expect(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    state_.bytes_total += bytes;
    ++state_.files_total;
  }
  void AddCached(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    state_.bytes_cached += bytes;
    state_.bytes_done += bytes;
  }
  void AddDownloaded(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    downloaded_ += bytes;
    state_.bytes_done += bytes;
    Report(absl::Now() >= next_report_);
  }
  // `held` bytes of a file turned out to be of no use.
  void Drop(uint64_t held) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    state_.bytes_done -= held;
    state_.bytes_cached = std::min(state_.bytes_cached, state_.bytes_done);
  }
  void FinishFile() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    ++state_.files_done;
    Report(absl::Now() >= next_report_);
  }
  uint64_t Finish() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    Report(true);
    return downloaded_;
  }

 private:
  void Report(bool due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!due || !progress_) return;
    next_report_ = absl::Now() + kReportInterval;
    progress_(state_);
  }

  const PullProgressFn& progress_;
  Mutex mutex_;
  PullProgress state_ ABSL_GUARDED_BY(mutex_);
  uint64_t downloaded_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time next_report_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

// Counts what goes into a blob.
class CountedSink : public DownloadSink {
 public:
  CountedSink(PartialBlob* blob, Tally* tally) : blob_(blob), tally_(tally) {
    tally_->AddCached(blob_->size());
  }
  uint64_t size() const override { return blob_->size(); }
  absl::Status Append(absl::string_view bytes) override {
    const uint64_t before = blob_->size();
    const absl::Status status = blob_->Append(bytes);
    tally_->AddDownloaded(blob_->size() - before);
    return status;
  }
  absl::Status Restart() override {
    tally_->Drop(blob_->size());
    return blob_->Restart();
  }

 private:
  PartialBlob* const blob_;
  Tally* const tally_;
};

class Downloads {
 public:
  Downloads(const HubOptions& options, const HubCache& cache, const HubListing& listing,
            std::vector<HubFile> files, const PullProgressFn& progress, const CancelToken& cancel)
      : options_(options),
        cache_(cache),
        listing_(listing),
        files_(std::move(files)),
        cancel_(cancel),
        tally_(progress) {}

  absl::StatusOr<uint64_t> Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    RETURN_IF_ERROR(ResolveUnknown());
    for (const HubFile& file : files_) tally_.Expect(file.size);
    RETURN_IF_ERROR(LinkWhatIsThere());
    if (!missing_.empty()) {
      RETURN_IF_ERROR(CheckSpace());
      // The largest first, so that no thread ends up with it alone.
      std::stable_sort(missing_.begin(), missing_.end(),
                       [](const HubFile& a, const HubFile& b) { return a.size > b.size; });
      const size_t n =
          std::min<size_t>(missing_.size(), std::clamp(options_.parallel_files, 1, 16));
      std::vector<std::thread> threads;
      for (size_t i = 1; i < n; ++i) threads.emplace_back([this] { Work(); });
      Work();
      for (std::thread& thread : threads) thread.join();
    }
    const uint64_t downloaded = tally_.Finish();
    MutexLock lock(&mutex_);
    RETURN_IF_ERROR(error_);
    return downloaded;
  }

 private:
  // Asks for the hashes that the list of files did not give.
  absl::Status ResolveUnknown() {
    HubClient client(options_, [this] { return cancel_.Check(); });
    for (HubFile& file : files_) {
      if (!file.etag.empty()) continue;
      ASSIGN_OR_RETURN(file, client.Resolve(listing_.repo, listing_.commit, file.path));
    }
    return absl::OkStatus();
  }

  absl::Status LinkWhatIsThere() {
    for (const HubFile& file : files_) {
      RETURN_IF_ERROR(cancel_.Check());
      if (!cache_.Has(listing_, file)) {
        if (!cache_.HasBlob(listing_.repo, file)) {
          missing_.push_back(file);
          continue;
        }
        RETURN_IF_ERROR(cache_.Link(listing_, file));
      }
      tally_.AddCached(file.size);
      tally_.FinishFile();
    }
    return absl::OkStatus();
  }

  absl::Status CheckSpace() const {
    uint64_t bytes = 0;
    for (const HubFile& file : missing_) {
      bytes += file.size - cache_.PartialBytes(listing_.repo, file);
    }
    return cache_.CheckSpace(bytes);
  }

  // One thread: takes files until there are none, or one failed.
  void Work() ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto check = [this]() -> absl::Status {
      if (failed_.load(std::memory_order_relaxed)) return absl::CancelledError("another failed");
      return cancel_.Check();
    };
    HubClient client(options_, check);
    for (size_t i = next_++; i < missing_.size(); i = next_++) {
      absl::Status status = check();
      if (status.ok()) status = Fetch(missing_[i], check, &client);
      if (status.ok()) continue;
      MutexLock lock(&mutex_);
      // What follows the first error is its consequence.
      if (!failed_.exchange(true)) error_ = status;
      return;
    }
  }

  absl::Status Fetch(const HubFile& file, const HubClient::Check& check, HubClient* client) {
    ASSIGN_OR_RETURN(const std::unique_ptr<PartialBlob> blob,
                     cache_.OpenPartial(listing_.repo, file, check));
    if (blob == nullptr) {
      tally_.AddCached(file.size);
    } else {
      RETURN_IF_ERROR(Fill(file, blob.get(), client));
    }
    RETURN_IF_ERROR(cache_.Link(listing_, file));
    tally_.FinishFile();
    return absl::OkStatus();
  }

  absl::Status Fill(const HubFile& file, PartialBlob* blob, HubClient* client) {
    CountedSink sink(blob, &tally_);
    absl::Status status;
    for (int made = 0; made < kTries; ++made) {
      status = client->Download(listing_.repo, listing_.commit, file, &sink);
      const uint64_t held = blob->size();
      if (status.ok()) {
        status = blob->Commit();
        if (!status.ok()) tally_.Drop(held);
      } else if (absl::IsDataLoss(status)) {
        RETURN_IF_ERROR(sink.Restart());
      }
      if (!absl::IsDataLoss(status)) return status;
    }
    return Annotate(status, absl::StrCat(listing_.repo, ", tried twice"));
  }

  const HubOptions& options_;
  const HubCache& cache_;
  const HubListing& listing_;
  std::vector<HubFile> files_;
  const CancelToken& cancel_;
  Tally tally_;
  std::vector<HubFile> missing_;  // constant once threads run
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<uint64_t> DownloadFiles(const HubOptions& options, const HubCache& cache,
                                       const HubListing& listing, std::vector<HubFile> files,
                                       const PullProgressFn& progress, const CancelToken& cancel) {
  return Downloads(options, cache, listing, std::move(files), progress, cancel).Run();
}

}  // namespace featurescope
