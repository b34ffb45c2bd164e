#include "server/formats/tensor_shape.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"

namespace featurescope {

absl::StatusOr<uint64_t> CheckedTensorBytes(DType dtype, absl::Span<const int64_t> shape,
                                            absl::string_view where) {
  if (shape.size() > kMaxTensorDims) {
    return InvalidArgument(where, ": ", shape.size(), " dimensions, at most ", kMaxTensorDims,
                           " are allowed");
  }
  // A zero dimension must not hide an overflow in the others.
  uint64_t product = static_cast<uint64_t>(DTypeSize(dtype));
  bool zero = false;
  for (int64_t dim : shape) {
    if (dim < 0) return InvalidArgument(where, ": bad shape ", ShapeText(shape));
    if (dim == 0) {
      zero = true;
      continue;
    }
    if (__builtin_mul_overflow(product, static_cast<uint64_t>(dim), &product) ||
        product > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument(where, ": shape ", ShapeText(shape),
                             " has more bytes than 63 bits can count");
    }
  }
  return zero ? 0 : product;
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace featurescope
