#include "server/catalog/import_sae_files.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/catalog/staging.h"
#include "server/formats/file.h"
#include "server/sae/sae_files.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;

// Names of directories above the files that are kept: layer_12/width_16k/average_l0_82 and the
// repository's name above them are the longest that a format reads.
constexpr int kKeptNames = 6;
constexpr size_t kMaxEntries = 100'000;

// Every link in `dir` must stay within the roots: a recognised file may be any of them.
absl::Status CheckLinks(const fs::path& dir, absl::Span<const std::string> roots) {
  std::error_code error;
  size_t n = 0;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (++n > kMaxEntries) {
      return InvalidArgument(dir.string(), ": holds more than ", kMaxEntries, " files");
    }
    if (!it->is_symlink(error)) continue;
    const absl::Status within = ResolveWithin(roots, it->path().string()).status();
    // A dangling link leads nowhere.
    if (!within.ok() && !absl::IsNotFound(within)) return within;
  }
  return error ? ErrnoStatus(error.value(), dir.string()) : absl::OkStatus();
}

// Where a recognised file may lie: beside the path, in it, one above it, and in its checkpoints.
absl::Status CheckAllLinks(const fs::path& path, absl::Span<const std::string> roots) {
  std::error_code error;
  const bool is_dir = fs::is_directory(path, error);
  const fs::path dir = is_dir ? path : path.parent_path();
  std::vector<fs::path> dirs = {dir, dir / "checkpoints"};
  // Above, only what the client may see at all.
  if (ResolveWithin(roots, dir.parent_path().string()).ok()) dirs.push_back(dir.parent_path());
  for (const fs::path& each : dirs) {
    if (fs::is_directory(each, error)) RETURN_IF_ERROR(CheckLinks(each, roots));
  }
  return absl::OkStatus();
}

// The part of `path` that is kept: its last names, without the root.
fs::path KeptTail(const fs::path& path) {
  std::vector<fs::path> names;
  for (const fs::path& name : path.relative_path()) {
    if (!name.empty()) names.push_back(name);
  }
  fs::path tail;
  const size_t n = names.size();
  for (size_t i = n > kKeptNames ? n - kKeptNames : 0; i < n; ++i) tail /= names[i];
  return tail;
}

}  // namespace

absl::StatusOr<std::string> ImportSaeFiles(const std::string& path, const std::string& to,
                                           absl::Span<const std::string> roots) {
  // Links keep their names: a name may say more than the file that it leads to.
  std::error_code error;
  fs::path given = fs::absolute(path, error).lexically_normal();
  if (error) return ErrnoStatus(error.value(), path);
  if (!given.has_filename()) given = given.parent_path();
  RETURN_IF_ERROR(ResolveWithin(roots, given.string()).status());
  RETURN_IF_ERROR(CheckAllLinks(given, roots));
  ASSIGN_OR_RETURN(const SaeFileSet found, FindSaeFiles(given.string()));

  // SAELens' files say everything themselves; they lie in the entry's directory as SAELens has
  // them.
  const bool flat = absl::StartsWith(found.format, "SAELens");
  const bool is_dir = fs::is_directory(given, error);
  const fs::path top = flat ? fs::path() : KeptTail(is_dir ? given : given.parent_path());
  const fs::path above = is_dir ? given : given.parent_path();
  for (const std::string& file : found.files) {
    const fs::path from = fs::absolute(file, error).lexically_normal();
    const fs::path place = (top / from.lexically_relative(above)).lexically_normal();
    if (place.empty() || *place.begin() == "..") {
      return InvalidArgument(file, ": lies too far from ", path);
    }
    ASSIGN_OR_RETURN(const std::string source, ResolveWithin(roots, from.string()));
    const fs::path target = fs::path(to) / place;
    RETURN_IF_ERROR(EnsureDir(target.parent_path().string()));
    RETURN_IF_ERROR(LinkOrCopy(source, target.string()));
  }
  if (is_dir) return top.string();
  return (top / given.filename()).string();
}

}  // namespace featurescope
