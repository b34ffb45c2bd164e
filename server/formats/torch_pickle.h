// What the pickle of a torch.save file means: the tree of values and the storages it refers to.
//
// The step between pickle.h, which knows nothing of tensors, and torch_file.h, which knows where
// the storages' bytes lie.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/pickle.h"
#include "server/formats/torch_value.h"

namespace featurescope {

// The globals that may occur in a tensor file.
absl::Span<const absl::string_view> TorchGlobals();

// The type of a storage of `dtype`, e.g. "torch.FloatStorage".
absl::string_view TorchStorageGlobal(DType dtype);

struct TorchTree {
  TorchValue root;
  std::vector<TorchStorage> storages;  // without file_offset and check sum; keys are unique
};

// Gives the nodes their meaning. Tensors are checked against the sizes of their storages, which the
// container must compare with the bytes it has.
//   InvalidArgument  a value that is no plain value and no tensor; a tensor outside its storage or
//                    with more elements; a tree deeper or larger than torch_file.h allows, which a
//                    pickle with cycles or shared values would be. Messages begin with `where`.
absl::StatusOr<TorchTree> ReadTorchTree(const Pickle& pickle, absl::string_view where);

}  // namespace featurescope
