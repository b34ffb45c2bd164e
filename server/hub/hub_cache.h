// The cache that huggingface_hub keeps, read and written in its own layout:
//
//   models--ORG--NAME/blobs/HASH               content, named by its hash; HASH.incomplete: a part
//   models--ORG--NAME/snapshots/COMMIT/PATH    links to ../../blobs/HASH
//   models--ORG--NAME/refs/REVISION            the commit a revision was when last asked for
//   .locks/models--ORG--NAME/HASH.lock         held while a blob is written
//
// Reading works in a cache that cannot be written.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/hash.h"
#include "server/formats/file.h"
#include "server/hub/hub_client.h"
#include "server/hub/hub_files.h"
#include "server/hub/sha1.h"

namespace featurescope {

// The hash of a content whose kind and size are known from the start.
class ContentHasher {
 public:
  explicit ContentHasher(const HubFile& file);
  void Update(absl::string_view bytes);
  std::string HexDigest();  // REQUIRES: called once, last

 private:
  std::variant<Sha256, Sha1> hash_;
};

// A blob that is being written, with its lock. What another process left of it is kept and
// continued; destroyed without Commit, it leaves what it has for the next one. Not thread-safe.
class PartialBlob : public DownloadSink {
 public:
  ~PartialBlob() override = default;

  uint64_t size() const override { return size_; }
  //   DataLoss           more bytes than the file has
  //   ResourceExhausted  the disk is full; what was written stays
  absl::Status Append(absl::string_view bytes) override;
  absl::Status Restart() override;

  // Checks size and hash, then gives the blob its name. DataLoss, and all bytes are dropped, when
  // they are wrong. REQUIRES: nothing is appended after it succeeded.
  absl::Status Commit();

 private:
  friend class HubCache;
  PartialBlob(HubFile file, std::string blob, UniqueFd lock, UniqueFd fd);

  const HubFile file_;
  const std::string blob_;  // its final path
  UniqueFd lock_;
  UniqueFd fd_;
  uint64_t size_ = 0;
  ContentHasher hasher_;
};

// Const and thread-safe; the file system is the state.
class HubCache {
 public:
  explicit HubCache(std::string dir) : dir_(std::move(dir)) {}

  const std::string& dir() const { return dir_; }
  std::string RepoDir(absl::string_view repo) const;
  std::string SnapshotDir(absl::string_view repo, absl::string_view commit) const;

  // The commit that the cache has for a revision. NotFound when it has none.
  absl::StatusOr<std::string> CommitOf(const std::string& repo, const std::string& revision) const;
  absl::Status SetCommit(const std::string& repo, const std::string& revision,
                         const std::string& commit) const;

  // The files of a snapshot, without their hashes. NotFound when there is none.
  absl::StatusOr<HubListing> ListSnapshot(const std::string& repo, const std::string& commit) const;
  // Whether the snapshot has the file, in its full size.
  bool Has(const HubListing& listing, const HubFile& file) const;
  // Whether the content is there, in its full size, so that only Link is missing.
  bool HasBlob(const std::string& repo, const HubFile& file) const;

  // Enters a blob into the snapshot. PermissionDenied: the cache is not writable.
  absl::Status Link(const HubListing& listing, const HubFile& file) const;

  // Opens a blob for writing, waiting until others have released it; null when one of them has
  // completed it. What `check` returns ends the wait.
  //
  //   PermissionDenied  the cache is not writable
  absl::StatusOr<std::unique_ptr<PartialBlob>> OpenPartial(const std::string& repo,
                                                           const HubFile& file,
                                                           const HubClient::Check& check) const;

  // Bytes that lie in HASH.incomplete.
  uint64_t PartialBytes(const std::string& repo, const HubFile& file) const;
  // ResourceExhausted when the file system has less than `bytes` and some reserve left.
  absl::Status CheckSpace(uint64_t bytes) const;

 private:
  std::string BlobPath(absl::string_view repo, const HubFile& file) const;

  const std::string dir_;
};

}  // namespace featurescope
