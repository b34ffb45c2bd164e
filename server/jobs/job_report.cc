#include "server/jobs/job_report.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "server/base/log.h"

namespace featurescope {
namespace {

// Values that wait while the database cannot be written; what comes then is dropped.
constexpr size_t kMaxWaitingValues = 500'000;

double Finite(double value) { return std::isfinite(value) ? value : 0; }

}  // namespace

JobReport::JobReport(JobQueue* queue, const JobRow& job, CancelToken cancel,
                     absl::Duration write_interval, absl::Duration heartbeat)
    : queue_(queue),
      job_id_(job.id),
      lease_epoch_(job.lease_epoch),
      cancel_(std::move(cancel)),
      write_interval_(write_interval),
      heartbeat_(heartbeat),
      last_write_(absl::Now()),
      events_(queue->catalog(), job) {
  thread_ = std::thread([this] { Loop(); });
}

JobReport::~JobReport() { Finish(); }

void JobReport::OnProgress(const RunProgress& progress, const JobTransfer& transfer) {
  JobProgress row;
  row.progress = std::clamp(Finite(progress.fraction), 0.0, 1.0);
  row.phase = progress.phase;
  row.transfer = transfer;
  row.tokens_done = progress.tokens_done;
  row.tokens_per_second = std::max(0.0, Finite(progress.tokens_per_second));
  if (row.progress > 0 && row.tokens_per_second > 0) {
    const double tokens_left = static_cast<double>(row.tokens_done) * (1 / row.progress - 1);
    row.eta_seconds = Finite(tokens_left / row.tokens_per_second);
  }
  absl::MutexLock lock(&mutex_);
  const absl::Time now = absl::Now();
  if (first_time_ == absl::InfiniteFuture()) {
    first_time_ = now;
    first_progress_ = row.progress;
  }
  if (row.tokens_per_second == 0 && row.progress > first_progress_) {
    row.eta_seconds = absl::ToDoubleSeconds(now - first_time_) * (1 - row.progress) /
                      (row.progress - first_progress_);
  }
  progress_ = std::move(row);
  changed_ = true;
}

void JobReport::OnTransfer(double fraction, const std::string& phase, const JobTransfer& transfer) {
  JobProgress row;
  row.progress = std::clamp(Finite(fraction), 0.0, 1.0);
  row.phase = phase;
  row.transfer = transfer;
  row.transfer.bytes_per_second = std::max(0.0, Finite(transfer.bytes_per_second));
  if (row.transfer.bytes_per_second > 0 && transfer.bytes_total > transfer.bytes_done) {
    row.eta_seconds = static_cast<double>(transfer.bytes_total - transfer.bytes_done) /
                      row.transfer.bytes_per_second;
  }
  absl::MutexLock lock(&mutex_);
  progress_ = std::move(row);
  changed_ = true;
}

void JobReport::OnMetrics(const RunMetrics& metrics) {
  MetricRow point{metrics.step, metrics.tokens, {}};
  for (const auto& [name, value] : metrics.values) {
    if (std::isfinite(value)) point.values[name] = value;
  }
  absl::MutexLock lock(&mutex_);
  if (waiting_values_ >= kMaxWaitingValues) return;
  waiting_values_ += point.values.size();
  points_.push_back(std::move(point));
}

void JobReport::Finish() {
  {
    absl::MutexLock lock(&mutex_);
    finished_ = true;
  }
  if (!thread_.joinable()) return;
  thread_.join();
  Write();
}

void JobReport::Loop() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&finished_), write_interval_)) return;
    }
    Write();
  }
}

void JobReport::Write() {
  JobProgress progress;
  std::vector<MetricRow> points;
  bool changed = false;
  {
    absl::MutexLock lock(&mutex_);
    progress = progress_;
    changed = std::exchange(changed_, false);
    points.swap(points_);
    waiting_values_ = 0;
  }
  StateDb& state = queue_->catalog().state();
  absl::Status status;
  if (changed) {
    status = state.UpdateProgress(job_id_, lease_epoch_, progress);
  } else if (absl::Now() - last_write_ > heartbeat_) {
    status = state.Heartbeat(job_id_, lease_epoch_);
  } else if (points.empty()) {
    return;
  }
  last_write_ = absl::Now();
  if (absl::IsAborted(status)) cancel_.Cancel();
  if (!status.ok()) LogWarning("job ", job_id_, ": progress is not saved: ", status.ToString());
  if (!points.empty()) WriteMetrics(std::move(points));
  if (changed) queue_->PublishState(job_id_);
}

void JobReport::WriteMetrics(std::vector<MetricRow> points) {
  // A restart inside the run begins the steps again: each ascending piece replaces what it repeats.
  for (auto begin = points.begin(); begin != points.end();) {
    auto end = std::next(begin);
    while (end != points.end() && std::prev(end)->step < end->step) ++end;
    const absl::Span<const MetricRow> piece(&*begin, static_cast<size_t>(end - begin));
    const absl::Status status =
        queue_->catalog().state().AppendMetrics(job_id_, lease_epoch_, piece);
    if (status.ok()) {
      events_.Write(piece);
      queue_->watchers().Publish(job_id_, piece);
    } else {
      LogWarning("job ", job_id_, ": ", piece.size(),
                 " metrics are not saved: ", status.ToString());
    }
    begin = end;
  }
}

}  // namespace featurescope
