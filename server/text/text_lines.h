// Lines of a large text file, read in blocks.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/formats/file.h"

namespace featurescope {

// What some editors put in front of UTF-8 text; no part of it.
constexpr absl::string_view kByteOrderMark = "\xef\xbb\xbf";

// Not thread-safe.
class TextLines {
 public:
  static absl::StatusOr<TextLines> Open(const std::string& path, uint64_t max_line_bytes);

  // Replaces *line by the next line without its line break; false at the end of the file.
  // InvalidArgument naming file and line when it is longer than max_line_bytes.
  absl::StatusOr<bool> Next(std::string* line);

  uint64_t line_number() const { return line_number_; }  // of the latest line, from 1
  uint64_t line_bytes() const { return line_bytes_; }    // of the latest line, with its break

 private:
  TextLines() = default;

  std::string path_;
  UniqueFd fd_;
  uint64_t size_ = 0;
  uint64_t max_line_bytes_ = 0;
  uint64_t offset_ = 0;  // of the first byte behind block_
  std::string block_;
  size_t at_ = 0;  // in block_
  uint64_t line_number_ = 0;
  uint64_t line_bytes_ = 0;
};

}  // namespace featurescope
