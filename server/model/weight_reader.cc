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

absl::StatusOr<torch::Tensor> WeightReader::Read(absl::string_view name,
                                                 absl::Span<const int64_t> shape) {
  const WeightFiles::Found found = files_.Find(name);
  if (!found) return InvalidArgument(files_.dir(), ": tensor ", name, " is missing");
  if (absl::MakeConstSpan(found.entry->shape) != shape) {
    return InvalidArgument(found.file->path(), ": tensor ", name, " has shape [",
                           absl::StrJoin(found.entry->shape, ", "), "], config.json asks for [",
                           absl::StrJoin(shape, ", "), "]");
  }
  ASSIGN_OR_RETURN(torch::Tensor tensor, LoadTensor(*found.file, *found.entry, dtype_, device_));
  used_.insert(std::string(name));
  bytes_read_ += found.entry->bytes();
  if (progress_) progress_(bytes_read_, bytes_in_all_);
  return tensor;
}

absl::StatusOr<torch::Tensor> WeightReader::ReadStacked(absl::Span<const std::string> names,
                                                        absl::Span<const int64_t> rows,
                                                        int64_t columns) {
  std::vector<torch::Tensor> parts;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::vector<int64_t> shape =
        columns > 0 ? std::vector<int64_t>{rows[i], columns} : std::vector<int64_t>{rows[i]};
    ASSIGN_OR_RETURN(torch::Tensor part, Read(names[i], shape));
    parts.push_back(std::move(part));
  }
  return TorchGate("stacking weights", [&] { return torch::cat(parts, 0); });
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

absl::StatusOr<NormWeights> WeightReader::ReadNorm(absl::string_view name, int64_t d_model,
                                                   bool with_bias) {
  NormWeights norm;
  ASSIGN_OR_RETURN(norm.weight, Read(absl::StrCat(name, ".weight"), {d_model}));
  if (with_bias) {
    ASSIGN_OR_RETURN(norm.bias, Read(absl::StrCat(name, ".bias"), {d_model}));
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
