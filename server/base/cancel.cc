#include "server/base/cancel.h"

#include "absl/time/clock.h"

namespace featurescope {

absl::Status CancelToken::Check() const {
  if (state_->cancelled.load(std::memory_order_acquire)) {
    return absl::CancelledError("the caller cancelled the request");
  }
  if (state_->deadline != absl::InfiniteFuture() && absl::Now() >= state_->deadline) {
    return absl::DeadlineExceededError("the request's deadline has passed");
  }
  return absl::OkStatus();
}

}  // namespace featurescope
