#include "server/sae/weight_source.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/tensor/array_tensor.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

absl::string_view TorchName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "float64";
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    default:
      return "";
  }
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// The first bytes of a file; fewer where it is shorter.
absl::StatusOr<std::string> Head(const std::string& path, size_t n) {
  uint64_t size = 0;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path, &size));
  std::string head(std::min<uint64_t>(n, size), '\0');
  RETURN_IF_ERROR(ReadExactly(fd.get(), 0, absl::MakeSpan(head), path));
  return head;
}

}  // namespace

absl::StatusOr<WeightSource> WeightSource::Open(const std::string& path) {
  WeightSource source;
  source.path_ = path;
  ASSIGN_OR_RETURN(const std::string head, Head(path, 9));
  // A safetensors header is JSON after its length.
  if (head.size() == 9 && head[8] == '{') {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    source.file_ = std::make_unique<SafetensorsFile>(std::move(file));
    return source;
  }
  if (absl::StartsWith(head, "PK")) {
    // Both are zip archives; only one has .npy members alone.
    ASSIGN_OR_RETURN(const ZipArchive archive, ZipArchive::Open(path));
    const bool npz =
        std::all_of(archive.members().begin(), archive.members().end(),
                    [](const ZipMember& member) { return absl::EndsWith(member.name, ".npy"); });
    if (npz) {
      ASSIGN_OR_RETURN(NpzFile file, NpzFile::Open(path));
      source.file_ = std::make_unique<NpzFile>(std::move(file));
      return source;
    }
  } else if (!TorchFile::LooksLikeTorchFile(path)) {
    if (absl::EndsWith(path, ".safetensors")) {
      // The reader says what is wrong with it.
      RETURN_IF_ERROR(SafetensorsFile::Open(path).status());
    }
    return InvalidArgument(path, ": neither a safetensors, nor an .npz, nor a torch.save file");
  }
  ASSIGN_OR_RETURN(TorchFile file, TorchFile::Open(path));
  auto owned = std::make_unique<TorchFile>(std::move(file));
  if (!owned->root().is_dict()) {
    return InvalidArgument(path, ": holds ", owned->root().KindName(), " instead of a dict");
  }
  source.dict_ = &owned->root();
  source.file_ = std::move(owned);
  return source;
}

std::vector<std::string> WeightSource::names() const {
  std::vector<std::string> names;
  if (const auto* file = std::get_if<std::unique_ptr<SafetensorsFile>>(&file_)) {
    for (const TensorEntry& entry : (*file)->entries()) names.push_back(entry.name);
  } else if (const auto* npz = std::get_if<std::unique_ptr<NpzFile>>(&file_)) {
    for (const NpzArray& array : (*npz)->arrays()) names.push_back(array.name);
  } else {
    const TorchValue::Dict& dict = *dict_->AsDict();
    for (size_t i = 0; i < dict.keys.size(); ++i) {
      if (dict.keys[i].AsString() != nullptr && dict.values[i].is_tensor()) {
        names.push_back(*dict.keys[i].AsString());
      }
    }
  }
  return names;
}

bool WeightSource::Describe(absl::string_view name, std::vector<int64_t>* shape,
                            DType* dtype) const {
  const auto found = [&](const auto* tensor) {
    if (tensor == nullptr) return false;
    *shape = tensor->shape;
    *dtype = tensor->dtype;
    return true;
  };
  if (const auto* file = std::get_if<std::unique_ptr<SafetensorsFile>>(&file_)) {
    return found((*file)->Find(name));
  }
  if (const auto* npz = std::get_if<std::unique_ptr<NpzFile>>(&file_)) {
    return found((*npz)->Find(name));
  }
  return found(dict_->FindTensor(name));
}

bool WeightSource::Has(absl::string_view name) const {
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  return Describe(name, &shape, &dtype);
}

bool WeightSource::HasAll(absl::Span<const absl::string_view> names) const {
  return std::all_of(names.begin(), names.end(),
                     [this](absl::string_view name) { return Has(name); });
}

absl::StatusOr<std::vector<int64_t>> WeightSource::Shape(absl::string_view name) const {
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  if (!Describe(name, &shape, &dtype)) return NotFound(path_, ": no tensor ", name);
  return shape;
}

