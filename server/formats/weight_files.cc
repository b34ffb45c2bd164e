#include "server/formats/weight_files.h"

#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

constexpr absl::string_view kSingleName = "model.safetensors";
constexpr absl::string_view kIndexName = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = 64u << 20;
constexpr size_t kMaxShards = 1024;

bool IsPlainBaseName(absl::string_view name) {
  if (name.empty() || name.size() > 255 || name[0] == '.') return false;
  for (char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') {
      return false;
    }
  }
  return true;
}

// weight_map turned round: shard -> its tensors.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonFile(path, kMaxIndexBytes));
  const nlohmann::json* weight_map = JsonFind(index, "weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty()) {
    return InvalidArgument(path, ": weight_map is missing, empty or no object");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string() || !IsPlainBaseName(shard.get_ref<const std::string&>())) {
      return InvalidArgument(path, ": weight_map[\"", PrintableUtf8(tensor, 200), "\"] is ",
                             shard.dump(-1, ' ', true).substr(0, 200),
                             ", it must be the plain name of a file in the same directory");
    }
    shards[shard.get<std::string>()].push_back(tensor);
    if (shards.size() > kMaxShards) {
      return InvalidArgument(path, ": more than ", kMaxShards, " shards");
    }
  }
  return shards;
}

absl::Status CheckShard(const SafetensorsFile& file, const std::vector<std::string>& tensors,
                        const std::string& index_path) {
  for (const std::string& tensor : tensors) {
    if (file.Find(tensor) == nullptr) {
      return InvalidArgument(index_path, ": weight_map puts tensor \"", PrintableUtf8(tensor, 200),
                             "\" into ", file.path(), ", which does not have it");
    }
  }
  if (tensors.size() == file.entries().size()) return absl::OkStatus();
  absl::flat_hash_map<absl::string_view, bool> listed;
  for (const std::string& tensor : tensors) listed[tensor] = true;
  for (const TensorEntry& entry : file.entries()) {
    if (!listed.contains(entry.name)) {
      return InvalidArgument(file.path(), ": tensor \"", PrintableUtf8(entry.name, 200),
                             "\" is not where the weight_map of ", index_path, " puts it");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WeightFiles> WeightFiles::Open(const std::string& dir,
                                              absl::Span<const std::string> more_roots) {
  WeightFiles weights;
  weights.dir_ = dir;
  std::vector<std::string> roots(more_roots.begin(), more_roots.end());
  roots.push_back(dir);

  const std::string index_path = JoinPath(dir, kIndexName);
  std::map<std::string, std::vector<std::string>> shards;
  const bool single = FileExists(JoinPath(dir, kSingleName));
  if (single) {
    shards[std::string(kSingleName)] = {};
  } else if (FileExists(index_path)) {
    ASSIGN_OR_RETURN(const std::string index, ResolveWithin(roots, index_path));
    ASSIGN_OR_RETURN(shards, ReadIndex(index));
  } else {
    return NotFound(dir, ": has neither ", kSingleName, " nor ", kIndexName,
                    FileExists(JoinPath(dir, "pytorch_model.bin"))
                        ? "; pytorch_model.bin is not read, convert it to safetensors"
                        : "");
  }
  for (const auto& [name, tensors] : shards) {
    ASSIGN_OR_RETURN(const std::string path, ResolveWithin(roots, JoinPath(dir, name)));
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    if (!single) RETURN_IF_ERROR(CheckShard(file, tensors, index_path));
    const size_t file_index = weights.files_.size();
    for (size_t i = 0; i < file.entries().size(); ++i) {
      weights.by_name_[file.entries()[i].name] = {file_index, i};
    }
    weights.files_.push_back(std::move(file));
  }
  return weights;
}

WeightFiles::Found WeightFiles::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return {};
  const auto [file, entry] = found->second;
  return {&files_[file], &files_[file].entries()[entry]};
}

std::vector<WeightFiles::Found> WeightFiles::All() const {
  std::vector<Found> all;
  for (const SafetensorsFile& file : files_) {
    for (const TensorEntry& entry : file.entries()) all.push_back({&file, &entry});
  }
  return all;
}

}  // namespace featurescope
