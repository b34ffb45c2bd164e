// Who watches jobs, and what they still have to be told.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"
#include "server/store/state_db.h"

namespace featurescope {

struct JobMetrics {
  std::string job_id;
  std::vector<MetricRow> points;
};

// Exactly one of the two is set.
struct JobEvent {
  std::optional<JobRow> job;  // the job as it is now
  std::optional<JobMetrics> metrics;
};

struct WatchFilter {
  std::vector<std::string> job_ids;  // empty: all
  bool metrics = false;              // also metrics as they come
};

// One watcher's view. A slow watcher gets the latest state of each job, and of the metrics the
// latest kMaxPoints, with kMaxValues numbers at most; it never holds up anyone. Ends its watch on
// destruction.
class JobWatcher {
 public:
  static constexpr size_t kMaxPoints = 4096;
  static constexpr size_t kMaxValues = 1 << 18;
  static constexpr size_t kMaxJobs = 4096;

  virtual ~JobWatcher() = default;
  // The next event; nothing when `timeout` has passed.
  //   errors  Cancelled, DeadlineExceeded  `cancel`
  //           Unavailable                  the queue is shutting down
  virtual absl::StatusOr<std::optional<JobEvent>> WaitNext(const CancelToken& cancel,
                                                           absl::Duration timeout) = 0;
};

// Spreads events to watchers. Thread-safe; publishing never waits for a watcher.
class JobWatchers {
 public:
  JobWatchers();
  ~JobWatchers();

  // Begins with `present` as if it had just happened.
  std::unique_ptr<JobWatcher> Watch(const WatchFilter& filter, absl::Span<const JobRow> present);
  void Publish(const JobRow& job);
  void Publish(const std::string& job_id, absl::Span<const MetricRow> points);
  // Ends all watches with Unavailable.
  void Close();

 private:
  class Watcher;
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace featurescope