absl::StatusOr<std::pair<int64_t, int64_t>> WeightSource::MatrixShape(
    absl::string_view name) const {
  ASSIGN_OR_RETURN(const std::vector<int64_t> shape, Shape(name));
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    return InvalidArgument(path_, ": tensor ", name, " is ", ShapeText(shape),
                           ", which is no matrix");
  }
  return std::make_pair(shape[0], shape[1]);
}

absl::StatusOr<torch::Tensor> WeightSource::LoadAs(absl::string_view name,
                                                   absl::Span<const int64_t> shape,
                                                   torch::ScalarType dtype, torch::Device device) {
  std::vector<int64_t> actual;
  DType stored = DType::kF32;
  if (!Describe(name, &actual, &stored)) return NotFound(path_, ": no tensor ", name);
  if (absl::MakeConstSpan(actual) != shape) {
    return InvalidArgument(path_, ": tensor ", name, " has shape ", ShapeText(actual),
                           ", expected is ", ShapeText(shape));
  }
  used_.insert(std::string(name));
  if (!TorchName(stored).empty()) dtypes_.insert(std::string(TorchName(stored)));
  if (const auto* file = std::get_if<std::unique_ptr<SafetensorsFile>>(&file_)) {
    return LoadTensor(**file, name, shape, dtype, device);
  }
  if (const auto* npz = std::get_if<std::unique_ptr<NpzFile>>(&file_)) {
    return LoadTensor(**npz, name, shape, dtype, device);
  }
  return LoadTensor(*std::get<std::unique_ptr<TorchFile>>(file_), *dict_, name, shape, dtype,
                    device);
}

absl::StatusOr<torch::Tensor> WeightSource::Load(absl::string_view name,
                                                 absl::Span<const int64_t> shape,
                                                 torch::Device device) {
  return LoadAs(name, shape, torch::kFloat32, device);
}

absl::StatusOr<torch::Tensor> WeightSource::LoadTransposed(absl::string_view name, int64_t rows,
                                                           int64_t cols, torch::Device device) {
  ASSIGN_OR_RETURN(torch::Tensor tensor, Load(name, {rows, cols}, device));
  return TorchGate(absl::StrCat(path_, ": transposing ", name),
                   [&] { return tensor.t().contiguous(); });
}

absl::StatusOr<double> WeightSource::Scalar(absl::string_view name) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> shape, Shape(name));
  if (!shape.empty() && shape != std::vector<int64_t>{1}) {
    return InvalidArgument(path_, ": tensor ", name, " is ", ShapeText(shape),
                           " instead of one number");
  }
  ASSIGN_OR_RETURN(const torch::Tensor tensor, LoadAs(name, shape, torch::kFloat64, torch::kCPU));
  return tensor.item<double>();
}

absl::StatusOr<std::vector<int64_t>> WeightSource::Integers(absl::string_view name,
                                                            int64_t max_size) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> shape, Shape(name));
  if (shape.size() != 1 || shape[0] > max_size) {
    return InvalidArgument(path_, ": tensor ", name, " is ", ShapeText(shape),
                           " instead of at most ", max_size, " numbers");
  }
  ASSIGN_OR_RETURN(const torch::Tensor tensor, LoadAs(name, shape, torch::kInt64, torch::kCPU));
  const int64_t* values = tensor.data_ptr<int64_t>();
  return std::vector<int64_t>(values, values + shape[0]);
}

absl::Status WeightSource::CheckAllUsed(absl::string_view kind) const {
  for (const std::string& name : names()) {
    if (used_.find(name) == used_.end()) {
      return InvalidArgument(path_, ": tensor ", name, " is none of ", kind);
    }
  }
  return absl::OkStatus();
}

std::string WeightSource::dtype() const { return absl::StrJoin(dtypes_, ", "); }

absl::Status WeightSource::Enter(absl::string_view key) {
  const TorchValue* value = dict_ == nullptr ? nullptr : dict_->Find(key);
  if (value == nullptr || !value->is_dict()) {
    return InvalidArgument(path_, ": ", key, " is ",
                           value == nullptr ? "missing" : value->KindName(), " instead of a dict");
  }
  dict_ = value;
  return absl::OkStatus();
}

}  // namespace featurescope
