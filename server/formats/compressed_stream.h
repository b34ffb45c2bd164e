// Decompression of one kind of stream, piece by piece; compressed_file.h reads files with it.
//
// Both kinds are chains: gzip members or zstd frames one behind the other are one stream.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace featurescope {

// Not thread-safe.
class Decompressor {
 public:
  virtual ~Decompressor() = default;

  // Decompresses from the front of *in into `out` and takes what it used off *in. Returns the
  // number of bytes written. Neither used nor written anything: it needs more input (never when
  // `last`, which says that no input follows *in; then *in is empty and the stream complete).
  // REQUIRES: `out` is not empty; *in is, unless `last`, at least kMinInputBytes long.
  //
  //   DataLoss         the stream is damaged, ends in the middle, or something else follows it
  //   InvalidArgument  it asks for more than this reader gives (memory, a dictionary)
  virtual absl::StatusOr<size_t> Decompress(absl::string_view* in, bool last,
                                            absl::Span<char> out) = 0;

  static constexpr size_t kMinInputBytes = 16;
};

// RFC 1952; checks each member's CRC and length. Zero bytes behind the last member are padding.
std::unique_ptr<Decompressor> MakeGzipDecompressor();
bool BeginsGzip(absl::string_view bytes);

// RFC 8878; checks the frames' checksums where they have one. Windows of at most 128 MiB.
std::unique_ptr<Decompressor> MakeZstdDecompressor();
bool BeginsZstd(absl::string_view bytes);

}  // namespace featurescope
