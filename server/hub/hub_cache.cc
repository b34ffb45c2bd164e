#include "server/hub/hub_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr uint64_t kReserveBytes = 64u << 20;
constexpr size_t kMaxSnapshotFiles = 200000;
constexpr size_t kReadBytes = 1u << 20;

std::string ParentOf(const std::string& path) { return path.substr(0, path.find_last_of('/')); }

// An error of writing into the cache, with what to do about it.
absl::Status WriteError(int error, const std::string& path) {
  if (error == EACCES || error == EPERM || error == EROFS) {
    return absl::PermissionDeniedError(
        absl::StrCat(path,
                     ": the cache cannot be written; set HF_HUB_CACHE (or HF_HOME) to a "
                     "directory that can"));
  }
  if (error == EFBIG) error = ENOSPC;  // a limit of the file system or the process
  return ErrnoStatus(error, absl::StrCat(path, ": cannot write"));
}

// As huggingface_hub makes them: the umask decides who else may read a shared cache.
absl::Status MakeDirectories(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    struct stat info;
    if (mkdir(part.c_str(), 0777) != 0) {
      const int error = errno;
      if (stat(part.c_str(), &info) != 0) return WriteError(error, part);
      if (!S_ISDIR(info.st_mode)) return FailedPrecondition(part, ": is no directory");
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

bool HasSize(const std::string& path, uint64_t size) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         static_cast<uint64_t>(info.st_size) == size;
}

// A name beside `path` that no other call uses.
std::string TemporaryName(const std::string& path) {
  static std::atomic<uint64_t> counter{0};
  return absl::StrCat(path, ".", getpid(), ".", counter.fetch_add(1), ".tmp");
}

absl::StatusOr<UniqueFd> Lock(const std::string& path, const HubClient::Check& check) {
  RETURN_IF_ERROR(MakeDirectories(ParentOf(path)));
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!fd.valid()) return WriteError(errno, path);
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return WriteError(errno, path);
    RETURN_IF_ERROR(check());
    absl::SleepFor(absl::Milliseconds(50));
  }
  return fd;
}

}  // namespace

ContentHasher::ContentHasher(const HubFile& file) {
  if (file.etag.size() == 64) return;
  Sha1 blob;  // as git hashes a file
  blob.Update(absl::StrCat("blob ", file.size));
  blob.Update(absl::string_view("\0", 1));
  hash_ = blob;
}

void ContentHasher::Update(absl::string_view bytes) {
  std::visit([bytes](auto& hash) { hash.Update(bytes); }, hash_);
}

std::string ContentHasher::HexDigest() {
  return std::visit([](auto& hash) { return hash.HexDigest(); }, hash_);
}

PartialBlob::PartialBlob(HubFile file, std::string blob, UniqueFd lock, UniqueFd fd)
    : file_(std::move(file)),
      blob_(std::move(blob)),
      lock_(std::move(lock)),
      fd_(std::move(fd)),
      hasher_(file_) {}

absl::Status PartialBlob::Append(absl::string_view bytes) {
  if (bytes.size() > file_.size - size_) {
    return absl::DataLossError(
        absl::StrCat(file_.path, ": more than the ", file_.size, " bytes it should have"));
  }
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (n < 0) {
      if (errno == EINTR) continue;
      return WriteError(errno, blob_);
    }
    hasher_.Update(bytes.substr(0, static_cast<size_t>(n)));
    bytes.remove_prefix(static_cast<size_t>(n));
    size_ += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status PartialBlob::Restart() {
  if (ftruncate(fd_.get(), 0) != 0) return WriteError(errno, blob_);
  size_ = 0;
  hasher_ = ContentHasher(file_);
  return absl::OkStatus();
}

absl::Status PartialBlob::Commit() {
  std::string problem;
  if (size_ != file_.size) {
    problem = absl::StrCat("has ", size_, " bytes, expected were ", file_.size);
  } else if (const std::string hash = hasher_.HexDigest(); hash != file_.etag) {
    problem = absl::StrCat("has the hash ", hash, ", expected was ", file_.etag);
  }
  if (!problem.empty()) {
    RETURN_IF_ERROR(Restart());
    return absl::DataLossError(absl::StrCat(file_.path, ": what was downloaded ", problem));
  }
  if (fsync(fd_.get()) != 0) return WriteError(errno, blob_);
  if (rename(absl::StrCat(blob_, ".incomplete").c_str(), blob_.c_str()) != 0) {
    return WriteError(errno, blob_);
  }
  return absl::OkStatus();
}

std::string HubCache::RepoDir(absl::string_view repo) const {
  return JoinPath(dir_, absl::StrCat("models--", absl::StrReplaceAll(repo, {{"/", "--"}})));
}

std::string HubCache::SnapshotDir(absl::string_view repo, absl::string_view commit) const {
  return absl::StrCat(RepoDir(repo), "/snapshots/", commit);
}

std::string HubCache::BlobPath(absl::string_view repo, const HubFile& file) const {
  return absl::StrCat(RepoDir(repo), "/blobs/", file.etag);
}

absl::StatusOr<std::string> HubCache::CommitOf(const std::string& repo,
                                               const std::string& revision) const {
  std::string commit = revision;
  if (!IsCommitHash(revision)) {
    RETURN_IF_ERROR(CheckHubRevision(revision));
    const absl::StatusOr<std::string> text =
        ReadFile(absl::StrCat(RepoDir(repo), "/refs/", revision), 1024);
    commit = text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
  }
  std::error_code error;
  if (IsCommitHash(commit) && std::filesystem::is_directory(SnapshotDir(repo, commit), error)) {
    return commit;
  }
  return NotFound("revision ", revision, " of ", repo, " is not in the cache ", dir_);
}

absl::Status HubCache::SetCommit(const std::string& repo, const std::string& revision,
                                 const std::string& commit) const {
  if (revision == commit) return absl::OkStatus();
  if (const auto known = CommitOf(repo, revision); known.ok() && *known == commit) {
    return absl::OkStatus();
  }
  const std::string path = absl::StrCat(RepoDir(repo), "/refs/", revision);
  RETURN_IF_ERROR(MakeDirectories(ParentOf(path)));
  const std::string temporary = TemporaryName(path);
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.valid()) return WriteError(errno, path);
  const bool written =
      write(fd.get(), commit.data(), commit.size()) == static_cast<ssize_t>(commit.size()) &&
      rename(temporary.c_str(), path.c_str()) == 0;
  if (written) return absl::OkStatus();
  const int error = errno;
  unlink(temporary.c_str());
  return WriteError(error, path);
}

