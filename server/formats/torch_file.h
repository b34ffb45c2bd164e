// torch.save files (.pt, .pth, .bin): a tensors-only reader that executes nothing.
//
// Both containers are read: the zip archive of PyTorch >= 1.6 and the legacy stream before it. The
// pickle in them is read by a machine of our own with a list of allowed opcodes and of allowed
// globals (OrderedDict, tensors, parameters, storages, torch.Size, dtypes, devices, numpy scalars);
// any other global is an error that names it. A file that opens is consistent: every storage lies
// in the file, every tensor in its storage.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/file.h"
#include "server/formats/safetensors.h"
#include "server/formats/torch_value.h"

namespace featurescope {

constexpr uint64_t kMaxTorchPickleBytes = 16u << 20;
constexpr size_t kMaxTorchValues = 1u << 18;        // of the tree
constexpr size_t kMaxTorchStringBytes = 64u << 20;  // of all strings of the tree
constexpr int kMaxTorchDepth = 32;                  // of lists, tuples and dicts
constexpr size_t kMaxTorchStorages = 65536;

// An open, checked file. Const and thread-safe; reads with pread, never maps. Movable.
class TorchFile {
 public:
  // Takes pieces of a storage in their order; an error ends the reading.
  using Sink = std::function<absl::Status(absl::Span<const char> piece)>;

  // NotFound, PermissionDenied; InvalidArgument naming the file and what is broken or not allowed
  // (opcode, global, tensor, storage). A TorchScript archive is InvalidArgument: it is a program.
  static absl::StatusOr<TorchFile> Open(const std::string& path);

  // Whether `path` is one of the two containers, whatever it holds. Errors count as false.
  static bool LooksLikeTorchFile(const std::string& path);

  const TorchValue& root() const { return root_; }
  const std::vector<TorchStorage>& storages() const { return storages_; }
  const TorchStorage& storage_of(const TorchTensor& tensor) const {
    return storages_[tensor.storage];
  }

  // The tensor under `key` of the dict `dict`, a value of this file's tree.
  //   NotFound         there is no such key; the message names the file
  //   InvalidArgument  the value is no tensor
  absl::StatusOr<const TorchTensor*> GetTensor(const TorchValue& dict, absl::string_view key) const;

  // Reads out.size() bytes of a storage, starting `offset` bytes into it, without a look at its
  // check sum. OutOfRange when that is more than it has; DataLoss when the file has been shortened.
  absl::Status Read(const TorchStorage& storage, uint64_t offset, absl::Span<char> out) const;
  // Passes a storage on from first to last, in pieces of at most 1 MiB, whole elements each, and
  // compares its check sum where it has one: InvalidArgument when the bytes are damaged.
  absl::Status Stream(const TorchStorage& storage, const Sink& sink) const;
  // Stream without a taker.
  absl::Status Verify(const TorchStorage& storage) const;

  const std::string& path() const { return path_; }
  // Written by PyTorch < 1.6 (or by _use_new_zipfile_serialization=False).
  bool legacy() const { return legacy_; }

 private:
  std::string path_;
  UniqueFd fd_;
  bool legacy_ = false;
  TorchValue root_;
  std::vector<TorchStorage> storages_;
};

}  // namespace featurescope
