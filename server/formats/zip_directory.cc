#include "server/formats/zip_directory.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/little_endian.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kEntrySignature = 0x02014b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocatorSignature = 0x07064b50;
constexpr size_t kLocalBytes = 30;
constexpr size_t kEntryBytes = 46;
constexpr size_t kEndBytes = 22;
constexpr size_t kEnd64Bytes = 56;
constexpr size_t kLocatorBytes = 20;
constexpr size_t kMaxCommentBytes = 65535;

constexpr uint16_t kFlagDescriptor = 1u << 3;  // sizes and CRC follow the bytes
// Compression level, descriptor, UTF-8 names. All others change what the bytes mean.
constexpr uint16_t kKnownFlags = 0x2 | 0x4 | kFlagDescriptor | 0x800;
constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;
constexpr uint16_t kZip64Extra = 1;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // "see the zip64 extra field"

std::string Quoted(absl::string_view name) {
  return absl::StrCat("\"", PrintableUtf8(name, 200), "\"");
}

// Where the central directory lies.
struct Directory {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t n_members = 0;
};

// A member with what the central directory says of its local header.
struct Entry {
  ZipMember member;
  uint16_t flags = 0;
  uint64_t header_offset = 0;
};

// Reads one archive's structure. Everything is compared before it is added to anything.
class DirectoryReader {
 public:
  DirectoryReader(int fd, uint64_t file_bytes, const std::string& path)
      : fd_(fd), file_bytes_(file_bytes), path_(path) {}

