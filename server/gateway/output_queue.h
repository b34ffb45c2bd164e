// What a connection has still to write: byte pieces in order, with what keeps them alive.
#pragma once

#include <grpcpp/support/slice.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace featurescope {

// Bytes to write, and whatever keeps them alive.
struct Piece {
  absl::string_view bytes;
  std::shared_ptr<const void> owner;
};

Piece OwnedPiece(std::string text);
Piece SlicePiece(grpc::Slice slice);

// Not thread-safe.
class OutputQueue {
 public:
  static constexpr size_t kMaxBuffers = 16;
  static constexpr size_t kMaxBytes = 256u << 10;  // per system call

  bool empty() const { return pieces_.empty(); }
  void Push(Piece piece) { pieces_.push_back(std::move(piece)); }
  // One frame, with `chunked` as one chunk, with `text` as one padded piece of base64.
  void PushFrame(std::vector<Piece> frame, bool chunked, bool text);
  // The first bytes, for one system call; valid until Consume. Unused buffers are empty.
  std::array<boost::asio::const_buffer, kMaxBuffers> Front() const;
  // Drops the first `n` bytes.   REQUIRES: n is at most what Front gave.
  void Consume(size_t n);

 private:
  std::deque<Piece> pieces_;
};

}  // namespace featurescope
