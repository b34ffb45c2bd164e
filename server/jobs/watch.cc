#include "server/jobs/watch.h"

#include <algorithm>
#include <utility>

namespace featurescope {

// Who watches. Its lock is taken before a watcher's own.
struct JobWatchers::Shared {
  absl::Mutex mutex;
  bool closed ABSL_GUARDED_BY(mutex) = false;
  std::set<Watcher*> watchers ABSL_GUARDED_BY(mutex);
};

class JobWatchers::Watcher : public JobWatcher {
 public:
  Watcher(std::shared_ptr<Shared> shared, const WatchFilter& filter)
      : shared_(std::move(shared)),
        ids_(filter.job_ids.begin(), filter.job_ids.end()),
        metrics_(filter.metrics) {}
  ~Watcher() override {
    absl::MutexLock lock(&shared_->mutex);
    shared_->watchers.erase(this);
  }

  absl::StatusOr<std::optional<JobEvent>> WaitNext(const CancelToken& cancel,
                                                   absl::Duration timeout) override {
    // A cancellation comes without a notification, so look for it now and then.
    constexpr absl::Duration kPoll = absl::Milliseconds(50);
    const absl::Time deadline = absl::Now() + timeout;
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return closed_ || !waiting_.empty();
    };
    while (true) {
      if (absl::Status status = cancel.Check(); !status.ok()) return status;
      const absl::Time now = absl::Now();
      const absl::Duration left = std::max(deadline - now, absl::ZeroDuration());
      if (mutex_.AwaitWithTimeout(absl::Condition(&ready), std::min(left, kPoll))) break;
      if (left <= kPoll) return std::optional<JobEvent>();
    }
    if (!waiting_.empty()) return std::optional<JobEvent>(Take());
    return absl::UnavailableError("the server is shutting down");
  }

  void Add(const JobRow& job) {
    absl::MutexLock lock(&mutex_);
    if (!ids_.empty() && !ids_.contains(job.id)) return;
    const Key key{job.id, false};
    const bool waits = jobs_.contains(job.id);
    // A job's end comes behind its last metrics.
    if (waits && IsFinal(job.state)) waiting_.erase(Position(key));
    if (!waits || IsFinal(job.state)) waiting_.push_back(key);
    jobs_[job.id] = job;
    if (jobs_.size() <= kMaxJobs) return;
    const auto oldest =
        std::find_if(waiting_.begin(), waiting_.end(), [](const Key& k) { return !k.metrics; });
    jobs_.erase(oldest->job_id);
    waiting_.erase(oldest);
  }

  void Add(const std::string& job_id, absl::Span<const MetricRow> points) {
    absl::MutexLock lock(&mutex_);
    if (!metrics_ || points.empty() || (!ids_.empty() && !ids_.contains(job_id))) return;
    std::deque<MetricRow>& kept = points_[job_id];
    if (kept.empty()) waiting_.push_back({job_id, true});
    kept.insert(kept.end(), points.begin(), points.end());
    size_t values = 0;
    for (const MetricRow& point : kept) values += point.values.size();
    while (kept.size() > kMaxPoints || (values > kMaxValues && kept.size() > 1)) {
      values -= kept.front().values.size();
      kept.pop_front();
    }
  }

  void Close() {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

 private:
  struct Key {
    std::string job_id;
    bool metrics = false;
    bool operator==(const Key&) const = default;
  };

  std::deque<Key>::iterator Position(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::find(waiting_.begin(), waiting_.end(), key);
  }

  JobEvent Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Key key = std::move(waiting_.front());
    waiting_.pop_front();
    JobEvent event;
    if (key.metrics) {
      auto node = points_.extract(key.job_id);
      event.metrics = JobMetrics{key.job_id,
                                 {std::make_move_iterator(node.mapped().begin()),
                                  std::make_move_iterator(node.mapped().end())}};
    } else {
      event.job = std::move(jobs_.extract(key.job_id).mapped());
    }
    return event;
  }

  const std::shared_ptr<Shared> shared_;
  const std::set<std::string> ids_;
  const bool metrics_;
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // In the order in which they will be told; each key once.
  std::deque<Key> waiting_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, JobRow> jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::deque<MetricRow>> points_ ABSL_GUARDED_BY(mutex_);
};

JobWatchers::JobWatchers() : shared_(std::make_shared<Shared>()) {}
JobWatchers::~JobWatchers() { Close(); }

std::unique_ptr<JobWatcher> JobWatchers::Watch(const WatchFilter& filter,
                                               absl::Span<const JobRow> present) {
  auto watcher = std::make_unique<Watcher>(shared_, filter);
  for (const JobRow& job : present) watcher->Add(job);
  absl::MutexLock lock(&shared_->mutex);
  shared_->watchers.insert(watcher.get());
  if (shared_->closed) watcher->Close();
  return watcher;
}

void JobWatchers::Publish(const JobRow& job) {
  absl::MutexLock lock(&shared_->mutex);
  for (Watcher* watcher : shared_->watchers) watcher->Add(job);
}

void JobWatchers::Publish(const std::string& job_id, absl::Span<const MetricRow> points) {
  absl::MutexLock lock(&shared_->mutex);
  for (Watcher* watcher : shared_->watchers) watcher->Add(job_id, points);
}

void JobWatchers::Close() {
  absl::MutexLock lock(&shared_->mutex);
  shared_->closed = true;
  for (Watcher* watcher : shared_->watchers) watcher->Close();
}

}  // namespace featurescope
