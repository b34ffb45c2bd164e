// Writes a state_dict as torch.save does, for torch.load(weights_only=True).
//
// The zip container of PyTorch >= 1.6: data.pkl, an OrderedDict of contiguous tensors on the CPU,
// and one stored member per tensor, its bytes aligned to 64. The same tensors give the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/file.h"
#include "server/formats/safetensors.h"

namespace featurescope {

// A file that appears under `path` only when Finish() succeeds. Not thread-safe.
class TorchStateDictWriter {
 public:
  struct Spec {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;  // empty: a scalar
  };

  // Fixes names, types, shapes and their order. InvalidArgument: duplicate, too long or not UTF-8
  // name, negative dimension, size overflow.
  static absl::StatusOr<TorchStateDictWriter> Create(const std::string& path,
                                                     const std::vector<Spec>& specs);

  // Appends some of a tensor's bytes (row-major, little-endian). Tensors must come in the order of
  // `specs`, each complete before the next begins. FailedPrecondition otherwise, or when there are
  // too many bytes; ResourceExhausted naming the file when the disk is full.
  absl::Status Append(absl::string_view name, absl::Span<const char> bytes);

  // FailedPrecondition naming the first incomplete tensor. REQUIRES: called at most once, last.
  absl::Status Finish();

 private:
  struct Record {
    std::string name;
    uint64_t bytes = 0;
    uint64_t header_offset = 0;
    uint32_t crc32 = 0;
  };
  struct Tensor {
    std::string name;
    uint64_t bytes = 0;
  };

  TorchStateDictWriter(AtomicFile file, std::vector<Tensor> tensors);
  absl::Status BeginRecord(absl::string_view name, uint64_t bytes);
  absl::Status AppendToRecord(absl::string_view bytes);
  absl::Status EndRecord();
  absl::Status WriteRecord(absl::string_view name, absl::string_view content);
  // Begins the record of the tensor that is due; those of no bytes are written on the way.
  absl::Status BeginTensors();
  absl::Status WriteDirectory();

  AtomicFile file_;
  std::vector<Tensor> tensors_;
  std::vector<Record> records_;
  size_t current_ = 0;    // the tensor that is due
  uint64_t written_ = 0;  // bytes of it so far
};

}  // namespace featurescope
