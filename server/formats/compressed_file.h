// A file read from front to back, and decompressed on the way where it is gzip or zstd.
//
// The content says what it is, not the name. Memory is bounded whatever the file claims: some
// buffers, and for zstd a window of at most 128 MiB.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/compressed_stream.h"
#include "server/formats/file.h"

namespace featurescope {

enum class Compression { kNone, kGzip, kZstd };

// "", "gzip", "zstd".
absl::string_view CompressionName(Compression compression);

struct CompressedFileOptions {
  double max_ratio = 250;                 // output over input beyond which a file is refused ...
  uint64_t ratio_free_bytes = 64u << 20;  // ... once it has given this many bytes
};

// Not thread-safe.
class CompressedFile {
 public:
  static absl::StatusOr<CompressedFile> Open(const std::string& path,
                                             const CompressedFileOptions& options = {});
  // The same for a file that is open already and `size` bytes long. `path` is for messages.
  static absl::StatusOr<CompressedFile> FromFd(UniqueFd fd, uint64_t size, std::string path,
                                               const CompressedFileOptions& options = {});

  // The next bytes, at most out.size(); 0 only at the end. Every error names the file, and how many
  // of its bytes were read before it.
  //
  //   DataLoss         damaged or truncated, or something else follows the compressed data
  //   InvalidArgument  it decompresses to more than max_ratio times its size; it needs a larger
  //                    window, or a dictionary
  //
  // REQUIRES: `out` is not empty; no error before.
  absl::StatusOr<size_t> Read(absl::Span<char> out);

  Compression compression() const { return compression_; }
  const std::string& path() const { return path_; }
  uint64_t file_bytes() const { return file_bytes_; }  // size of the file as it is
  uint64_t file_bytes_read() const { return offset_ - input().size(); }  // of these, used so far
  uint64_t bytes_read() const { return bytes_read_; }                    // decompressed

 private:
  CompressedFile() = default;
  absl::string_view input() const { return absl::string_view(buffer_).substr(at_); }
  // Reads more of the file behind what is left in the buffer.
  absl::Status Refill();
  absl::StatusOr<size_t> ReadPlain(absl::Span<char> out);
  absl::StatusOr<size_t> ReadCompressed(absl::Span<char> out);
  absl::Status CheckRatio() const;

  std::string path_;
  CompressedFileOptions options_;
  UniqueFd fd_;
  Compression compression_ = Compression::kNone;
  std::unique_ptr<Decompressor> decompressor_;  // null: plain
  uint64_t file_bytes_ = 0;
  uint64_t offset_ = 0;  // of the first byte behind buffer_
  std::string buffer_;
  size_t at_ = 0;  // in buffer_
  uint64_t bytes_read_ = 0;
};

}  // namespace featurescope
