// Sizes of tensors from untrusted files, computed without overflow.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/safetensors.h"

namespace featurescope {

// Bytes of a tensor without gaps. `where` (file and tensor) begins the message.
//   InvalidArgument  a dimension is negative, there are more than kMaxTensorDims, or the product
//                    leaves 63 bits (also where another dimension is 0)
absl::StatusOr<uint64_t> CheckedTensorBytes(DType dtype, absl::Span<const int64_t> shape,
                                            absl::string_view where);

// "[3, 4]".
std::string ShapeText(absl::Span<const int64_t> shape);

}  // namespace featurescope