absl::StatusOr<HubListing> HubCache::ListSnapshot(const std::string& repo,
                                                  const std::string& commit) const {
  namespace fs = std::filesystem;
  const std::string root = SnapshotDir(repo, commit);
  HubListing listing;
  listing.repo = repo;
  listing.commit = commit;
  std::error_code error;
  fs::recursive_directory_iterator entry(root, error);
  if (error) return NotFound(root, ": ", error.message());
  for (; entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    struct stat info;  // a link whose blob is gone counts as absent
    const std::string path = entry->path().string();
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (listing.files.size() == kMaxSnapshotFiles)
      return ResourceExhausted(root, ": too many files");
    listing.files.push_back(
        {path.substr(root.size() + 1), static_cast<uint64_t>(info.st_size), ""});
  }
  if (error) return ErrnoStatus(error.value(), root);
  std::sort(listing.files.begin(), listing.files.end(),
            [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  return listing;
}

bool HubCache::Has(const HubListing& listing, const HubFile& file) const {
  return HasSize(JoinPath(SnapshotDir(listing.repo, listing.commit), file.path), file.size);
}

bool HubCache::HasBlob(const std::string& repo, const HubFile& file) const {
  return HasSize(BlobPath(repo, file), file.size);
}

absl::Status HubCache::Link(const HubListing& listing, const HubFile& file) const {
  const std::string path = JoinPath(SnapshotDir(listing.repo, listing.commit), file.path);
  RETURN_IF_ERROR(MakeDirectories(ParentOf(path)));
  std::string target = absl::StrCat("../../blobs/", file.etag);
  for (char c : file.path) {
    if (c == '/') target.insert(0, "../");
  }
  const std::string temporary = TemporaryName(path);
  if (symlink(target.c_str(), temporary.c_str()) != 0) return WriteError(errno, path);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(temporary.c_str());
    return WriteError(error, path);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PartialBlob>> HubCache::OpenPartial(
    const std::string& repo, const HubFile& file, const HubClient::Check& check) const {
  const std::string blob = BlobPath(repo, file);
  ASSIGN_OR_RETURN(UniqueFd lock, Lock(absl::StrCat(dir_, "/.locks/", BaseName(RepoDir(repo)), "/",
                                                    file.etag, ".lock"),
                                       check));
  if (HasBlob(repo, file)) return nullptr;
  RETURN_IF_ERROR(MakeDirectories(ParentOf(blob)));
  UniqueFd fd(open(absl::StrCat(blob, ".incomplete").c_str(),
                   O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid()) return WriteError(errno, blob);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return WriteError(errno, blob);
  const auto held = static_cast<uint64_t>(info.st_size);
  std::unique_ptr<PartialBlob> partial(new PartialBlob(file, blob, std::move(lock), std::move(fd)));
  if (held > file.size) {
    RETURN_IF_ERROR(partial->Restart());
    return partial;
  }
  std::string piece(std::min<uint64_t>(held, kReadBytes), '\0');
  while (partial->size_ < held) {
    RETURN_IF_ERROR(check());
    piece.resize(std::min<uint64_t>(piece.size(), held - partial->size_));
    RETURN_IF_ERROR(ReadExactly(partial->fd_.get(), partial->size_,
                                absl::MakeSpan(&piece[0], piece.size()), blob));
    partial->hasher_.Update(piece);
    partial->size_ += piece.size();
  }
  return partial;
}

uint64_t HubCache::PartialBytes(const std::string& repo, const HubFile& file) const {
  struct stat info;
  const std::string path = absl::StrCat(BlobPath(repo, file), ".incomplete");
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return 0;
  const auto held = static_cast<uint64_t>(info.st_size);
  return held <= file.size ? held : 0;
}

absl::Status HubCache::CheckSpace(uint64_t bytes) const {
  // The cache may not exist yet: then its closest existing parent tells.
  std::string place = dir_;
  struct statvfs info;
  while (statvfs(place.c_str(), &info) != 0) {
    const size_t slash = place.find_last_of('/');
    if (errno != ENOENT || slash == std::string::npos) return ErrnoStatus(errno, place);
    place = slash == 0 ? "/" : place.substr(0, slash);
  }
  const uint64_t free = static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  const bool unknown = info.f_blocks == 0;  // not every file system counts
  if (bytes == 0 || unknown || (free >= kReserveBytes && free - kReserveBytes >= bytes)) {
    return absl::OkStatus();
  }
  return ResourceExhausted(dir_, ": ", bytes, " bytes are to be downloaded, but only ", free,
                           " bytes are free there; set HF_HUB_CACHE to another disk, or make room");
}

}  // namespace featurescope
