// Settings that take the place of what an SAE's files say, as JSON: they are kept with the entry,
// for every time it is loaded.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/sae_files.h"

namespace featurescope {

// Empty where nothing is set; equal options give equal text.
std::string ToJson(const LoadSaeOptions& options);
// The reverse.   errors  InvalidArgument  naming the field
absl::StatusOr<LoadSaeOptions> SaeOverridesFromJson(absl::string_view json);

}  // namespace featurescope
