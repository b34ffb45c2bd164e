// The structure of a zip archive: which members it has and where their bytes lie.
//
// For zip_archive.cc, which reads the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/zip_archive.h"

namespace featurescope {

// Reads end record, central directory and local headers of the open file `fd`. Names may occur
// twice; all other promises of ZipArchive hold.
//   InvalidArgument  naming `path`, the member and the broken rule
absl::StatusOr<std::vector<ZipMember>> ReadZipDirectory(int fd, uint64_t file_bytes,
                                                        const std::string& path);

}  // namespace featurescope
