#include "server/tensor/gate.h"

#include <new>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"
#include "server/tensor/blas.h"

namespace featurescope {
namespace {

// Here because every program that computes links this file.
[[maybe_unused]] const bool blas_corrected_before_main = CorrectBlasKernels();

}  // namespace

absl::Status StatusOfCurrentException(absl::string_view doing) {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(doing, ": out of memory");
  } catch (const std::exception& e) {
    const std::string what = e.what();
    // Both the CPU's and CUDA's allocator report by message only.
    if (absl::StrContains(what, "out of memory") ||
        absl::StrContains(what, "can't allocate memory") ||
        absl::StrContains(what, "CUDA error: out of memory")) {
      return ResourceExhausted(doing, ": out of memory on the device");
    }
    const std::pair<absl::string_view, absl::string_view> first_line =
        absl::StrSplit(what, absl::MaxSplits('\n', 1));
    return Internal(doing, ": ", first_line.first);
  } catch (...) {
    return Internal(doing, ": unknown exception");
  }
}

}  // namespace featurescope
