// How a request's thread waits for its task on the device worker.
#pragma once

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "server/base/mutex.h"

namespace featurescope {

// A status that is set once. Thread-safe.
class Completion {
 public:
  // The first call counts; later ones change nothing.
  void Set(absl::Status status) {
    MutexLock lock(&mutex_);
    if (status_.has_value()) return;
    status_ = std::move(status);
    set_.SignalAll();
  }

  absl::Status Wait() {
    MutexLock lock(&mutex_);
    while (!status_.has_value()) set_.Wait(&mutex_);
    return *status_;
  }

  bool done() const {
    MutexLock lock(&mutex_);
    return status_.has_value();
  }

 private:
  mutable Mutex mutex_;
  CondVar set_;
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace featurescope
