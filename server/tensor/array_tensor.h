// Tensors from .npz and torch.save files, and to torch.save files.
//
// The sibling of weights.h, which reads safetensors: same rules, same messages.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/npz.h"
#include "server/formats/raw_memmap.h"
#include "server/formats/torch_file.h"
#include "server/tensor/torch.h"

namespace featurescope {

// What a NaN or an infinity in a floating-point tensor means.
enum class NonFinite { kRefuse, kAllow };

// Reads one array into `dtype` on `device`, contiguous (row-major, whatever the order in the file),
// converting piece by piece so that no second whole copy exists.
//
//   errors  InvalidArgument  a value is not finite after the conversion; the message names file,
//                            array and element. The file is damaged.
absl::StatusOr<torch::Tensor> LoadTensor(const NpzFile& file, const NpzArray& array,
                                         torch::ScalarType dtype, torch::Device device,
                                         NonFinite non_finite = NonFinite::kRefuse);

// As above, by name, with the expected shape (-1: any size).
//
//   errors  NotFound         the file has no such array
//           InvalidArgument  another shape; the message has both
absl::StatusOr<torch::Tensor> LoadTensor(const NpzFile& file, absl::string_view name,
                                         absl::Span<const int64_t> shape, torch::ScalarType dtype,
                                         torch::Device device,
                                         NonFinite non_finite = NonFinite::kRefuse);

// The same for a tensor of a torch.save file; `name` is for messages. Strides of every kind are
// understood, the result is contiguous. The storage's check sum is compared.
absl::StatusOr<torch::Tensor> LoadTensor(const TorchFile& file, const TorchTensor& tensor,
                                         absl::string_view name, torch::ScalarType dtype,
                                         torch::Device device,
                                         NonFinite non_finite = NonFinite::kRefuse);

// As above, by its key in the dict `dict` of the file's tree, with the expected shape (-1: any
// size).
//
//   errors  NotFound         the dict has no such key
//           InvalidArgument  the value is no tensor, or has another shape
absl::StatusOr<torch::Tensor> LoadTensor(const TorchFile& file, const TorchValue& dict,
                                         absl::string_view name, absl::Span<const int64_t> shape,
                                         torch::ScalarType dtype, torch::Device device,
                                         NonFinite non_finite = NonFinite::kRefuse);

// Rows [begin, begin + n) of a file of raw activations.
//
//   returns  `dtype` [n, d_in] on `device`
//   errors   OutOfRange       the rows do not exist
//            InvalidArgument  a value is not finite; the message names file, row and column
absl::StatusOr<torch::Tensor> LoadRows(const RawMemmap& file, int64_t begin, int64_t n,
                                       torch::ScalarType dtype, torch::Device device,
                                       NonFinite non_finite = NonFinite::kRefuse);

// Writes CPU or CUDA tensors (made contiguous) as torch.save(OrderedDict(...)) does, in the given
// order, each with its own dtype.
absl::Status SaveStateDict(const std::string& path,
                           const std::vector<std::pair<std::string, torch::Tensor>>& tensors);

}  // namespace featurescope
