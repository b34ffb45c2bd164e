// New entries of the data directory: built in a directory beside their place, then renamed into it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace featurescope {

// Names of staging directories begin with it; no id does.
constexpr char kStagingPrefix[] = ".new-";

// A directory that is removed with all it holds unless it moved to its place.
class StagingDir {
 public:
  // An empty one in `folder`.
  static absl::StatusOr<StagingDir> Create(const std::string& folder);
  // Takes over a directory that exists.
  static StagingDir Adopt(std::string path) { return StagingDir(std::move(path)); }
  StagingDir(StagingDir&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  StagingDir(const StagingDir&) = delete;
  StagingDir& operator=(const StagingDir&) = delete;
  ~StagingDir();

  const std::string& path() const { return path_; }

  // Moves it to `place`, durably, in the place of what a killed server left there, and runs
  // `insert`. When that fails the directory is removed again.
  absl::Status MoveTo(const std::string& place, const std::function<absl::Status()>& insert);
  // Moves it to `place`, durably, where nothing or an empty directory is, for all to
  // read.   errors  AlreadyExists  something else is there
  absl::Status MoveToNew(const std::string& place);

 private:
  explicit StagingDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// Brings the files of `from` whose names `wanted` accepts into `to`. Files that `linked` accepts
// are hard-linked where that is possible, all others copied. A file may be a link that leads into
// `roots`. PermissionDenied: a link leads elsewhere.
absl::Status ImportFiles(const std::string& from, const std::string& to,
                         absl::Span<const std::string> roots,
                         const std::function<bool(absl::string_view)>& wanted,
                         const std::function<bool(absl::string_view)>& linked);

// A hard link where both lie on one file system, else a copy.
absl::Status LinkOrCopy(const std::string& from, const std::string& to);

// Removes a directory with all it holds; errors are logged.
void RemoveTree(const std::string& path);

}  // namespace featurescope
