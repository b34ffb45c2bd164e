#include "server/formats/npz.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/little_endian.h"
#include "server/formats/npy_header.h"
#include "server/formats/tensor_shape.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

constexpr absl::string_view kSuffix = ".npy";
constexpr absl::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kPreambleBytes = 8;  // magic and version

std::string Quoted(absl::string_view name) {
  return absl::StrCat("\"", PrintableUtf8(name, 200), "\"");
}

// Bytes before the elements, whose last ones are the header's text.
struct Preamble {
  uint64_t bytes = 0;
  uint64_t text_bytes = 0;
};

absl::StatusOr<Preamble> ReadPreamble(const ZipArchive& archive, const ZipMember& member,
                                      const std::string& where) {
  char start[kPreambleBytes + 4] = {};
  const size_t n = std::min<uint64_t>(member.bytes, sizeof(start));
  RETURN_IF_ERROR(archive.ReadPrefix(member, absl::MakeSpan(start, n)));
  if (n < sizeof(start) || absl::string_view(start, kMagic.size()) != kMagic) {
    return InvalidArgument(where, ": is no .npy array (pickled objects are not supported)");
  }
  const int major = static_cast<uint8_t>(start[6]);
  if (major < 1 || major > 3) {
    return InvalidArgument(where, ": .npy version ", major, "; known are 1, 2 and 3");
  }
  Preamble preamble;
  const uint64_t length_bytes = major == 1 ? 2 : 4;
  preamble.text_bytes = major == 1 ? LoadLe<uint16_t>(start + kPreambleBytes)
                                   : LoadLe<uint32_t>(start + kPreambleBytes);
  preamble.bytes = kPreambleBytes + length_bytes + preamble.text_bytes;
  if (preamble.text_bytes > kMaxNpyHeaderBytes || preamble.bytes > member.bytes) {
    return InvalidArgument(where, ": .npy header of ", preamble.text_bytes,
                           " bytes in a member of ", member.bytes, "; at most ", kMaxNpyHeaderBytes,
                           " are allowed");
  }
  return preamble;
}

absl::StatusOr<NpzArray> ReadArray(const ZipArchive& archive, size_t i) {
  const ZipMember& member = archive.members()[i];
  const std::string where = absl::StrCat(archive.path(), ": array ", Quoted(member.name));
  if (!absl::EndsWith(member.name, kSuffix) || member.name.size() == kSuffix.size()) {
    return InvalidArgument(where, ": its name does not end in ", kSuffix);
  }
  ASSIGN_OR_RETURN(const Preamble preamble, ReadPreamble(archive, member, where));
  std::string text(preamble.bytes, '\0');
  RETURN_IF_ERROR(archive.ReadPrefix(member, absl::MakeSpan(&text[0], text.size())));
  ASSIGN_OR_RETURN(
      NpyHeader header,
      ParseNpyHeader(absl::string_view(text).substr(preamble.bytes - preamble.text_bytes), where));
  NpzArray array;
  array.name = member.name.substr(0, member.name.size() - kSuffix.size());
  array.dtype = header.dtype;
  array.shape = std::move(header.shape);
  array.fortran_order = header.fortran_order;
  array.member = i;
  array.offset = preamble.bytes;
  ASSIGN_OR_RETURN(array.bytes, CheckedTensorBytes(array.dtype, array.shape, where));
  array.n_elements = array.bytes / static_cast<uint64_t>(DTypeSize(array.dtype));
  if (array.bytes != member.bytes - preamble.bytes) {
    return InvalidArgument(where, ": ", DTypeName(array.dtype), " ", ShapeText(array.shape),
                           " needs ", array.bytes, " bytes, the member has ",
                           member.bytes - preamble.bytes);
  }
  return array;
}

// Takes a member's pieces and passes on what follows its header, in whole elements.
class ElementSink {
 public:
  ElementSink(const NpzArray& array, const ZipArchive::Sink& sink)
      : skip_(array.offset), element_(static_cast<size_t>(DTypeSize(array.dtype))), sink_(sink) {}

  absl::Status Take(absl::Span<const char> piece) {
    const size_t skipped = std::min<uint64_t>(skip_, piece.size());
    skip_ -= skipped;
    piece.remove_prefix(skipped);
    if (part_bytes_ > 0) {
      const size_t n = std::min(piece.size(), element_ - part_bytes_);
      std::memcpy(part_ + part_bytes_, piece.data(), n);
      part_bytes_ += n;
      piece.remove_prefix(n);
      if (part_bytes_ < element_) return absl::OkStatus();
      part_bytes_ = 0;
      RETURN_IF_ERROR(sink_(absl::MakeConstSpan(part_, element_)));
    }
    const size_t whole = piece.size() / element_ * element_;
    part_bytes_ = piece.size() - whole;
    std::memcpy(part_, piece.data() + whole, part_bytes_);
    if (whole == 0) return absl::OkStatus();
    return sink_(piece.subspan(0, whole));
  }

 private:
  uint64_t skip_;  // header bytes still to come
  const size_t element_;
  const ZipArchive::Sink& sink_;
  char part_[8] = {};  // an element that a piece has cut
  size_t part_bytes_ = 0;
};

}  // namespace

absl::StatusOr<NpzFile> NpzFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(ZipArchive archive, ZipArchive::Open(path));
  NpzFile file(std::move(archive));
  for (size_t i = 0; i < file.archive_.members().size(); ++i) {
    ASSIGN_OR_RETURN(NpzArray array, ReadArray(file.archive_, i));
    file.by_name_[array.name] = i;
    file.arrays_.push_back(std::move(array));
  }
  return file;
}

bool NpzFile::LooksLikeNpz(const std::string& path) {
  const absl::StatusOr<ZipArchive> archive = ZipArchive::Open(path);
  return archive.ok() && !archive->members().empty() &&
         absl::EndsWith(archive->members()[0].name, kSuffix);
}

const NpzArray* NpzFile::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &arrays_[found->second];
}

absl::StatusOr<const NpzArray*> NpzFile::Get(absl::string_view name) const {
  const NpzArray* array = Find(name);
  if (array == nullptr) return NotFound(path(), ": has no array ", Quoted(name));
  return array;
}

absl::Status NpzFile::Stream(const NpzArray& array, const ZipArchive::Sink& sink) const {
  ElementSink elements(array, sink);
  return archive_.Stream(archive_.members()[array.member],
                         [&](absl::Span<const char> piece) { return elements.Take(piece); });
}

absl::Status NpzFile::Read(const NpzArray& array, absl::Span<char> out) const {
  if (out.size() != array.bytes) {
    return InvalidArgument(path(), ": array ", Quoted(array.name), " has ", array.bytes,
                           " bytes, there is room for ", out.size());
  }
  char* next = out.data();
  return Stream(array, [&next](absl::Span<const char> piece) {
    std::memcpy(next, piece.data(), piece.size());
    next += piece.size();
    return absl::OkStatus();
  });
}

}  // namespace featurescope
