#include "server/model/weight_reader.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"

namespace featurescope {

WeightReader::WeightReader(const WeightFiles& files, torch::ScalarType dtype, torch::Device device,
                           std::function<void(uint64_t, uint64_t)> progress)
    : files_(files), dtype_(dtype), device_(device), progress_(std::move(progress)) {
  for (const SafetensorsFile& file : files_.files()) bytes_in_all_ += file.data_bytes();
}

absl::StatusOr<torch::Tensor> WeightReader::NewTensor(absl::Span<const int64_t> shape,
                                                      torch::ScalarType dtype) const {
  return TorchGate("making room for weights", [&] {
    return torch::empty(torch::IntArrayRef(shape.data(), shape.size()),
                        torch::TensorOptions(dtype).device(device_));
  });
}

absl::StatusOr<torch::Tensor> WeightReader::NewTensorFor(absl::string_view name,
                                                         absl::Span<const int64_t> shape) const {
  RETURN_IF_ERROR(CheckShape(name, shape));
  return NewTensor(shape, dtype_);
}

absl::Status WeightReader::CheckShape(absl::string_view name,
                                      absl::Span<const int64_t> shape) const {
  const WeightFiles::Found found = files_.Find(name);
  if (!found) return InvalidArgument(files_.dir(), ": tensor ", name, " is missing");
  if (absl::MakeConstSpan(found.entry->shape) != shape) {
    return InvalidArgument(found.file->path(), ": tensor ", name, " has shape [",
                           absl::StrJoin(found.entry->shape, ", "), "], config.json asks for [",
                           absl::StrJoin(shape, ", "), "]");
  }
  return absl::OkStatus();
}

absl::Status WeightReader::ReadParts(absl::string_view name, absl::Span<const int64_t> shape,
                                     absl::Span<const torch::Tensor> parts) {
  RETURN_IF_ERROR(CheckShape(name, shape));
  const WeightFiles::Found found = files_.Find(name);
  int64_t begin = 0;
  for (const torch::Tensor& part : parts) {
    RETURN_IF_ERROR(LoadTensorInto(*found.file, *found.entry, begin, part));
    begin += part.numel();
  }
  if (begin != found.entry->n_elements()) {
    return Internal("the parts of ", name, " have ", begin, " elements, not ",
                    found.entry->n_elements());
  }
  used_.insert(std::string(name));
  bytes_read_ += found.entry->bytes();
  if (progress_) progress_(bytes_read_, bytes_in_all_);
  return absl::OkStatus();
}

absl::StatusOr<torch::Tensor> WeightReader::ReadAs(torch::ScalarType dtype, absl::string_view name,
                                                   absl::Span<const int64_t> shape) {
  RETURN_IF_ERROR(CheckShape(name, shape));
  ASSIGN_OR_RETURN(torch::Tensor tensor, NewTensor(shape, dtype));
  RETURN_IF_ERROR(ReadParts(name, shape, {tensor}));
  return tensor;
}

absl::StatusOr<torch::Tensor> WeightReader::Read(absl::string_view name,
                                                 absl::Span<const int64_t> shape) {
  return ReadAs(dtype_, name, shape);
}

absl::StatusOr<torch::Tensor> WeightReader::ReadStacked(absl::Span<const std::string> names,
                                                        absl::Span<const int64_t> rows,
                                                        int64_t columns) {
  const auto shape_of = [columns](int64_t n) {
    return columns > 0 ? std::vector<int64_t>{n, columns} : std::vector<int64_t>{n};
  };
  int64_t n_rows = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    RETURN_IF_ERROR(CheckShape(names[i], shape_of(rows[i])));
    n_rows += rows[i];
  }
  ASSIGN_OR_RETURN(torch::Tensor stacked, NewTensor(shape_of(n_rows), dtype_));
  int64_t begin = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    RETURN_IF_ERROR(ReadParts(names[i], shape_of(rows[i]), {stacked.narrow(0, begin, rows[i])}));
    begin += rows[i];
  }
  return stacked;
}

absl::StatusOr<LinearWeights> WeightReader::ReadLinear(absl::string_view name, int64_t d_in,
                                                       int64_t d_out, bool with_bias) {
  LinearWeights linear;
  ASSIGN_OR_RETURN(linear.weight, Read(absl::StrCat(name, ".weight"), {d_in, d_out}));
  if (with_bias) {
    ASSIGN_OR_RETURN(linear.bias, Read(absl::StrCat(name, ".bias"), {d_out}));
  }
  return linear;
}

absl::StatusOr<LinearWeights> WeightReader::ReadLinearTransposed(absl::string_view name,
                                                                 int64_t d_in, int64_t d_out,
                                                                 bool with_bias) {
  ASSIGN_OR_RETURN(LinearWeights linear, ReadLinear(name, d_out, d_in, false));
  linear.weight = linear.weight.t();
  if (with_bias) {
    ASSIGN_OR_RETURN(linear.bias, Read(absl::StrCat(name, ".bias"), {d_out}));
  }
  return linear;
}

absl::StatusOr<NormWeights> WeightReader::ReadNorm(absl::string_view name, int64_t width,
                                                   bool with_bias, double offset) {
  NormWeights norm;
  ASSIGN_OR_RETURN(norm.weight, ReadAs(torch::kFloat32, absl::StrCat(name, ".weight"), {width}));
  if (offset != 0) {
    RETURN_IF_ERROR(TorchGate("a norm's weights", [&] { norm.weight.add_(offset); }));
  }
  if (with_bias) {
    ASSIGN_OR_RETURN(norm.bias, ReadAs(torch::kFloat32, absl::StrCat(name, ".bias"), {width}));
  }
  return norm;
}

absl::Status WeightReader::CheckAllUsed() const {
  for (const WeightFiles::Found& found : files_.All()) {
    if (!used_.contains(found.entry->name)) {
      return InvalidArgument(found.file->path(), ": tensor ", found.entry->name,
                             " is not part of the architecture that config.json describes");
    }
  }
  return absl::OkStatus();
}

}  // namespace featurescope
