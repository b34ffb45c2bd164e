// Bringing an SAE's files, of whatever format, into a directory of ours.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace featurescope {

// Links or copies the files that LoadSae(path) reads into `to` and returns the path there, relative
// to `to`, from which LoadSae reads the same. Some formats keep the hook point in the names of
// their directories: those names are kept.
//
//   errors  PermissionDenied  a file, or a link on the way, leads out of `roots`
//           those of FindSaeFiles
absl::StatusOr<std::string> ImportSaeFiles(const std::string& path, const std::string& to,
                                           absl::Span<const std::string> roots);

}  // namespace featurescope
