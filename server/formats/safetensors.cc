#include "server/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/tensor_shape.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor bytes are little-endian");

constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr int kMaxHeaderDepth = 4;
constexpr uint64_t kLengthBytes = 8;

struct DTypeRow {
  DType dtype;
  absl::string_view name;
  int bytes;
};
constexpr DTypeRow kDTypes[] = {
    {DType::kF64, "F64", 8},   {DType::kF32, "F32", 4}, {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2}, {DType::kI64, "I64", 8}, {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},   {DType::kI8, "I8", 1},   {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
};

// For error messages: names come from untrusted files.
std::string Quoted(absl::string_view name) {
  return absl::StrCat("\"", PrintableUtf8(name, 200), "\"");
}

bool IsUtf8(absl::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

absl::StatusOr<DType> ParseDType(const Json& json, const std::string& where) {
  if (!json.is_string()) return InvalidArgument(where, ": dtype must be a string");
  const std::string& name = json.get_ref<const std::string&>();
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  return InvalidArgument(where, ": dtype ", Quoted(name),
                         " is not supported; known are F64, F32, F16, BF16, I64, I32, I16, I8, U8 "
                         "and BOOL");
}

absl::StatusOr<uint64_t> ParseUnsigned(const Json& json, const std::string& where,
                                       absl::string_view what) {
  if (!json.is_number_unsigned()) {
    return InvalidArgument(where, ": ", what, " must be an integer >= 0, it is ",
                           json.dump(-1, ' ', true).substr(0, 60));
  }
  return json.get<uint64_t>();
}

absl::StatusOr<std::vector<int64_t>> ParseShape(const Json& json, const std::string& where) {
  if (!json.is_array()) return InvalidArgument(where, ": shape must be an array");
  if (json.size() > kMaxTensorDims) {
    return InvalidArgument(where, ": ", json.size(), " dimensions, at most ", kMaxTensorDims,
                           " are allowed");
  }
  std::vector<int64_t> shape;
  for (const Json& dim : json) {
    ASSIGN_OR_RETURN(const uint64_t size, ParseUnsigned(dim, where, "a dimension"));
    if (size > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument(where, ": dimension ", size, " is larger than 63 bits");
    }
    shape.push_back(static_cast<int64_t>(size));
  }
  return shape;
}

absl::StatusOr<TensorEntry> ParseEntry(const std::string& name, const Json& json,
                                       uint64_t data_bytes, const std::string& path) {
  const std::string where = absl::StrCat(path, ": tensor ", Quoted(name));
  if (name.size() > kMaxTensorNameBytes) {
    return InvalidArgument(where, ": name of ", name.size(), " bytes, at most ",
                           kMaxTensorNameBytes, " are allowed");
  }
  if (!json.is_object()) return InvalidArgument(where, ": must be an object");
  const Json* dtype = JsonFind(json, "dtype");
  const Json* shape = JsonFind(json, "shape");
  const Json* offsets = JsonFind(json, "data_offsets");
  if (dtype == nullptr || shape == nullptr || offsets == nullptr || json.size() != 3) {
    return InvalidArgument(where, ": must have dtype, shape and data_offsets and nothing else");
  }
  TensorEntry entry;
  entry.name = name;
  ASSIGN_OR_RETURN(entry.dtype, ParseDType(*dtype, where));
  ASSIGN_OR_RETURN(entry.shape, ParseShape(*shape, where));
  ASSIGN_OR_RETURN(const uint64_t bytes, CheckedTensorBytes(entry.dtype, entry.shape, where));
  if (!offsets->is_array() || offsets->size() != 2) {
    return InvalidArgument(where, ": data_offsets must be [begin, end]");
  }
  ASSIGN_OR_RETURN(entry.begin, ParseUnsigned((*offsets)[0], where, "data_offsets[0]"));
  ASSIGN_OR_RETURN(entry.end, ParseUnsigned((*offsets)[1], where, "data_offsets[1]"));
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return InvalidArgument(where, ": data_offsets [", entry.begin, ", ", entry.end,
                           "] do not lie in order within the ", data_bytes, " bytes of data");
  }
  if (entry.bytes() != bytes) {
    return InvalidArgument(where, ": ", DTypeName(entry.dtype), " [",
                           absl::StrJoin(entry.shape, ", "), "] needs ", bytes,
                           " bytes, data_offsets give it ", entry.bytes());
  }
  return entry;
}

absl::Status ParseMetadata(const Json& json, const std::string& path,
                           std::map<std::string, std::string>* metadata) {
  if (!json.is_object()) return InvalidArgument(path, ": ", kMetadataKey, " must be an object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      return InvalidArgument(path, ": ", kMetadataKey, " ", Quoted(key), " must be a string");
    }
    (*metadata)[key] = value.get<std::string>();
  }
  return absl::OkStatus();
}

