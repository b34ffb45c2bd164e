// The one place where LibTorch's exceptions become statuses.
#pragma once

#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tensor/torch.h"

namespace featurescope {

// The status of the exception being handled: ResourceExhausted when the device is out of memory,
// else Internal, since users' mistakes are found before LibTorch sees them.
// REQUIRES: called inside a catch block.
absl::Status StatusOfCurrentException(absl::string_view doing);

// Runs `f` without autograd and turns exceptions into a status that begins with `doing`.
// f returns a plain value, Status or StatusOr; the gate returns StatusOr of it (or Status).
template <typename F>
auto TorchGate(absl::string_view doing, F&& f) {
  using Result = std::invoke_result_t<F>;
  using Gated =
      std::conditional_t<std::is_void_v<Result>, absl::Status,
                         std::conditional_t<std::is_constructible_v<absl::Status, Result> ||
                                                std::is_constructible_v<Result, absl::Status>,
                                            Result, absl::StatusOr<Result>>>;
  try {
    torch::NoGradGuard no_grad;
    if constexpr (std::is_void_v<Result>) {
      std::forward<F>(f)();
      return Gated();
    } else {
      return Gated(std::forward<F>(f)());
    }
  } catch (...) {
    return Gated(StatusOfCurrentException(doing));
  }
}

}  // namespace featurescope
