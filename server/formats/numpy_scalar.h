// Numbers of numpy in a pickle, such as np.float64(0.5).
//
// They are pickled as a call of scalar(dtype, bytes); this reads the call, and makes it a plain
// value.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/pickle.h"
#include "server/formats/torch_value.h"

namespace featurescope {

// The globals that such a call consists of.
absl::Span<const absl::string_view> NumpyScalarGlobals();

// Whether `global` is the function that is called.
bool IsNumpyScalar(absl::string_view global);

// The value of a call with the arguments `arguments`, a kTuple of `pickle`: a float (f8, f4), an
// int (i8, i4) or a bool (b1).
//   InvalidArgument  other types, big-endian, arguments of another form; begins with `where`
absl::StatusOr<TorchValue> ReadNumpyScalar(const Pickle& pickle, const PickleNode& arguments,
                                           absl::string_view where);

}  // namespace featurescope
