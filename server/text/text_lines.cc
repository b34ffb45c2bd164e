#include "server/text/text_lines.h"

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr uint64_t kBlockBytes = 1u << 20;

}  // namespace

absl::StatusOr<TextLines> TextLines::Open(const std::string& path, uint64_t max_line_bytes) {
  TextLines lines;
  lines.path_ = path;
  lines.max_line_bytes_ = max_line_bytes;
  ASSIGN_OR_RETURN(lines.fd_, OpenForReading(path, &lines.size_));
  return lines;
}

absl::StatusOr<bool> TextLines::Next(std::string* line) {
  line->clear();
  line_bytes_ = 0;
  while (true) {
    if (at_ == block_.size()) {
      if (offset_ == size_) {
        if (line_bytes_ == 0) return false;
        break;
      }
      block_.resize(std::min(kBlockBytes, size_ - offset_));
      RETURN_IF_ERROR(
          ReadExactly(fd_.get(), offset_, absl::MakeSpan(&block_[0], block_.size()), path_));
      offset_ += block_.size();
      at_ = 0;
    }
    const size_t line_break = block_.find('\n', at_);
    const size_t end = std::min(line_break, block_.size());
    if (line->size() + (end - at_) > max_line_bytes_) {
      return InvalidArgument(path_, ":", line_number_ + 1, ": line of more than ", max_line_bytes_,
                             " bytes");
    }
    line->append(block_, at_, end - at_);
    line_bytes_ += end - at_;
    at_ = end;
    if (line_break != std::string::npos) {
      ++line_bytes_;
      ++at_;
      break;
    }
  }
  ++line_number_;
  return true;
}

}  // namespace featurescope
