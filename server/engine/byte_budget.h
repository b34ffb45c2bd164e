// Memory that requests keep on a device between their turns (keys and values of running
// generations), within a limit.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace featurescope {

// Thread-safe.
class ByteBudget {
 private:
  struct State {
    Mutex mutex;
    uint64_t used ABSL_GUARDED_BY(mutex) = 0;
  };

 public:
  // Gives its bytes back when it goes; may outlive the budget.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept {
      std::swap(state_, other.state_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Reservation();

   private:
    friend class ByteBudget;
    std::shared_ptr<State> state_;
    uint64_t bytes_ = 0;
  };

  explicit ByteBudget(uint64_t limit) : limit_(limit), state_(std::make_shared<State>()) {}

  //   what    what the error message says the bytes are for, e.g. "the generation's cache"
  //   errors  ResourceExhausted  that many are not left; the message has the numbers
  absl::StatusOr<Reservation> Reserve(uint64_t bytes, absl::string_view what);

  uint64_t used() const {
    MutexLock lock(&state_->mutex);
    return state_->used;
  }
  uint64_t limit() const { return limit_; }

 private:
  const uint64_t limit_;
  const std::shared_ptr<State> state_;
};

}  // namespace featurescope
