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

// The place of the first of n values whose exponent bits are all ones; n where there is none.
template <typename Bits>
int64_t FirstNonFinite(const void* values, int64_t n, Bits exponent) {
  constexpr int64_t kBlock = 4096;  // looked through without a branch
  const Bits* bits = static_cast<const Bits*>(values);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, n);
    Bits found = 0;
    for (int64_t i = begin; i < end; ++i) found |= (bits[i] & exponent) == exponent;
    if (found == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      if ((bits[i] & exponent) == exponent) return i;
    }
  }
  return n;
}

int64_t FirstNonFinite(const torch::Tensor& values) {
  const int64_t n = values.numel();
  switch (values.scalar_type()) {
    case torch::kFloat64:
      return FirstNonFinite<uint64_t>(values.data_ptr(), n, 0x7ff0000000000000);
    case torch::kFloat32:
      return FirstNonFinite<uint32_t>(values.data_ptr(), n, 0x7f800000);
    case torch::kBFloat16:
      return FirstNonFinite<uint16_t>(values.data_ptr(), n, 0x7f80);
    case torch::kFloat16:
      return FirstNonFinite<uint16_t>(values.data_ptr(), n, 0x7c00);
    default:
      return n;
  }
}

// OK when all of `chunk` [n], on the CPU, is finite. `first_element` is its place in the tensor.
absl::Status CheckFinite(const torch::Tensor& chunk, int64_t first_element,
                         const SafetensorsFile& file, const TensorEntry& entry) {
  const int64_t at = FirstNonFinite(chunk);
  if (at == chunk.numel()) return absl::OkStatus();
  return InvalidArgument(file.path(), ": tensor ", entry.name, ": element ", first_element + at,
                         " is not finite (", chunk[at].item<double>(), ")");
}

absl::Status LoadInPieces(const SafetensorsFile& file, const TensorEntry& entry,
                          int64_t first_element, const torch::Tensor& destination) {
  // A byte other than 0 and 1 is no valid bool in memory: those are read as bytes.
  const torch::ScalarType stored =
      entry.dtype == DType::kBool ? torch::kUInt8 : ToScalarType(entry.dtype);
  const int64_t n = destination.numel();
  const int64_t element_bytes = DTypeSize(entry.dtype);
  const torch::Tensor flat = destination.view({n});
  const bool in_place = flat.device().is_cpu() && flat.scalar_type() == stored;
  const torch::Tensor buffer =
      in_place ? torch::Tensor() : torch::empty({std::min(n, kChunkElements)}, stored);
  for (int64_t begin = 0; begin < n; begin += kChunkElements) {
    const int64_t count = std::min(kChunkElements, n - begin);
    const torch::Tensor to = flat.narrow(0, begin, count);
    torch::Tensor chunk = in_place ? to : buffer.narrow(0, 0, count);
    RETURN_IF_ERROR(file.Read(entry,
                              absl::MakeSpan(static_cast<char*>(chunk.data_ptr()),
                                             static_cast<size_t>(count * element_bytes)),
                              static_cast<uint64_t>((first_element + begin) * element_bytes)));
    if (entry.dtype == DType::kBool) chunk = chunk.ne(0);
    // Checked after the conversion: a value may be too large for the narrower type.
    if (flat.device().is_cpu()) {
      if (!in_place) to.copy_(chunk);
      RETURN_IF_ERROR(CheckFinite(to, first_element + begin, file, entry));
    } else {
      const torch::Tensor converted = chunk.to(flat.scalar_type());
      RETURN_IF_ERROR(CheckFinite(converted, first_element + begin, file, entry));
      to.copy_(converted);
    }
  }
  return absl::OkStatus();
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
                   [&]() -> absl::StatusOr<torch::Tensor> {
                     const torch::Tensor tensor =
                         torch::empty(entry.shape, torch::TensorOptions(dtype).device(device));
                     RETURN_IF_ERROR(LoadInPieces(file, entry, 0, tensor));
                     return tensor;
                   });
}

absl::Status LoadTensorInto(const SafetensorsFile& file, const TensorEntry& entry,
                            int64_t first_element, const torch::Tensor& destination) {
  return TorchGate(absl::StrCat(file.path(), ": loading tensor ", entry.name),
                   [&] { return LoadInPieces(file, entry, first_element, destination); });
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
