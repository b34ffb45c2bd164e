// The files of a corpus: those given, and those found in the directories given.
//
// Whatever links there are, only files inside the allowed roots are read: names are resolved when
// files are looked for, and checked again on the open file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/formats/compressed_file.h"
#include "server/text/document_format.h"

namespace featurescope {

struct CorpusFile {
  std::string name;  // as people know it: for messages
  std::string path;  // the same file without links
  uint64_t bytes = 0;
  DocumentFormat format = DocumentFormat::kByName;  // never kByName once found
};

struct CorpusFiles {
  std::vector<CorpusFile> files;
  uint64_t n_skipped = 0;  // in directories: by their names not of a known format, links to
                           // directories; hidden files do not count
  std::vector<std::string> skipped;  // names of the first of them
};

// Files stay in the order given; in directories they are sorted by name and each is taken once.
// A .json in a directory describes a dataset more often than it is one: it is skipped.
//
//   paths   files and directories, which are searched to the bottom
//   roots   what everything must lie in, in one of them; nullopt: anywhere, links inside a
//   directory
//           not out of it
//   format  of all files; kByName: see FormatOfName
//
//   NotFound          a path, or where a link leads to, does not exist
//   PermissionDenied  a path or link leads out of the roots
//   InvalidArgument   no known format, no regular file, nothing in a directory
absl::StatusOr<CorpusFiles> FindCorpusFiles(absl::Span<const std::string> paths,
                                            const std::optional<std::vector<std::string>>& roots,
                                            DocumentFormat format);

// Opens what FindCorpusFiles found. FailedPrecondition when another file is in its place now.
// InvalidArgument when it is named .gz or .zst and is not compressed.
absl::StatusOr<CompressedFile> OpenCorpusFile(const CorpusFile& file);

}  // namespace featurescope
