// The header of a .npy array: a Python dict literal, read by a parser for nothing else.
//
//   {'descr': '<f4', 'fortran_order': False, 'shape': (96, 32), }
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/formats/safetensors.h"

namespace featurescope {

struct NpyHeader {
  DType dtype = DType::kF32;
  bool fortran_order = false;
  std::vector<int64_t> shape;  // each >= 0
};

// Parses the literal and the blanks and the newline after it. `where` begins every message.
//   InvalidArgument  not such a dict; a type other than little-endian f2, f4, f8, i1, i2, i4, i8,
//                    u1 and bool
absl::StatusOr<NpyHeader> ParseNpyHeader(absl::string_view text, absl::string_view where);

}  // namespace featurescope
