// safetensors files: strict reading of untrusted headers, streaming writing.
//
//   8 bytes  N, the header's length, little-endian
//   N bytes  JSON: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ...,
//            "__metadata__": {"key": "value"}}
//   the rest tensor bytes, row-major, little-endian; the tensors cover it without hole or overlap
//
// A file that opens is consistent: every tensor's bytes lie inside the file and match its shape.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/file.h"

namespace featurescope {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes of one element.
int DTypeSize(DType dtype);
// As safetensors spells it: F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL.
absl::string_view DTypeName(DType dtype);

constexpr uint64_t kMaxSafetensorsHeaderBytes = 16u << 20;
constexpr size_t kMaxSafetensorsTensors = 65536;
constexpr size_t kMaxTensorNameBytes = 512;
constexpr size_t kMaxTensorDims = 16;

struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // empty: a scalar
  uint64_t begin = 0;          // offsets in the data part of the file
  uint64_t end = 0;

  uint64_t bytes() const { return end - begin; }
  int64_t n_elements() const;
};

// An open, checked file. Const and thread-safe; reads with pread, never maps. Movable.
class SafetensorsFile {
 public:
  // NotFound, PermissionDenied; InvalidArgument naming the file, the tensor and the rule that is
  // broken.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  // In the order of their bytes in the file.
  const std::vector<TensorEntry>& entries() const { return entries_; }
  // nullptr when there is no tensor of this name.
  const TensorEntry* Find(absl::string_view name) const;
  // Find, or NotFound naming the file and the tensor.
  absl::StatusOr<const TensorEntry*> Get(absl::string_view name) const;

  // Reads out.size() bytes of a tensor, starting `offset_in_tensor` bytes into it, as they lie in
  // the file (little-endian). OutOfRange when that is more than the tensor has; DataLoss when the
  // file has been shortened meanwhile.
  absl::Status Read(const TensorEntry& entry, absl::Span<char> out,
                    uint64_t offset_in_tensor = 0) const;

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }
  uint64_t data_bytes() const { return data_bytes_; }

 private:
  std::string path_;
  UniqueFd fd_;
  uint64_t data_start_ = 0;
  uint64_t data_bytes_ = 0;
  std::vector<TensorEntry> entries_;
  absl::flat_hash_map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

// Writes a file that the reference implementation loads: header padded with spaces to 8 bytes,
// tensors in the order given. It appears under `path` only when Finish() succeeds. Not thread-safe.
class SafetensorsWriter {
 public:
  struct Spec {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
  };

  // Fixes names, types and shapes. Tensors with wider elements should come first where alignment
  // matters to readers that map the file. InvalidArgument: duplicate or too long name, negative
  // dimension, size overflow.
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& path, std::vector<Spec> specs,
                                                  std::map<std::string, std::string> metadata = {});

  // Appends some of a tensor's bytes (little-endian). Tensors must come in the order of `specs`,
  // each complete before the next begins. FailedPrecondition otherwise, or when there are too many
  // bytes; ResourceExhausted naming the file when the disk is full.
  absl::Status Append(absl::string_view name, absl::Span<const char> bytes);

  // FailedPrecondition naming the first incomplete tensor. REQUIRES: called at most once, last.
  absl::Status Finish();

 private:
  SafetensorsWriter(AtomicFile file, std::vector<TensorEntry> entries);
  // Moves on past tensors that have all their bytes (also those of no bytes).
  void SkipComplete();

  AtomicFile file_;
  std::vector<TensorEntry> entries_;
  size_t current_ = 0;
  uint64_t written_ = 0;  // data bytes so far
};

}  // namespace featurescope
