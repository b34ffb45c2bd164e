#include "server/gateway/output_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace featurescope {

Piece OwnedPiece(std::string text) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  return {*owner, owner};
}

Piece SlicePiece(grpc::Slice slice) {
  auto owner = std::make_shared<const grpc::Slice>(std::move(slice));
  return {{reinterpret_cast<const char*>(owner->begin()), owner->size()}, owner};
}

void OutputQueue::PushFrame(std::vector<Piece> frame, bool chunked, bool text) {
  if (text) {
    std::string bytes;
    for (const Piece& piece : frame) absl::StrAppend(&bytes, piece.bytes);
    frame = {OwnedPiece(absl::Base64Escape(bytes))};
  }
  size_t length = 0;
  for (const Piece& piece : frame) length += piece.bytes.size();
  if (chunked) pieces_.push_back(OwnedPiece(absl::StrCat(absl::Hex(length), "\r\n")));
  for (Piece& piece : frame) pieces_.push_back(std::move(piece));
  if (chunked) pieces_.push_back(OwnedPiece("\r\n"));
}

std::array<boost::asio::const_buffer, OutputQueue::kMaxBuffers> OutputQueue::Front() const {
  std::array<boost::asio::const_buffer, kMaxBuffers> buffers;
  size_t n = 0;
  size_t bytes = 0;
  for (const Piece& piece : pieces_) {
    if (n == buffers.size() || bytes >= kMaxBytes) break;
    const size_t take = std::min(piece.bytes.size(), kMaxBytes - bytes);
    buffers[n++] = boost::asio::buffer(piece.bytes.data(), take);
    bytes += take;
  }
  return buffers;
}

void OutputQueue::Consume(size_t n) {
  while (!pieces_.empty() && n >= pieces_.front().bytes.size()) {
    n -= pieces_.front().bytes.size();
    pieces_.pop_front();
  }
  if (n > 0) pieces_.front().bytes.remove_prefix(n);
}

}  // namespace featurescope
