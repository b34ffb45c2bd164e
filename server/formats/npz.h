// .npz files (np.savez, np.savez_compressed): strict, bounded reading of plain numeric arrays.
//
// A zip archive of .npy members, each a short header (a Python dict literal, read by a small parser
// of its own, never evaluated) and the elements. Object arrays, and with them pickles, structured
// types, text and big-endian numbers are refused. Which arrays a file has is known after Open;
// elements are read when asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/safetensors.h"
#include "server/formats/zip_archive.h"

namespace featurescope {

constexpr size_t kMaxNpyHeaderBytes = 64u << 10;

struct NpzArray {
  std::string name;  // as np.load spells it: the member's name without ".npy"
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // empty: a scalar
  bool fortran_order = false;  // the first index runs fastest
  uint64_t n_elements = 0;     // product of the shape
  uint64_t bytes = 0;          // n_elements * DTypeSize(dtype)
  size_t member = 0;           // place in the archive
  uint64_t offset = 0;         // of the first element in the member
};

// An open, checked file. Const and thread-safe. Movable.
class NpzFile {
 public:
  // NotFound, PermissionDenied; InvalidArgument naming the file, the array and the rule that is
  // broken.
  static absl::StatusOr<NpzFile> Open(const std::string& path);

  // Whether `path` is a zip archive that begins with a .npy member. Errors count as false.
  static bool LooksLikeNpz(const std::string& path);

  // In the order of the file.
  const std::vector<NpzArray>& arrays() const { return arrays_; }
  // nullptr when there is no array of this name.
  const NpzArray* Find(absl::string_view name) const;
  // Find, or NotFound naming the file and the array.
  absl::StatusOr<const NpzArray*> Get(absl::string_view name) const;

  // Passes an array's bytes on in pieces of at most 1 MiB, whole elements each, little-endian, in
  // the order they are stored (see fortran_order).
  //   InvalidArgument  the member is damaged (inflating, length, CRC)
  //   DataLoss         the file has been shortened meanwhile
  absl::Status Stream(const NpzArray& array, const ZipArchive::Sink& sink) const;
  // The same into memory. REQUIRES: out.size() == array.bytes.
  absl::Status Read(const NpzArray& array, absl::Span<char> out) const;

  const std::string& path() const { return archive_.path(); }

 private:
  explicit NpzFile(ZipArchive archive) : archive_(std::move(archive)) {}

  ZipArchive archive_;
  std::vector<NpzArray> arrays_;
  absl::flat_hash_map<std::string, size_t> by_name_;
};

}  // namespace featurescope
