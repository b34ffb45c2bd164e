// Writing and reading of plain values in a checkpoint, with a checksum over all of them.
//
// A checkpoint is read by the build that wrote it, on the machine that wrote it: values lie in
// memory order.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/file.h"

namespace featurescope {

// A 64-bit checksum of bytes that come in pieces of whole 8-byte words, but for the last piece.
class WordChecksum {
 public:
  void Update(absl::string_view bytes);
  uint64_t value() const { return Mix64(state_); }

 private:
  uint64_t state_ = 0x66656174ull;
};

// Streams values to a file, which appears when Finish() succeeds. The first error is kept and
// returned by Finish().
class CheckpointWriter {
 public:
  explicit CheckpointWriter(AtomicFile file) : file_(std::move(file)) {}

  template <typename T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    PutBytes(&value, sizeof(T));
  }
  template <typename T>
  void PutVector(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    Put<uint64_t>(values.size());
    PutBytes(values.data(), values.size() * sizeof(T));
  }
  void PutString(absl::string_view text) {
    Put<uint64_t>(text.size());
    PutBytes(text.data(), text.size());
  }

  absl::Status Finish();

 private:
  void PutBytes(const void* bytes, size_t n) {
    buffer_.append(static_cast<const char*>(bytes), n);
    if (buffer_.size() >= kFlushBytes) Flush();
  }
  void Flush();

  static constexpr size_t kFlushBytes = 1 << 20;

  AtomicFile file_;
  std::string buffer_;
  WordChecksum checksum_;
  absl::Status status_;
};

// Reads back what a CheckpointWriter wrote. Every method returns false at the end of the bytes or
// at a size that they cannot hold.
class CheckpointReader {
 public:
  // Checks the checksum at the end of `bytes`, which must outlive the reader.
  //   errors  DataLoss  they are damaged
  static absl::StatusOr<CheckpointReader> Create(absl::string_view bytes);

  template <typename T>
  bool Get(T* value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(value, bytes_.data(), sizeof(T));
    bytes_.remove_prefix(sizeof(T));
    return true;
  }
  template <typename T>
  bool GetVector(std::vector<T>* values) {
    static_assert(std::is_trivially_copyable_v<T>);
    uint64_t n = 0;
    if (!Get(&n) || n > bytes_.size() / sizeof(T)) return false;
    values->resize(n);
    if (n > 0) std::memcpy(values->data(), bytes_.data(), n * sizeof(T));
    bytes_.remove_prefix(n * sizeof(T));
    return true;
  }
  bool GetString(std::string* text) {
    uint64_t n = 0;
    if (!Get(&n) || n > bytes_.size()) return false;
    text->assign(bytes_.data(), n);
    bytes_.remove_prefix(n);
    return true;
  }
  // Bytes not yet read.
  size_t remaining() const { return bytes_.size(); }

 private:
  explicit CheckpointReader(absl::string_view bytes) : bytes_(bytes) {}
  absl::string_view bytes_;
};

}  // namespace featurescope
