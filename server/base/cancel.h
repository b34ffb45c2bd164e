// Cooperative cancellation: a shared flag with an optional deadline.
//
// A CancelToken is cheap to copy; all copies see one Cancel(). Work polls Check() at its natural
// stops (after a block, a token, a batch).
#pragma once

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace featurescope {

class CancelToken {
 public:
  // A token that is never cancelled until someone calls Cancel().
  CancelToken() : state_(std::make_shared<State>()) {}
  // Also counts as cancelled, with DeadlineExceeded, once `deadline` has passed.
  explicit CancelToken(absl::Time deadline) : CancelToken() { state_->deadline = deadline; }

  void Cancel() const { state_->cancelled.store(true, std::memory_order_release); }
  bool cancelled() const { return !Check().ok(); }
  absl::Time deadline() const { return state_->deadline; }

  // OK, Cancelled or DeadlineExceeded.
  absl::Status Check() const;

 private:
  struct State {
    std::atomic<bool> cancelled{false};
    absl::Time deadline = absl::InfiniteFuture();
  };
  std::shared_ptr<State> state_;
};

}  // namespace featurescope
