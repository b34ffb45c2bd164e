#include "server/formats/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/hash.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kWriteBufferBytes = 1u << 20;

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, absl::StrCat(path, ": cannot write"));
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status SyncDirectory(const std::string& directory) {
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) {
    return ErrnoStatus(errno, absl::StrCat(directory, ": cannot sync"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Canonical(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return ErrnoStatus(errno, path);
  std::string canonical(resolved);
  free(resolved);
  return canonical;
}

// Whether the canonical `path` is `root` or lies below it.
bool IsWithin(absl::string_view root, absl::string_view path) {
  if (root == "/") return true;
  return path.substr(0, root.size()) == root &&
         (path.size() == root.size() || path[root.size()] == '/');
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = other.release();
  }
  return *this;
}

int UniqueFd::release() { return std::exchange(fd_, -1); }

void UniqueFd::Close() {
  if (fd_ >= 0) close(release());
}

std::string JoinPath(absl::string_view directory, absl::string_view name) {
  if (directory.empty()) return std::string(name);
  return absl::StrCat(directory, directory.back() == '/' ? "" : "/", name);
}

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.find_last_of('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

absl::StatusOr<UniqueFd> OpenForReading(const std::string& path, uint64_t* size) {
  // O_NONBLOCK: a pipe put in a file's place must not block the open.
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, path);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(info.st_mode)) return InvalidArgument(path, ": not a regular file");
  *size = static_cast<uint64_t>(info.st_size);
  return fd;
}

absl::Status ReadExactly(int fd, uint64_t offset, absl::Span<char> out, absl::string_view path) {
  while (!out.empty()) {
    const ssize_t n = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, absl::StrCat(path, ": cannot read"));
    }
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path, ": file ends at byte ", offset, ", ",
                                              out.size(), " more bytes were expected"));
    }
    offset += static_cast<uint64_t>(n);
    out.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  uint64_t size = 0;
  ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path, &size));
  if (size > max_bytes) {
    return InvalidArgument(path, ": ", size, " bytes, at most ", max_bytes, " are allowed");
  }
  std::string bytes(size, '\0');
  RETURN_IF_ERROR(ReadExactly(fd.get(), 0, absl::MakeSpan(&bytes[0], bytes.size()), path));
  return bytes;
}

AtomicFile::AtomicFile(std::string path, std::string temporary, UniqueFd fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::move(other.fd_)),
      buffer_(std::move(other.buffer_)),
      bytes_written_(other.bytes_written_) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this != &other) {
    Discard();
    path_ = std::move(other.path_);
    temporary_ = std::exchange(other.temporary_, {});
    fd_ = std::move(other.fd_);
    buffer_ = std::move(other.buffer_);
    bytes_written_ = other.bytes_written_;
  }
  return *this;
}

absl::StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  std::string temporary = absl::StrCat(path, ".tmp");
  // A leftover of a killed process is replaced; O_EXCL so that no link is followed.
  if (unlink(temporary.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, temporary);
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, temporary);
  return AtomicFile(path, std::move(temporary), std::move(fd));
}

absl::Status AtomicFile::Append(absl::string_view bytes) {
  bytes_written_ += bytes.size();
  if (buffer_.size() + bytes.size() < kWriteBufferBytes) {
    buffer_.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Flush());
  if (bytes.size() >= kWriteBufferBytes) return WriteAll(fd_.get(), bytes, path_);
  buffer_.assign(bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status AtomicFile::Flush() {
  RETURN_IF_ERROR(WriteAll(fd_.get(), buffer_, path_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  RETURN_IF_ERROR(Flush());
  if (fsync(fd_.get()) != 0) return ErrnoStatus(errno, absl::StrCat(path_, ": cannot sync"));
  fd_.Close();
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrCat(path_, ": cannot rename into place"));
  }
  temporary_.clear();
  return SyncDirectory(DirectoryOf(path_));
}

void AtomicFile::Discard() {
  fd_.Close();
  if (!temporary_.empty()) unlink(temporary_.c_str());
  temporary_.clear();
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view bytes) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(bytes));
  return file.Commit();
}

absl::Status EnsureDir(const std::string& path) {
  if (path.empty()) return InvalidArgument("the name of a directory is empty");
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0) {
      const int error = errno;
      struct stat info;
      if (stat(part.c_str(), &info) != 0) {
        return ErrnoStatus(error, absl::StrCat(part, ": cannot create the directory"));
      }
      if (!S_ISDIR(info.st_mode)) return InvalidArgument(part, ": exists and is no directory");
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  uint64_t size = 0;
  ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path, &size));
  std::string piece(std::min<uint64_t>(size, 1u << 20), '\0');
  Sha256 sha;
  for (uint64_t offset = 0; offset < size; offset += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), size - offset));
    RETURN_IF_ERROR(ReadExactly(fd.get(), offset, absl::MakeSpan(&piece[0], piece.size()), path));
    sha.Update(piece);
  }
  return sha.HexDigest();
}

absl::StatusOr<std::string> ResolveWithin(absl::Span<const std::string> roots,
                                          const std::string& path) {
  if (path.find('\0') != std::string::npos) return InvalidArgument("a path has a NUL byte");
  ASSIGN_OR_RETURN(std::string canonical, Canonical(path));
  for (const std::string& root : roots) {
    absl::StatusOr<std::string> canonical_root = Canonical(root);
    if (canonical_root.ok() && IsWithin(*canonical_root, canonical)) return canonical;
  }
  return absl::PermissionDeniedError(
      absl::StrCat(path, ": lies outside the allowed roots (", absl::StrJoin(roots, ", "), ")"));
}

}  // namespace featurescope
