#include "server/formats/raw_memmap.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// How files that are no plain numbers begin.
struct Header {
  absl::string_view magic;
  absl::string_view what;
};
constexpr Header kHeaders[] = {
    {"\x93NUMPY", "a .npy file (np.save)"},
    {"PK\x03\x04", "a zip archive (np.savez or torch.save)"},
    {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20", "a torch.save file"},
};

absl::Status CheckNoHeader(int fd, uint64_t file_bytes, const std::string& path) {
  char start[10];
  const size_t n = std::min<uint64_t>(file_bytes, sizeof(start));
  RETURN_IF_ERROR(ReadExactly(fd, 0, absl::MakeSpan(start, n), path));
  for (const Header& header : kHeaders) {
    if (absl::StartsWith(absl::string_view(start, n), header.magic)) {
      return InvalidArgument(path, ": is ", header.what,
                             ", not a raw file of numbers (np.memmap, ndarray.tofile)");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RawMemmap> RawMemmap::Open(const std::string& path, DType dtype, int64_t d_in) {
  if (dtype != DType::kF16 && dtype != DType::kBF16 && dtype != DType::kF32) {
    return InvalidArgument(path, ": raw activations of dtype ", DTypeName(dtype),
                           " are not supported; known are F16, BF16 and F32");
  }
  if (d_in < 1 || d_in > kMaxRawMemmapWidth) {
    return InvalidArgument(path, ": d_in ", d_in, " is out of range [1, ", kMaxRawMemmapWidth, "]");
  }
  RawMemmap file;
  file.path_ = path;
  file.dtype_ = dtype;
  file.d_in_ = d_in;
  file.row_bytes_ = static_cast<uint64_t>(d_in) * static_cast<uint64_t>(DTypeSize(dtype));
  uint64_t file_bytes = 0;
  ASSIGN_OR_RETURN(file.fd_, OpenForReading(path, &file_bytes));
  RETURN_IF_ERROR(CheckNoHeader(file.fd_.get(), file_bytes, path));
  if (file_bytes == 0 || file_bytes % file.row_bytes_ != 0) {
    return InvalidArgument(path, ": ", file_bytes, " bytes are no whole number of rows of ", d_in,
                           " ", DTypeName(dtype), " numbers (", file.row_bytes_,
                           " bytes): is d_in or the dtype another?");
  }
  file.n_rows_ = static_cast<int64_t>(file_bytes / file.row_bytes_);
  return file;
}

absl::Status RawMemmap::ReadRows(int64_t begin, int64_t n, absl::Span<char> out) const {
  if (begin < 0 || n < 0 || begin > n_rows_ || n > n_rows_ - begin) {
    return OutOfRange(path_, ": rows [", begin, ", +", n, ") are out of range [0, ", n_rows_, ")");
  }
  if (out.size() != static_cast<uint64_t>(n) * row_bytes_) {
    return InvalidArgument(path_, ": ", n, " rows have ", static_cast<uint64_t>(n) * row_bytes_,
                           " bytes, there is room for ", out.size());
  }
  return ReadExactly(fd_.get(), static_cast<uint64_t>(begin) * row_bytes_, out, path_);
}

}  // namespace featurescope