  absl::StatusOr<std::vector<ZipMember>> Read() {
    ASSIGN_OR_RETURN(const Directory directory, FindDirectory());
    ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(directory));
    RETURN_IF_ERROR(CheckLayout(&entries, directory.offset));
    std::vector<ZipMember> members;
    members.reserve(entries.size());
    for (Entry& entry : entries) members.push_back(std::move(entry.member));
    return members;
  }

 private:
  template <typename... Args>
  absl::Status Bad(const Args&... args) const {
    return InvalidArgument(path_, ": bad zip archive: ", args...);
  }

  absl::StatusOr<std::string> ReadBytes(uint64_t offset, size_t n) const {
    std::string bytes(n, '\0');
    RETURN_IF_ERROR(ReadExactly(fd_, offset, absl::MakeSpan(&bytes[0], n), path_));
    return bytes;
  }

  absl::StatusOr<Directory> FindDirectory() const {
    if (file_bytes_ < kEndBytes) return Bad(file_bytes_, " bytes are none");
    const size_t tail_bytes = std::min<uint64_t>(file_bytes_, kEndBytes + kMaxCommentBytes);
    ASSIGN_OR_RETURN(const std::string tail, ReadBytes(file_bytes_ - tail_bytes, tail_bytes));
    for (size_t at = tail_bytes - kEndBytes + 1; at-- > 0;) {
      const char* end = tail.data() + at;
      if (LoadLe<uint32_t>(end) != kEndSignature ||
          LoadLe<uint16_t>(end + 20) != tail_bytes - at - kEndBytes) {
        continue;
      }
      return ParseEnd(end, file_bytes_ - tail_bytes + at);
    }
    return Bad("it has no end record (truncated?)");
  }

  absl::StatusOr<Directory> ParseEnd(const char* end, uint64_t end_offset) const {
    Directory directory;
    directory.n_members = LoadLe<uint16_t>(end + 10);
    directory.bytes = LoadLe<uint32_t>(end + 12);
    directory.offset = LoadLe<uint32_t>(end + 16);
    if (LoadLe<uint16_t>(end + 4) != 0 || LoadLe<uint16_t>(end + 6) != 0 ||
        LoadLe<uint16_t>(end + 8) != directory.n_members) {
      return Bad("it is spread over several disks");
    }
    uint64_t directory_end = end_offset;
    if (end_offset >= kLocatorBytes + kEnd64Bytes) {
      ASSIGN_OR_RETURN(const std::string locator,
                       ReadBytes(end_offset - kLocatorBytes, kLocatorBytes));
      if (LoadLe<uint32_t>(locator.data()) == kLocatorSignature) {
        RETURN_IF_ERROR(ParseEnd64(locator, end_offset - kLocatorBytes, &directory));
        directory_end = LoadLe<uint64_t>(locator.data() + 8);
      }
    }
    if (directory.bytes > directory_end || directory.offset != directory_end - directory.bytes) {
      return Bad("the directory of ", directory.bytes, " bytes at byte ", directory.offset,
                 " does not end where its end record begins, at byte ", directory_end);
    }
    if (directory.bytes > kMaxZipDirectoryBytes || directory.n_members > kMaxZipMembers ||
        directory.n_members * kEntryBytes > directory.bytes) {
      return Bad(directory.n_members, " members in a directory of ", directory.bytes,
                 " bytes; at most ", kMaxZipMembers, " members and ", kMaxZipDirectoryBytes,
                 " bytes are allowed");
    }
    return directory;
  }

  absl::Status ParseEnd64(const std::string& locator, uint64_t locator_offset,
                          Directory* directory) const {
    const uint64_t offset = LoadLe<uint64_t>(locator.data() + 8);
    if (LoadLe<uint32_t>(locator.data() + 4) != 0 || LoadLe<uint32_t>(locator.data() + 16) > 1 ||
        locator_offset < kEnd64Bytes || offset > locator_offset - kEnd64Bytes) {
      return Bad("the zip64 locator points to byte ", offset);
    }
    ASSIGN_OR_RETURN(const std::string end, ReadBytes(offset, kEnd64Bytes));
    // The record's size leaves out its first 12 bytes.
    if (LoadLe<uint32_t>(end.data()) != kEnd64Signature ||
        LoadLe<uint64_t>(end.data() + 4) != locator_offset - offset - 12 ||
        LoadLe<uint32_t>(end.data() + 16) != 0 || LoadLe<uint32_t>(end.data() + 20) != 0) {
      return Bad("its zip64 end record is damaged");
    }
    Directory wide;
    wide.n_members = LoadLe<uint64_t>(end.data() + 32);
    wide.bytes = LoadLe<uint64_t>(end.data() + 40);
    wide.offset = LoadLe<uint64_t>(end.data() + 48);
    const auto agree = [](uint64_t narrow, uint64_t all_ones, uint64_t value) {
      return narrow == all_ones || narrow == value;
    };
    if (LoadLe<uint64_t>(end.data() + 24) != wide.n_members ||
        !agree(directory->n_members, 0xFFFF, wide.n_members) ||
        !agree(directory->bytes, kIn64, wide.bytes) ||
        !agree(directory->offset, kIn64, wide.offset)) {
      return Bad("its two end records disagree");
    }
    *directory = wide;
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Entry>> ReadEntries(const Directory& directory) const {
    ASSIGN_OR_RETURN(const std::string bytes, ReadBytes(directory.offset, directory.bytes));
    absl::string_view rest = bytes;
    std::vector<Entry> entries;
    for (uint64_t i = 0; i < directory.n_members; ++i) {
      ASSIGN_OR_RETURN(Entry entry, ParseEntry(&rest));
      RETURN_IF_ERROR(CheckLocalHeader(directory.offset, &entry));
      entries.push_back(std::move(entry));
    }
    if (!rest.empty()) return Bad(rest.size(), " bytes follow the last entry of its directory");
    return entries;
  }

  absl::StatusOr<Entry> ParseEntry(absl::string_view* rest) const {
    const char* at = rest->data();
    if (rest->size() < kEntryBytes || LoadLe<uint32_t>(at) != kEntrySignature) {
      return Bad("an entry of its directory is damaged");
    }
    const size_t name_bytes = LoadLe<uint16_t>(at + 28);
    const size_t extra_bytes = LoadLe<uint16_t>(at + 30);
    const size_t entry_bytes = kEntryBytes + name_bytes + extra_bytes + LoadLe<uint16_t>(at + 32);
    if (rest->size() < entry_bytes) return Bad("an entry of its directory is cut off");
    Entry entry;
    ZipMember& member = entry.member;
    member.name = std::string(rest->substr(kEntryBytes, name_bytes));
    entry.flags = LoadLe<uint16_t>(at + 8);
    const uint16_t method = LoadLe<uint16_t>(at + 10);
    member.deflated = method == kDeflated;
    member.crc32 = LoadLe<uint32_t>(at + 16);
    member.compressed_bytes = LoadLe<uint32_t>(at + 20);
    member.bytes = LoadLe<uint32_t>(at + 24);
    entry.header_offset = LoadLe<uint32_t>(at + 42);
    const std::string where = absl::StrCat("member ", Quoted(member.name));
    if (name_bytes == 0 || name_bytes > kMaxZipNameBytes ||
        ValidUtf8Prefix(member.name) != name_bytes || member.name.find('\0') != std::string::npos) {
      return Bad(where, ": its name is empty, longer than ", kMaxZipNameBytes,
                 " bytes, no UTF-8 or has a NUL byte");
    }
    if ((entry.flags & ~kKnownFlags) != 0 || LoadLe<uint16_t>(at + 34) != 0) {
      return Bad(where, ": encrypted, patched or split members are not supported");
    }
    if (method != kStored && method != kDeflated) {
      return Bad(where, ": compression method ", method, "; known are 0 (stored) and 8 (deflated)");
    }
    RETURN_IF_ERROR(
        ParseZip64Extra(rest->substr(kEntryBytes + name_bytes, extra_bytes), where,
                        {&member.bytes, &member.compressed_bytes, &entry.header_offset}));
    RETURN_IF_ERROR(CheckSizes(member, where));
    rest->remove_prefix(entry_bytes);
    return entry;
  }

  absl::Status CheckSizes(const ZipMember& member, const std::string& where) const {
    if (!member.deflated && member.bytes != member.compressed_bytes) {
      return Bad(where, ": stored, but of ", member.compressed_bytes, " and ", member.bytes,
                 " bytes");
    }
    if (member.deflated && member.bytes > kZipRatioFreeBytes &&
        member.bytes / kMaxZipRatio > member.compressed_bytes) {
      return Bad(where, ": ", member.compressed_bytes, " bytes that inflate to ", member.bytes,
                 ", more than ", kMaxZipRatio, " times as many");
    }
    return absl::OkStatus();
  }

  // Replaces those of `fields` that are all ones by the 64-bit values of the extra field, in order.
  absl::Status ParseZip64Extra(absl::string_view extra, const std::string& where,
                               std::initializer_list<uint64_t*> fields) const {
    absl::string_view values;
    while (extra.size() >= 4) {
      const uint16_t id = LoadLe<uint16_t>(extra.data());
      const uint16_t n = LoadLe<uint16_t>(extra.data() + 2);
      extra.remove_prefix(4);
      if (n > extra.size()) return Bad(where, ": its extra field is damaged");
      if (id == kZip64Extra) values = extra.substr(0, n);
      extra.remove_prefix(n);
    }
    for (uint64_t* field : fields) {
      if (*field != kIn64) continue;
      if (values.size() < 8) return Bad(where, ": its zip64 sizes are missing");
      *field = LoadLe<uint64_t>(values.data());
      values.remove_prefix(8);
    }
    return absl::OkStatus();
  }

  // Finds where the member's bytes begin, and that the header before them tells the same.
  absl::Status CheckLocalHeader(uint64_t directory_offset, Entry* entry) const {
    ZipMember& member = entry->member;
    const std::string where = absl::StrCat("member ", Quoted(member.name));
    const uint64_t offset = entry->header_offset;
    if (offset > directory_offset || directory_offset - offset < kLocalBytes) {
      return Bad(where, ": its header at byte ", offset, " does not lie before the directory");
    }
    ASSIGN_OR_RETURN(const std::string header, ReadBytes(offset, kLocalBytes));
    const size_t name_bytes = LoadLe<uint16_t>(header.data() + 26);
    const size_t extra_bytes = LoadLe<uint16_t>(header.data() + 28);
    const uint64_t space = directory_offset - offset - kLocalBytes;
    if (LoadLe<uint32_t>(header.data()) != kLocalSignature || space < name_bytes + extra_bytes ||
        space - name_bytes - extra_bytes < member.compressed_bytes) {
      return Bad(where, ": its header or its ", member.compressed_bytes,
                 " bytes do not lie before the directory");
    }
    ASSIGN_OR_RETURN(const std::string name_and_extra,
                     ReadBytes(offset + kLocalBytes, name_bytes + extra_bytes));
    const uint16_t flags = LoadLe<uint16_t>(header.data() + 6);
    const uint16_t method = LoadLe<uint16_t>(header.data() + 8);
    uint64_t compressed_bytes = LoadLe<uint32_t>(header.data() + 18);
    uint64_t bytes = LoadLe<uint32_t>(header.data() + 22);
    RETURN_IF_ERROR(ParseZip64Extra(absl::string_view(name_and_extra).substr(name_bytes), where,
                                    {&bytes, &compressed_bytes}));
    const bool later = (flags & kFlagDescriptor) != 0;
    const auto agree = [later](uint64_t local, uint64_t central) {
      return local == central || (later && local == 0);
    };
    if (absl::string_view(name_and_extra).substr(0, name_bytes) != member.name ||
        (flags & ~kKnownFlags) != 0 || method != (member.deflated ? kDeflated : kStored) ||
        !agree(bytes, member.bytes) || !agree(compressed_bytes, member.compressed_bytes) ||
        !agree(LoadLe<uint32_t>(header.data() + 14), member.crc32)) {
      return Bad(where, ": its header and the directory disagree");
    }
    member.data_offset = offset + kLocalBytes + name_bytes + extra_bytes;
    return absl::OkStatus();
  }

  // No two members may share bytes: a small file could otherwise hold endless members.
  absl::Status CheckLayout(std::vector<Entry>* entries, uint64_t directory_offset) const {
    std::vector<const Entry*> sorted;
    for (const Entry& entry : *entries) sorted.push_back(&entry);
    std::sort(sorted.begin(), sorted.end(),
              [](const Entry* a, const Entry* b) { return a->header_offset < b->header_offset; });
    for (size_t i = 0; i < sorted.size(); ++i) {
      const ZipMember& member = sorted[i]->member;
      const uint64_t limit =
          i + 1 < sorted.size() ? sorted[i + 1]->header_offset : directory_offset;
      if (member.data_offset + member.compressed_bytes > limit) {
        return Bad("member ", Quoted(member.name), " overlaps what follows it");
      }
    }
    return absl::OkStatus();
  }

  const int fd_;
  const uint64_t file_bytes_;
  const std::string& path_;
};

}  // namespace

absl::StatusOr<std::vector<ZipMember>> ReadZipDirectory(int fd, uint64_t file_bytes,
                                                        const std::string& path) {
  return DirectoryReader(fd, file_bytes, path).Read();
}

}  // namespace featurescope
