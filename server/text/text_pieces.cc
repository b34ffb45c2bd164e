#include "server/text/text_pieces.h"

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// A small file is not worth a large block.
constexpr uint64_t kMinBlockBytes = 4u << 10;
constexpr uint64_t kMaxBlockBytes = 1u << 20;

}  // namespace

TextPieces::TextPieces(CompressedFile file, std::string separator, uint64_t max_piece_bytes)
    : file_(std::move(file)), separator_(std::move(separator)), max_piece_bytes_(max_piece_bytes) {}

absl::StatusOr<bool> TextPieces::Next(std::string* piece) {
  ASSIGN_OR_RETURN(const size_t separator, FindSeparator());
  const size_t end = std::min(separator, buffer_.size());
  if (end - at_ > max_piece_bytes_) return TooLong();
  if (separator == std::string::npos && end == at_) return false;
  if (at_ == 0 && separator == std::string::npos) {
    *piece = std::exchange(buffer_, {});  // of a file that is one piece there may be much
  } else {
    piece->assign(buffer_, at_, end - at_);
    at_ = separator == std::string::npos ? end : end + separator_.size();
  }
  ++number_;
  return true;
}

absl::StatusOr<size_t> TextPieces::FindSeparator() {
  size_t searched = at_;
  while (true) {
    if (!separator_.empty()) {
      const size_t found = buffer_.find(separator_, searched);
      if (found != std::string::npos) return found;
    }
    if (buffer_.size() - at_ > max_piece_bytes_ + separator_.size()) return TooLong();
    // A separator may begin in this block and end in the next.
    const size_t kept = separator_.empty() ? 0 : separator_.size() - 1;
    searched = std::max(at_, buffer_.size() - std::min(kept, buffer_.size()));
    const size_t before = at_;
    ASSIGN_OR_RETURN(const bool more, ReadBlock());
    if (!more) return std::string::npos;
    searched -= before - at_;
  }
}

// Drops what lies in front of at_ and appends a block. False at the end of the file.
absl::StatusOr<bool> TextPieces::ReadBlock() {
  if (ended_) return false;
  buffer_.erase(0, at_);
  at_ = 0;
  const size_t size = buffer_.size();
  const size_t block = std::clamp(4 * file_.file_bytes(), kMinBlockBytes, kMaxBlockBytes);
  buffer_.resize(size + block);
  absl::StatusOr<size_t> n = file_.Read(absl::MakeSpan(&buffer_[size], block));
  buffer_.resize(size + (n.ok() ? *n : 0));
  if (!n.ok()) return n.status();
  ended_ = *n == 0;
  return !ended_;
}

absl::Status TextPieces::TooLong() const {
  if (separator_ == "\n") {
    return InvalidArgument(file_.path(), ":", number_ + 1, ": line of more than ", max_piece_bytes_,
                           " bytes");
  }
  return InvalidArgument(file_.path(), ": document ", number_ + 1, " has more than ",
                         max_piece_bytes_, " bytes",
                         separator_.empty() ? "; cut the file into documents at a separator" : "");
}

}  // namespace featurescope
