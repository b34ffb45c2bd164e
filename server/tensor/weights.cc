#include "server/tensor/weights.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// Converted at a time: small against any model, large against a read's cost.
constexpr int64_t kChunkElements = int64_t{1} << 20;

absl::StatusOr<DType> ToDType(torch::ScalarType type, absl::string_view name) {
  switch (type) {
    case torch::kFloat64:
      return DType::kF64;
    case torch::kFloat32:
      return DType::kF32;
    case torch::kFloat16:
      return DType::kF16;
    case torch::kBFloat16:
      return DType::kBF16;
    case torch::kInt64:
      return DType::kI64;
    case torch::kInt32:
      return DType::kI32;
    case torch::kInt16:
      return DType::kI16;
    case torch::kInt8:
      return DType::kI8;
    case torch::kUInt8:
      return DType::kU8;
    case torch::kBool:
      return DType::kBool;
    default:
      return Unimplemented("tensor ", name, ": safetensors files cannot hold dtype ",
                           c10::toString(type));
  }
}

// OK when all of `chunk` [n] is finite. `first_element` is its place in the tensor.
absl::Status CheckFinite(const torch::Tensor& chunk, int64_t first_element,
                         const SafetensorsFile& file, const TensorEntry& entry) {
  if (!chunk.is_floating_point()) return absl::OkStatus();
  const torch::Tensor finite = torch::isfinite(chunk.to(torch::kFloat32));
  if (finite.all().item<bool>()) return absl::OkStatus();
  const int64_t at = finite.logical_not().nonzero()[0].item<int64_t>();
  return InvalidArgument(file.path(), ": tensor ", entry.name, ": element ", first_element + at,
                         " is not finite (", chunk[at].item<double>(), ")");
}

absl::StatusOr<torch::Tensor> LoadInPieces(const SafetensorsFile& file, const TensorEntry& entry,
                                           torch::ScalarType dtype, torch::Device device) {
  // A byte other than 0 and 1 is no valid bool in memory: those are read as bytes.
  const torch::ScalarType stored =
      entry.dtype == DType::kBool ? torch::kUInt8 : ToScalarType(entry.dtype);
  const int64_t n = entry.n_elements();
  const int64_t element_bytes = DTypeSize(entry.dtype);
  torch::Tensor result = torch::empty({n}, torch::TensorOptions(dtype).device(device));
  torch::Tensor raw = torch::empty({std::min(n, kChunkElements)}, stored);
  for (int64_t begin = 0; begin < n; begin += kChunkElements) {
    const int64_t count = std::min(kChunkElements, n - begin);
    torch::Tensor chunk = raw.narrow(0, 0, count);
    RETURN_IF_ERROR(file.Read(entry,
                              absl::MakeSpan(static_cast<char*>(chunk.data_ptr()),
                                             static_cast<size_t>(count * element_bytes)),
                              static_cast<uint64_t>(begin * element_bytes)));
    if (entry.dtype == DType::kBool) chunk = chunk.ne(0);
    // Checked after the conversion: a value may be too large for the narrower type.
    const torch::Tensor converted = chunk.to(dtype);
    RETURN_IF_ERROR(CheckFinite(converted, begin, file, entry));
    result.narrow(0, begin, count).copy_(converted);
  }
  return result.view(entry.shape);
}

}  // namespace

torch::ScalarType ToScalarType(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return torch::kFloat64;
    case DType::kF32:
      return torch::kFloat32;
    case DType::kF16:
      return torch::kFloat16;
    case DType::kBF16:
      return torch::kBFloat16;
    case DType::kI64:
      return torch::kInt64;
    case DType::kI32:
      return torch::kInt32;
    case DType::kI16:
      return torch::kInt16;
    case DType::kI8:
      return torch::kInt8;
    case DType::kU8:
      return torch::kUInt8;
    case DType::kBool:
      return torch::kBool;
  }
  return torch::kFloat32;
}

absl::StatusOr<torch::Tensor> LoadTensor(const SafetensorsFile& file, const TensorEntry& entry,
                                         torch::ScalarType dtype, torch::Device device) {
  return TorchGate(absl::StrCat(file.path(), ": loading tensor ", entry.name),
                   [&] { return LoadInPieces(file, entry, dtype, device); });
}

absl::StatusOr<torch::Tensor> LoadTensor(const SafetensorsFile& file, absl::string_view name,
                                         absl::Span<const int64_t> shape, torch::ScalarType dtype,
                                         torch::Device device) {
  ASSIGN_OR_RETURN(const TensorEntry* entry, file.Get(name));
  bool fits = entry->shape.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] == -1 || shape[i] == entry->shape[i];
  }
  if (!fits) {
    return InvalidArgument(file.path(), ": tensor ", name, " has shape [",
                           absl::StrJoin(entry->shape, ", "), "], expected is [",
                           absl::StrJoin(shape, ", "), "] (-1: any size)");
  }
  return LoadTensor(file, *entry, dtype, device);
}

absl::Status SaveTensors(const std::string& path,
                         const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  std::vector<SafetensorsWriter::Spec> specs;
  for (const auto& [name, tensor] : tensors) {
    ASSIGN_OR_RETURN(const DType dtype, ToDType(tensor.scalar_type(), name));
    specs.push_back({name, dtype, tensor.sizes().vec()});
  }
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, std::move(specs)));
  for (const auto& [name, tensor] : tensors) {
    ASSIGN_OR_RETURN(const torch::Tensor bytes,
                     TorchGate(absl::StrCat(path, ": saving tensor ", name),
                               [&t = tensor] { return t.detach().to(torch::kCPU).contiguous(); }));
    RETURN_IF_ERROR(writer.Append(
        name, absl::MakeConstSpan(static_cast<const char*>(bytes.data_ptr()), bytes.nbytes())));
  }
  return writer.Finish();
}

}  // namespace featurescope
