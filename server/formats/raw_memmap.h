// Raw activations [n, d_in]: a file of nothing but numbers, as np.memmap writes it.
//
// The file has no header, so dtype and d_in come from the user; n follows from the size.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/formats/file.h"
#include "server/formats/safetensors.h"

namespace featurescope {

constexpr int64_t kMaxRawMemmapWidth = int64_t{1} << 24;

// An open file of rows. Const and thread-safe; reads with pread, never maps. Movable.
class RawMemmap {
 public:
  // `dtype` is F16, BF16 or F32, little-endian; d_in lies in [1, kMaxRawMemmapWidth].
  //   NotFound, PermissionDenied
  //   InvalidArgument  dtype or d_in not allowed; no whole number of rows, or none; the file
  //                    begins as a .npy, .npz or .pt file does
  static absl::StatusOr<RawMemmap> Open(const std::string& path, DType dtype, int64_t d_in);

  int64_t n_rows() const { return n_rows_; }
  int64_t d_in() const { return d_in_; }
  DType dtype() const { return dtype_; }
  uint64_t row_bytes() const { return row_bytes_; }
  const std::string& path() const { return path_; }

  // Reads rows [begin, begin + n) into `out`, as they lie in the file.
  //   OutOfRange       the rows do not exist
  //   InvalidArgument  out.size() is not n * row_bytes()
  //   DataLoss         the file has been shortened meanwhile
  absl::Status ReadRows(int64_t begin, int64_t n, absl::Span<char> out) const;

 private:
  std::string path_;
  UniqueFd fd_;
  DType dtype_ = DType::kF16;
  int64_t d_in_ = 0;
  int64_t n_rows_ = 0;
  uint64_t row_bytes_ = 0;
};

}  // namespace featurescope
