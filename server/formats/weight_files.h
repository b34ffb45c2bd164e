// A model's weights: model.safetensors, or the shards that model.safetensors.index.json lists.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/safetensors.h"

namespace featurescope {

// All tensors of a model directory under one roof. Const and thread-safe. Movable.
class WeightFiles {
 public:
  struct Found {
    const SafetensorsFile* file = nullptr;  // nullptr: no tensor of this name
    const TensorEntry* entry = nullptr;
    explicit operator bool() const { return entry != nullptr; }
  };

  // Opens and checks every file. A file may be a link only where it leads into `dir` or one of
  // `more_roots` (a hub cache links its snapshots to its blobs).
  //
  //   NotFound          neither model.safetensors nor the index is there
  //   InvalidArgument   a bad file; a shard name that is no plain base name; weight_map and shards
  //                     disagree
  //   PermissionDenied  a link leads out
  static absl::StatusOr<WeightFiles> Open(const std::string& dir,
                                          absl::Span<const std::string> more_roots = {});

  Found Find(absl::string_view name) const;
  // Every tensor, file by file in the order of the files' names.
  std::vector<Found> All() const;
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_;
  std::vector<SafetensorsFile> files_;
  absl::flat_hash_map<std::string, std::pair<size_t, size_t>> by_name_;  // file, entry
};

}  // namespace featurescope
