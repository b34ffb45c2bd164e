// What somebody who mistyped a name may have meant.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace featurescope {

// Those of `names` that are near `name`, the nearest first, at most `most`: few letters differ, or
// one is part of the other.
std::vector<std::string> NearNames(absl::string_view name, const std::vector<std::string>& names,
                                   size_t most = 5);

}  // namespace featurescope