// The tensors, sorted by their bytes, must cover the data exactly.
absl::Status CheckLayout(const std::vector<TensorEntry>& entries, uint64_t data_bytes,
                         const std::string& path) {
  uint64_t end = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != end) {
      return InvalidArgument(path, ": tensor ", Quoted(entry.name), " begins at byte ", entry.begin,
                             " of the data, the one before ends at ", end,
                             entry.begin < end ? " (overlap)" : " (hole)");
    }
    end = entry.end;
  }
  if (end != data_bytes) {
    return InvalidArgument(path, ": the last tensor ends at byte ", end, " of ", data_bytes,
                           " bytes of data (truncated header or trailing bytes)");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadHeader(int fd, uint64_t file_bytes, const std::string& path) {
  if (file_bytes < kLengthBytes) {
    return InvalidArgument(path, ": ", file_bytes, " bytes are no safetensors file");
  }
  uint64_t header_bytes = 0;
  char length[kLengthBytes];
  RETURN_IF_ERROR(ReadExactly(fd, 0, absl::MakeSpan(length, kLengthBytes), path));
  std::memcpy(&header_bytes, length, kLengthBytes);
  // Compared before anything is added to it.
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return InvalidArgument(path, ": header of ", header_bytes, " bytes, at most ",
                           kMaxSafetensorsHeaderBytes, " are allowed (no safetensors file?)");
  }
  if (header_bytes > file_bytes - kLengthBytes) {
    return InvalidArgument(path, ": header of ", header_bytes, " bytes in a file of ", file_bytes,
                           " bytes (truncated?)");
  }
  std::string header(header_bytes, '\0');
  RETURN_IF_ERROR(ReadExactly(fd, kLengthBytes, absl::MakeSpan(&header[0], header.size()), path));
  if (header.empty() || header[0] != '{') {
    return InvalidArgument(path, ": the header does not begin with '{' (no safetensors file?)");
  }
  return header;
}

std::string HeaderText(const std::vector<TensorEntry>& entries,
                       const std::map<std::string, std::string>& metadata) {
  // Built by hand to keep the tensors in the order of their bytes.
  std::string header = "{";
  if (!metadata.empty()) {
    absl::StrAppend(&header, "\"", kMetadataKey, "\":", Json(metadata).dump(), ",");
  }
  for (const TensorEntry& entry : entries) {
    absl::StrAppend(&header, Json(entry.name).dump(), ":{\"dtype\":\"", DTypeName(entry.dtype),
                    "\",\"shape\":[", absl::StrJoin(entry.shape, ","), "],\"data_offsets\":[",
                    entry.begin, ",", entry.end, "]},");
  }
  if (header.back() == ',') header.pop_back();
  header.push_back('}');
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

}  // namespace

int DTypeSize(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].bytes; }

