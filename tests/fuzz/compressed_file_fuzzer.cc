// Any bytes as a plain, gzip or zstd file: refused, or read to the end, the same in pieces of any
// size.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/status/status.h"
#include "server/formats/compressed_file.h"
#include "tests/fuzz/memory_file.h"

namespace featurescope {
namespace {

absl::Status ReadAll(absl::string_view bytes, size_t piece, std::string* text) {
  CompressedFileOptions options;
  options.ratio_free_bytes = 1u << 20;
  absl::StatusOr<CompressedFile> file =
      CompressedFile::FromFd(MemoryFile(bytes), bytes.size(), "f", options);
  if (!file.ok()) abort();
  std::string buffer(piece, '\0');
  while (true) {
    const absl::StatusOr<size_t> n = file->Read(absl::MakeSpan(&buffer[0], piece));
    if (file->file_bytes_read() > bytes.size()) abort();
    if (!n.ok()) return n.status();
    if (*n > piece) abort();
    if (*n == 0) break;
    text->append(buffer, 0, *n);
  }
  if (file->file_bytes_read() != bytes.size() || file->bytes_read() != text->size()) abort();
  return absl::OkStatus();
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string whole;
  std::string pieces;
  const absl::Status status = ReadAll(bytes, 1u << 16, &whole);
  const absl::Status in_pieces = ReadAll(bytes, 37, &pieces);
  // Whether too much comes out of too little is looked at after each piece.
  if (absl::IsInvalidArgument(status) || absl::IsInvalidArgument(in_pieces)) return 0;
  if (status.code() != in_pieces.code()) abort();
  if (status.ok() && whole != pieces) abort();
  return 0;
}
