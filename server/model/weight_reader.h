// Reads a checkpoint's tensors by name and remembers which it has read.
//
// A tensor that nothing reads is an error: it would be part of the maths in the program that wrote
// the checkpoint (a bias, say), and its absence here would go unnoticed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/weight_files.h"
#include "server/model/model_weights.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Not thread-safe. `files` must outlive it.
class WeightReader {
 public:
  // `progress` (may be null) is called with bytes read and bytes in all.
  WeightReader(const WeightFiles& files, torch::ScalarType dtype, torch::Device device,
               std::function<void(uint64_t, uint64_t)> progress);

  bool Has(absl::string_view name) const { return static_cast<bool>(files_.Find(name)); }

  // One tensor in the reader's dtype.
  //   errors  InvalidArgument  it is missing, has another shape, or a value is not finite
  absl::StatusOr<torch::Tensor> Read(absl::string_view name, absl::Span<const int64_t> shape);

  // One tensor cut into consecutive parts: as many elements into each of `parts` (contiguous, of
  // any dtype and device) as it has. Errors as above.
  absl::Status ReadParts(absl::string_view name, absl::Span<const int64_t> shape,
                         absl::Span<const torch::Tensor> parts);

  // Tensors with equal last dimensions, one below the other; `rows` are their first dimensions.
  // Vectors where `columns` is 0.
  absl::StatusOr<torch::Tensor> ReadStacked(absl::Span<const std::string> names,
                                            absl::Span<const int64_t> rows, int64_t columns);

  // `name`.weight [d_in, d_out] as it lies in the file, and `name`.bias where `with_bias`.
  absl::StatusOr<LinearWeights> ReadLinear(absl::string_view name, int64_t d_in, int64_t d_out,
                                           bool with_bias);
  // The same for `name`.weight [d_out, d_in].
  absl::StatusOr<LinearWeights> ReadLinearTransposed(absl::string_view name, int64_t d_in,
                                                     int64_t d_out, bool with_bias);
  // float32 in any case: norms compute in it. `offset` is added to the weight.
  absl::StatusOr<NormWeights> ReadNorm(absl::string_view name, int64_t width, bool with_bias,
                                       double offset = 0);

  // An uninitialised tensor in the reader's dtype, to be filled by ReadParts with `name`, which
  // must be there with this shape: a wrong config.json makes no room for what it claims.
  absl::StatusOr<torch::Tensor> NewTensorFor(absl::string_view name,
                                             absl::Span<const int64_t> shape) const;

  // Marks a tensor that is knowingly ignored, whether it is there or not.
  void Skip(absl::string_view name) { used_.insert(std::string(name)); }

  // InvalidArgument naming a tensor that was neither read nor skipped.
  absl::Status CheckAllUsed() const;

 private:
  absl::StatusOr<torch::Tensor> NewTensor(absl::Span<const int64_t> shape,
                                          torch::ScalarType dtype) const;
  absl::StatusOr<torch::Tensor> ReadAs(torch::ScalarType dtype, absl::string_view name,
                                       absl::Span<const int64_t> shape);
  absl::Status CheckShape(absl::string_view name, absl::Span<const int64_t> shape) const;

  const WeightFiles& files_;
  torch::ScalarType dtype_;
  torch::Device device_;
  std::function<void(uint64_t, uint64_t)> progress_;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_in_all_ = 0;
  absl::flat_hash_set<std::string> used_;
};

}  // namespace featurescope
