// Files: bounded reading, atomic writing, and paths that stay inside their allowed roots.
//
// Nothing here maps memory or throws; every error names the path.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace featurescope {

// An owned file descriptor, closed on destruction.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release();
  void Close();

 private:
  int fd_ = -1;
};

// `directory/name`, with exactly one slash between them.
std::string JoinPath(absl::string_view directory, absl::string_view name);
// What follows the last slash.
absl::string_view BaseName(absl::string_view path);

// True for a regular file (or a link to one) that exists; errors count as false.
bool FileExists(const std::string& path);

// Opens a regular file for reading and gives its size in bytes. InvalidArgument for anything that
// is no regular file (directory, pipe, device).
absl::StatusOr<UniqueFd> OpenForReading(const std::string& path, uint64_t* size);

// Reads exactly out.size() bytes at `offset` (pread). DataLoss when the file ends before.
absl::Status ReadExactly(int fd, uint64_t offset, absl::Span<char> out, absl::string_view path);

// The whole file. InvalidArgument when it holds more than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes);

// A file that appears under its name only when complete: written to `path`.tmp, synced, renamed,
// directory synced. Destroyed without Commit(), it leaves nothing behind. A full disk is
// ResourceExhausted naming the file. Not thread-safe.
class AtomicFile {
 public:
  static absl::StatusOr<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile() { Discard(); }

  absl::Status Append(absl::string_view bytes);
  // REQUIRES: called at most once, last.
  absl::Status Commit();
  const std::string& path() const { return path_; }
  uint64_t bytes_written() const { return bytes_written_; }

 private:
  AtomicFile(std::string path, std::string temporary, UniqueFd fd);
  absl::Status Flush();
  void Discard();

  std::string path_;
  std::string temporary_;  // empty: committed or moved from
  UniqueFd fd_;
  std::string buffer_;
  uint64_t bytes_written_ = 0;
};

absl::Status WriteFileAtomically(const std::string& path, absl::string_view bytes);

// Creates `path` and its missing parents with mode 0700; an existing directory is OK.
absl::Status EnsureDir(const std::string& path);

// Lower-case hexadecimal SHA-256 of a file's content, read in pieces.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

// The canonical form of `path` (no links, no ..), which must exist and lie at or below one of
// `roots`. PermissionDenied naming the roots when it leads elsewhere, by a link or otherwise.
absl::StatusOr<std::string> ResolveWithin(absl::Span<const std::string> roots,
                                          const std::string& path);

}  // namespace featurescope
