// Writing an SAE's files for other programs.
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/staging.h"
#include "server/sae/sae_files.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;

absl::Status CheckFormat(absl::string_view format) {
  for (const absl::string_view known : kExportFormats) {
    if (format == known) return absl::OkStatus();
  }
  return InvalidField("format", "format is \"", format, "\", it must be one of ",
                      absl::StrJoin(kExportFormats, ", "));
}

bool IsBelow(const std::string& directory, const fs::path& path) {
  const fs::path relative = path.lexically_relative(directory);
  return !relative.empty() && *relative.begin() != "..";
}

// The canonical place of a directory that is new or empty; what lies above it exists, within
// `roots`.
absl::StatusOr<std::string> PlaceFor(const std::string& directory,
                                     absl::Span<const std::string> roots) {
  std::error_code error;
  fs::path given = fs::absolute(directory, error).lexically_normal();
  if (directory.empty() || error) return InvalidField("directory", "no directory is given");
  if (!given.has_filename()) given = given.parent_path();
  if (fs::exists(fs::symlink_status(given, error))) {
    ASSIGN_OR_RETURN(std::string there, ResolveWithin(roots, given.string()));
    if (!fs::is_directory(there, error) || !fs::is_empty(there, error)) {
      return InvalidField("directory", directory, ": is no empty directory");
    }
    return there;
  }
  ASSIGN_OR_RETURN(const std::string parent, ResolveWithin(roots, given.parent_path().string()));
  return JoinPath(parent, given.filename().string());
}

}  // namespace

absl::StatusOr<ExportedSae> Catalog::ExportSae(absl::string_view id, absl::string_view format,
                                               const std::string& directory) {
  RETURN_IF_ERROR(CheckFormat(format));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Sae> sae, LoadedSae(id));
  ExportedSae exported;
  ASSIGN_OR_RETURN(exported.directory, PlaceFor(directory, options_.allowed_roots));
  if (exported.directory == data_dir_ || IsBelow(data_dir_, exported.directory)) {
    return InvalidField("directory", directory, ": lies in the server's own data directory");
  }
  ASSIGN_OR_RETURN(StagingDir staging,
                   StagingDir::Create(fs::path(exported.directory).parent_path().string()));
  RETURN_IF_ERROR(format == "saelens" ? ExportToSaeLens(*sae, staging.path())
                                      : ExportToDictionaryLearning(*sae, staging.path()));
  std::error_code error;
  for (fs::directory_iterator it(staging.path(), error), end; !error && it != end;
       it.increment(error)) {
    exported.files.push_back(it->path().filename().string());
    exported.bytes += it->file_size(error);
  }
  if (error) return ErrnoStatus(error.value(), exported.directory);
  std::sort(exported.files.begin(), exported.files.end());
  RETURN_IF_ERROR(staging.MoveToNew(exported.directory));
  return exported;
}

}  // namespace featurescope
