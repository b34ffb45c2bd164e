#include "server/engine/byte_budget.h"

#include "server/base/status.h"

namespace featurescope {

ByteBudget::Reservation::~Reservation() {
  if (state_ == nullptr) return;
  MutexLock lock(&state_->mutex);
  state_->used -= bytes_;
}

absl::StatusOr<ByteBudget::Reservation> ByteBudget::Reserve(uint64_t bytes,
                                                            absl::string_view what) {
  if (bytes > limit_) {
    return ResourceExhausted(what, " needs ", bytes, " bytes, the limit is ", limit_);
  }
  Reservation reservation;
  {
    MutexLock lock(&state_->mutex);
    if (state_->used > limit_ - bytes) {
      return ResourceExhausted(what, " needs ", bytes, " bytes, others hold ", state_->used, " of ",
                               limit_, "; try again later");
    }
    state_->used += bytes;
  }
  reservation.state_ = state_;
  reservation.bytes_ = bytes;
  return reservation;
}

}  // namespace featurescope
