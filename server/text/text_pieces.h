// A file of text cut at a separator: into lines, or into documents.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/formats/compressed_file.h"

namespace featurescope {

// What some editors put in front of UTF-8 text; no part of it.
constexpr absl::string_view kByteOrderMark = "\xef\xbb\xbf";

// Not thread-safe. Holds one piece in memory, and a block.
class TextPieces {
 public:
  // `separator` empty: the file is one piece.
  TextPieces(CompressedFile file, std::string separator, uint64_t max_piece_bytes);

  // Replaces *piece by the next one without its separator; false at the end. A file that ends with
  // a separator has no empty piece behind it. InvalidArgument naming file and piece when it is
  // longer than max_piece_bytes.
  absl::StatusOr<bool> Next(std::string* piece);

  uint64_t number() const { return number_; }  // of the latest piece, from 1
  const CompressedFile& file() const { return file_; }

 private:
  // Where the next separator begins in buffer_, from at_ on; npos: none is left in the file.
  absl::StatusOr<size_t> FindSeparator();
  absl::StatusOr<bool> ReadBlock();
  absl::Status TooLong() const;

  CompressedFile file_;
  const std::string separator_;
  const uint64_t max_piece_bytes_;
  std::string buffer_;
  size_t at_ = 0;  // in buffer_
  bool ended_ = false;
  uint64_t number_ = 0;
};

}  // namespace featurescope
