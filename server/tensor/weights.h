// Tensors from and to safetensors files.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/safetensors.h"
#include "server/tensor/torch.h"

namespace featurescope {

// The LibTorch dtype of a stored one.
torch::ScalarType ToScalarType(DType dtype);

// Reads one tensor into `dtype` on `device`, converting piece by piece so that no second whole copy
// exists. Floating-point values must be finite.
//
//   errors  InvalidArgument  a value is not finite; the message names file, tensor and element
absl::StatusOr<torch::Tensor> LoadTensor(const SafetensorsFile& file, const TensorEntry& entry,
                                         torch::ScalarType dtype, torch::Device device);

// The same for the elements from `first_element` on, into a tensor that is already there and
// contiguous; as many as it has.
absl::Status LoadTensorInto(const SafetensorsFile& file, const TensorEntry& entry,
                            int64_t first_element, const torch::Tensor& destination);

// LoadTensor by name, with the expected shape (-1: any size).
//
//   errors  NotFound         the file has no such tensor
//           InvalidArgument  another shape; the message has both
absl::StatusOr<torch::Tensor> LoadTensor(const SafetensorsFile& file, absl::string_view name,
                                         absl::Span<const int64_t> shape, torch::ScalarType dtype,
                                         torch::Device device);

// Writes CPU or CUDA tensors (made contiguous) in the given order.
absl::Status SaveTensors(const std::string& path,
                         const std::vector<std::pair<std::string, torch::Tensor>>& tensors);

}  // namespace featurescope
