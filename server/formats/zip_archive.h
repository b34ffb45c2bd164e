// Zip archives, as np.savez and torch.save write them: strict, bounded reading of members in place.
//
// Members are stored or deflated; zip64 is understood; encryption, spanning and anything between
// the members that hides data is refused. Nothing is ever extracted to the disk, so a member's name
// is only a name. A file that opens is consistent: the members' bytes lie inside it, do not
// overlap, and the central directory agrees with the local headers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/file.h"

namespace featurescope {

constexpr size_t kMaxZipMembers = 65536;
constexpr size_t kMaxZipNameBytes = 1024;
constexpr uint64_t kMaxZipDirectoryBytes = 32u << 20;
// Deflated members beyond this many bytes may not inflate to more than kMaxZipRatio times their
// size: weights never do.
constexpr uint64_t kZipRatioFreeBytes = 16u << 20;
constexpr uint64_t kMaxZipRatio = 100;

struct ZipMember {
  std::string name;
  bool deflated = false;  // else stored
  uint32_t crc32 = 0;     // of the inflated bytes; 0: not recorded (PyTorch can leave it out)
  uint64_t compressed_bytes = 0;
  uint64_t bytes = 0;        // inflated
  uint64_t data_offset = 0;  // of the first (compressed) byte in the file
};

// An open, checked archive. Const and thread-safe; reads with pread. Movable.
class ZipArchive {
 public:
  // Takes pieces of a member in their order; an error ends the reading.
  using Sink = std::function<absl::Status(absl::Span<const char> piece)>;

  // NotFound, PermissionDenied; InvalidArgument naming the file, the member and the broken rule.
  static absl::StatusOr<ZipArchive> Open(const std::string& path);

  // In the order of the central directory. Names are unique.
  const std::vector<ZipMember>& members() const { return members_; }
  // nullptr when there is no member of this name.
  const ZipMember* Find(absl::string_view name) const;

  // Passes the whole member on, inflated, in pieces of at most 1 MiB, and checks its CRC at the
  // end.
  //   InvalidArgument  damaged data: bad deflate stream, other length, other CRC
  //   DataLoss         the file has been shortened meanwhile
  absl::Status Stream(const ZipMember& member, const Sink& sink) const;
  // The whole member. REQUIRES: member.bytes <= max_bytes, else InvalidArgument.
  absl::StatusOr<std::string> Read(const ZipMember& member, uint64_t max_bytes) const;
  // The first `out.size()` inflated bytes, without a look at the CRC. OutOfRange when there are
  // fewer.
  absl::Status ReadPrefix(const ZipMember& member, absl::Span<char> out) const;
  // Some bytes of a stored member, without a look at the CRC. FailedPrecondition for a deflated
  // one; OutOfRange.
  absl::Status ReadStored(const ZipMember& member, uint64_t offset, absl::Span<char> out) const;

  const std::string& path() const { return path_; }
  uint64_t file_bytes() const { return file_bytes_; }
  // The open file, for one who has noted where its members lie.
  UniqueFd TakeFile() && { return std::move(fd_); }

 private:
  std::string Where(const ZipMember& member) const;

  std::string path_;
  UniqueFd fd_;
  uint64_t file_bytes_ = 0;
  std::vector<ZipMember> members_;
  absl::flat_hash_map<std::string, size_t> by_name_;
};

}  // namespace featurescope