absl::string_view DTypeName(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

int64_t TensorEntry::n_elements() const { return static_cast<int64_t>(bytes()) / DTypeSize(dtype); }

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile file;
  file.path_ = path;
  uint64_t file_bytes = 0;
  ASSIGN_OR_RETURN(file.fd_, OpenForReading(path, &file_bytes));
  ASSIGN_OR_RETURN(const std::string header, ReadHeader(file.fd_.get(), file_bytes, path));
  file.data_start_ = kLengthBytes + header.size();
  file.data_bytes_ = file_bytes - file.data_start_;
  ASSIGN_OR_RETURN(const Json json,
                   ParseJson(header, absl::StrCat(path, ": header"), kMaxHeaderDepth));
  if (json.size() > kMaxSafetensorsTensors + 1) {
    return InvalidArgument(path, ": ", json.size(), " tensors, at most ", kMaxSafetensorsTensors,
                           " are allowed");
  }
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadataKey) {
      RETURN_IF_ERROR(ParseMetadata(value, path, &file.metadata_));
      continue;
    }
    ASSIGN_OR_RETURN(TensorEntry entry, ParseEntry(name, value, file.data_bytes_, path));
    file.entries_.push_back(std::move(entry));
  }
  std::sort(file.entries_.begin(), file.entries_.end(),
            [](const TensorEntry& a, const TensorEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  RETURN_IF_ERROR(CheckLayout(file.entries_, file.data_bytes_, path));
  for (size_t i = 0; i < file.entries_.size(); ++i) file.by_name_[file.entries_[i].name] = i;
  return file;
}

const TensorEntry* SafetensorsFile::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

absl::StatusOr<const TensorEntry*> SafetensorsFile::Get(absl::string_view name) const {
  const TensorEntry* entry = Find(name);
  if (entry == nullptr) return NotFound(path_, ": has no tensor ", Quoted(name));
  return entry;
}

absl::Status SafetensorsFile::Read(const TensorEntry& entry, absl::Span<char> out,
                                   uint64_t offset_in_tensor) const {
  if (entry.begin > entry.end || entry.end > data_bytes_ || offset_in_tensor > entry.bytes() ||
      out.size() > entry.bytes() - offset_in_tensor) {
    return OutOfRange(path_, ": tensor ", Quoted(entry.name), ": bytes [", offset_in_tensor, ", +",
                      out.size(), ") are out of range [0, ", entry.bytes(), ")");
  }
  return ReadExactly(fd_.get(), data_start_ + entry.begin + offset_in_tensor, out,
                     absl::StrCat(path_, ": tensor ", Quoted(entry.name)));
}

SafetensorsWriter::SafetensorsWriter(AtomicFile file, std::vector<TensorEntry> entries)
    : file_(std::move(file)), entries_(std::move(entries)) {
  SkipComplete();
}

void SafetensorsWriter::SkipComplete() {
  while (current_ < entries_.size() && entries_[current_].end == written_) ++current_;
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(
    const std::string& path, std::vector<Spec> specs, std::map<std::string, std::string> metadata) {
  absl::flat_hash_set<absl::string_view> names;
  std::vector<TensorEntry> entries;
  uint64_t end = 0;
  if (specs.size() > kMaxSafetensorsTensors) {
    return InvalidArgument(path, ": ", specs.size(), " tensors, at most ", kMaxSafetensorsTensors,
                           " are allowed");
  }
  for (const Spec& spec : specs) {
    const std::string where = absl::StrCat(path, ": tensor ", Quoted(spec.name));
    if (spec.name.size() > kMaxTensorNameBytes || spec.name == kMetadataKey ||
        !names.insert(spec.name).second || !IsUtf8(spec.name)) {
      return InvalidArgument(where, ": name is too long, reserved, no UTF-8 or given twice");
    }
    ASSIGN_OR_RETURN(const uint64_t bytes, CheckedTensorBytes(spec.dtype, spec.shape, where));
    if (bytes > static_cast<uint64_t>(INT64_MAX) - end) {
      return InvalidArgument(where, ": the file would exceed 63 bits of bytes");
    }
    entries.push_back({spec.name, spec.dtype, spec.shape, end, end + bytes});
    end += bytes;
  }
  for (const auto& [key, value] : metadata) {
    if (!IsUtf8(key) || !IsUtf8(value)) {
      return InvalidArgument(path, ": metadata ", Quoted(key), " is no valid UTF-8");
    }
  }
  const std::string header = HeaderText(entries, metadata);
  if (header.size() > kMaxSafetensorsHeaderBytes) {
    return InvalidArgument(path, ": header of ", header.size(), " bytes, at most ",
                           kMaxSafetensorsHeaderBytes, " are allowed");
  }
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  const uint64_t header_bytes = header.size();
  char length[kLengthBytes];
  std::memcpy(length, &header_bytes, kLengthBytes);
  RETURN_IF_ERROR(file.Append(absl::string_view(length, kLengthBytes)));
  RETURN_IF_ERROR(file.Append(header));
  return SafetensorsWriter(std::move(file), std::move(entries));
}

absl::Status SafetensorsWriter::Append(absl::string_view name, absl::Span<const char> bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (current_ >= entries_.size() || entries_[current_].name != name) {
    return FailedPrecondition(
        file_.path(), ": bytes of tensor ", Quoted(name), " came when ",
        current_ < entries_.size() ? Quoted(entries_[current_].name) : "no tensor", " was due");
  }
  const TensorEntry& entry = entries_[current_];
  if (bytes.size() > entry.end - written_) {
    return FailedPrecondition(file_.path(), ": tensor ", Quoted(name), " got ",
                              written_ - entry.begin + bytes.size(), " bytes, it has ",
                              entry.bytes());
  }
  RETURN_IF_ERROR(file_.Append(absl::string_view(bytes.data(), bytes.size())));
  written_ += bytes.size();
  SkipComplete();
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  if (current_ < entries_.size()) {
    const TensorEntry& entry = entries_[current_];
    return FailedPrecondition(file_.path(), ": tensor ", Quoted(entry.name),
                              " is incomplete: ", written_ - entry.begin, " of ", entry.bytes(),
                              " bytes");
  }
  return file_.Commit();
}

}  // namespace featurescope
