#include "server/formats/zip_archive.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/formats/zip_directory.h"

namespace featurescope {
namespace {

constexpr size_t kPieceBytes = 1u << 20;
constexpr size_t kInputBytes = 64u << 10;

std::string Quoted(absl::string_view name) {
  return absl::StrCat("\"", PrintableUtf8(name, 200), "\"");
}

// Reads a member's inflated bytes from first to last.
class MemberReader {
 public:
  MemberReader(int fd, const ZipMember& member, std::string where)
      : fd_(fd), member_(member), where_(std::move(where)) {
    if (!member_.deflated) return;
    input_.resize(std::min<uint64_t>(kInputBytes, member_.compressed_bytes));
    initialized_ = inflateInit2(&stream_, -MAX_WBITS) == Z_OK;
  }
  ~MemberReader() {
    if (initialized_) inflateEnd(&stream_);
  }
  MemberReader(const MemberReader&) = delete;
  MemberReader& operator=(const MemberReader&) = delete;

  // The next out.size() bytes.
  absl::Status Next(absl::Span<char> out) {
    if (member_.deflated) {
      RETURN_IF_ERROR(Inflate(out));
    } else {
      RETURN_IF_ERROR(ReadExactly(fd_, member_.data_offset + consumed_, out, where_));
      consumed_ += out.size();
    }
    crc_ = static_cast<uint32_t>(
        crc32_z(crc_, reinterpret_cast<const Bytef*>(out.data()), out.size()));
    return absl::OkStatus();
  }

  // REQUIRES: all of the member has been read.
  absl::Status CheckEnd() {
    if (member_.deflated) {
      char extra;
      size_t n = 0;
      while (!ended_ && n == 0) {
        ASSIGN_OR_RETURN(n, InflateSome(&extra, 1));
      }
      if (n != 0 || consumed_ != member_.compressed_bytes || stream_.avail_in != 0) {
        return InvalidArgument(where_, ": does not inflate to its ", member_.bytes, " bytes");
      }
    }
    if (member_.crc32 != 0 && crc_ != member_.crc32) {
      return InvalidArgument(where_, ": damaged: its check sum (CRC-32) is not the recorded one");
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Inflate(absl::Span<char> out) {
    while (!out.empty()) {
      ASSIGN_OR_RETURN(const size_t n, InflateSome(out.data(), out.size()));
      out.remove_prefix(n);
      if (ended_ && !out.empty()) {
        return InvalidArgument(where_, ": inflates to fewer than its ", member_.bytes, " bytes");
      }
    }
    return absl::OkStatus();
  }

  // One call of inflate with room for `n` bytes; gives how many came.
  absl::StatusOr<size_t> InflateSome(char* out, size_t n) {
    if (!initialized_) return ResourceExhausted(where_, ": no memory to inflate it");
    if (ended_) return 0;
    if (stream_.avail_in == 0 && consumed_ < member_.compressed_bytes) {
      const size_t piece = std::min<uint64_t>(input_.size(), member_.compressed_bytes - consumed_);
      RETURN_IF_ERROR(ReadExactly(fd_, member_.data_offset + consumed_,
                                  absl::MakeSpan(&input_[0], piece), where_));
      consumed_ += piece;
      stream_.next_in = reinterpret_cast<Bytef*>(&input_[0]);
      stream_.avail_in = static_cast<uInt>(piece);
    }
    const uInt room = static_cast<uInt>(std::min<size_t>(n, kPieceBytes));
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = room;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    const size_t came = room - stream_.avail_out;
    ended_ = result == Z_STREAM_END;
    // No progress without an error means that the input has run out.
    if ((result != Z_OK && result != Z_STREAM_END) || (came == 0 && !ended_ && InputEnded())) {
      return InvalidArgument(where_, ": its deflated bytes are damaged");
    }
    return came;
  }

  bool InputEnded() const { return stream_.avail_in == 0 && consumed_ == member_.compressed_bytes; }

  const int fd_;
  const ZipMember& member_;
  const std::string where_;
  std::string input_;
  z_stream stream_ = {};
  bool initialized_ = false;
  bool ended_ = false;
  uint64_t consumed_ = 0;  // compressed bytes read from the file
  uint32_t crc_ = 0;
};

}  // namespace

absl::StatusOr<ZipArchive> ZipArchive::Open(const std::string& path) {
  ZipArchive archive;
  archive.path_ = path;
  ASSIGN_OR_RETURN(archive.fd_, OpenForReading(path, &archive.file_bytes_));
  ASSIGN_OR_RETURN(archive.members_,
                   ReadZipDirectory(archive.fd_.get(), archive.file_bytes_, path));
  for (size_t i = 0; i < archive.members_.size(); ++i) {
    const std::string& name = archive.members_[i].name;
    if (!archive.by_name_.emplace(name, i).second) {
      return InvalidArgument(path, ": bad zip archive: two members are named ", Quoted(name));
    }
  }
  return archive;
}

const ZipMember* ZipArchive::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &members_[found->second];
}

std::string ZipArchive::Where(const ZipMember& member) const {
  return absl::StrCat(path_, ": member ", Quoted(member.name));
}

absl::Status ZipArchive::Stream(const ZipMember& member, const Sink& sink) const {
  MemberReader reader(fd_.get(), member, Where(member));
  std::string piece(std::min<uint64_t>(kPieceBytes, member.bytes), '\0');
  for (uint64_t done = 0; done < member.bytes; done += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), member.bytes - done));
    RETURN_IF_ERROR(reader.Next(absl::MakeSpan(&piece[0], piece.size())));
    RETURN_IF_ERROR(sink(piece));
  }
  return reader.CheckEnd();
}

absl::StatusOr<std::string> ZipArchive::Read(const ZipMember& member, uint64_t max_bytes) const {
  if (member.bytes > max_bytes) {
    return InvalidArgument(Where(member), ": ", member.bytes, " bytes, at most ", max_bytes,
                           " are allowed");
  }
  std::string bytes(member.bytes, '\0');
  MemberReader reader(fd_.get(), member, Where(member));
  RETURN_IF_ERROR(reader.Next(absl::MakeSpan(&bytes[0], bytes.size())));
  RETURN_IF_ERROR(reader.CheckEnd());
  return bytes;
}

absl::Status ZipArchive::ReadPrefix(const ZipMember& member, absl::Span<char> out) const {
  if (out.size() > member.bytes) {
    return OutOfRange(Where(member), ": ", out.size(), " bytes are wanted, it has ", member.bytes);
  }
  return MemberReader(fd_.get(), member, Where(member)).Next(out);
}

absl::Status ZipArchive::ReadStored(const ZipMember& member, uint64_t offset,
                                    absl::Span<char> out) const {
  if (member.deflated) return FailedPrecondition(Where(member), ": is not stored but deflated");
  if (offset > member.bytes || out.size() > member.bytes - offset) {
    return OutOfRange(Where(member), ": bytes [", offset, ", +", out.size(),
                      ") are out of range [0, ", member.bytes, ")");
  }
  return ReadExactly(fd_.get(), member.data_offset + offset, out, Where(member));
}

}  // namespace featurescope
