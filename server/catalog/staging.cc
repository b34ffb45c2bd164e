#include "server/catalog/staging.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"

namespace featurescope {
namespace {

absl::Status SyncDir(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return ErrnoStatus(errno, path);
  return absl::OkStatus();
}

std::string ParentOf(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

absl::Status CopyFile(const std::string& from, const std::string& to) {
  constexpr size_t kPiece = 1u << 20;
  uint64_t size = 0;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(from, &size));
  ASSIGN_OR_RETURN(AtomicFile out, AtomicFile::Create(to));
  std::string piece;
  for (uint64_t offset = 0; offset < size; offset += piece.size()) {
    piece.resize(std::min<uint64_t>(kPiece, size - offset));
    RETURN_IF_ERROR(
        ReadExactly(fd.get(), offset, absl::MakeSpan(piece.data(), piece.size()), from));
    RETURN_IF_ERROR(out.Append(piece));
  }
  return out.Commit();
}

}  // namespace

absl::StatusOr<StagingDir> StagingDir::Create(const std::string& folder) {
  std::string path = JoinPath(folder, absl::StrCat(kStagingPrefix, "XXXXXX"));
  if (::mkdtemp(path.data()) == nullptr) return ErrnoStatus(errno, path);
  return StagingDir(std::move(path));
}

StagingDir::~StagingDir() {
  if (!path_.empty()) RemoveTree(path_);
}

absl::Status StagingDir::MoveTo(const std::string& place,
                                const std::function<absl::Status()>& insert) {
  RemoveTree(place);
  RETURN_IF_ERROR(SyncDir(path_));
  if (::rename(path_.c_str(), place.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrCat("rename ", path_, " to ", place));
  }
  path_ = place;
  RETURN_IF_ERROR(SyncDir(ParentOf(place)));
  RETURN_IF_ERROR(insert());
  path_.clear();
  return absl::OkStatus();
}

absl::Status StagingDir::MoveToNew(const std::string& place) {
  if (::chmod(path_.c_str(), 0755) != 0) return ErrnoStatus(errno, path_);
  RETURN_IF_ERROR(SyncDir(path_));
  if (::rename(path_.c_str(), place.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrCat("rename ", path_, " to ", place));
  }
  path_.clear();
  return SyncDir(ParentOf(place));
}

absl::Status ImportFiles(const std::string& from, const std::string& to,
                         absl::Span<const std::string> roots,
                         const std::function<bool(absl::string_view)>& wanted,
                         const std::function<bool(absl::string_view)>& linked) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(from, error), end; !error && it != end;
       it.increment(error)) {
    std::string name = it->path().filename().string();
    if (wanted(name)) names.push_back(std::move(name));
  }
  if (error) return ErrnoStatus(error.value(), from);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const std::string source, ResolveWithin(roots, JoinPath(from, name)));
    const std::string target = JoinPath(to, name);
    RETURN_IF_ERROR(linked(name) ? LinkOrCopy(source, target) : CopyFile(source, target));
  }
  return absl::OkStatus();
}

absl::Status LinkOrCopy(const std::string& from, const std::string& to) {
  if (FileExists(from) && ::link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return CopyFile(from, to);
}

void RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) LogWarning(path, ": cannot remove it: ", error.message());
}

}  // namespace featurescope
