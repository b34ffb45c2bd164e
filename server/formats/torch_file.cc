#include "server/formats/torch_file.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/little_endian.h"
#include "server/formats/pickle.h"
#include "server/formats/torch_pickle.h"
#include "server/formats/utf8.h"
#include "server/formats/zip_archive.h"

namespace featurescope {
namespace {

constexpr size_t kPieceBytes = 1u << 20;
constexpr absl::string_view kZipMagic = "PK\x03\x04";
// A pickle of the number 0x1950a86a20f9469cfc6c, with which the legacy container begins.
constexpr absl::string_view kLegacyMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
constexpr int64_t kLegacyProtocol = 1001;
constexpr uint64_t kTarMagicOffset = 257;
constexpr int64_t kMaxZipVersion = 10;  // of the zip container, in PyTorch to this day

std::string Quoted(absl::string_view name) {
  return absl::StrCat("\"", PrintableUtf8(name, 200), "\"");
}

// What either container gives.
struct Content {
  UniqueFd fd;
  TorchTree tree;  // with the storages' places filled in
};

bool IsLegacyMagic(absl::string_view start) {
  return start.size() >= 2 + kLegacyMagic.size() && start[0] == '\x80' &&
         start.substr(2, kLegacyMagic.size()) == kLegacyMagic;
}

// The first bytes of a file, fewer where it has fewer.
absl::StatusOr<std::string> ReadStart(const std::string& path, uint64_t max_bytes) {
  uint64_t size = 0;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path, &size));
  std::string start(std::min(size, max_bytes), '\0');
  RETURN_IF_ERROR(ReadExactly(fd.get(), 0, absl::MakeSpan(&start[0], start.size()), path));
  return start;
}

// ---- The zip container ----

// A member's content, stripped; empty when there is none.
absl::StatusOr<std::string> ReadNote(const ZipArchive& archive, const std::string& name) {
  const ZipMember* member = archive.Find(name);
  if (member == nullptr) return std::string();
  ASSIGN_OR_RETURN(std::string text, archive.Read(*member, 64));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

absl::Status CheckNotes(const ZipArchive& archive, const std::string& prefix) {
  const std::string& path = archive.path();
  if (archive.Find(prefix + "constants.pkl") != nullptr) {
    return InvalidArgument(path,
                           ": a TorchScript archive (torch.jit.save) is a program and not read; "
                           "save the state_dict with torch.save");
  }
  ASSIGN_OR_RETURN(const std::string byte_order, ReadNote(archive, prefix + "byteorder"));
  if (!byte_order.empty() && byte_order != "little") {
    return InvalidArgument(path, ": byte order ", Quoted(byte_order), "; only little is supported");
  }
  ASSIGN_OR_RETURN(const std::string version, ReadNote(archive, prefix + "version"));
  int64_t number = 0;
  if (!version.empty() &&
      (!absl::SimpleAtoi(version, &number) || number < 1 || number > kMaxZipVersion)) {
    return InvalidArgument(path, ": torch.save format version ", Quoted(version),
                           "; known are 1 to ", kMaxZipVersion);
  }
  return absl::OkStatus();
}

absl::Status PlaceInArchive(const ZipArchive& archive, const std::string& prefix,
                            TorchStorage* storage) {
  const ZipMember* member = archive.Find(absl::StrCat(prefix, "data/", storage->key));
  const std::string where = absl::StrCat(archive.path(), ": storage ", Quoted(storage->key));
  if (member == nullptr) return InvalidArgument(where, ": its member is missing");
  if (member->deflated) return InvalidArgument(where, ": is compressed; torch.save never does");
  if (member->bytes != storage->bytes) {
    return InvalidArgument(where, ": needs ", storage->bytes, " bytes, its member has ",
                           member->bytes);
  }
  storage->file_offset = member->data_offset;
  storage->has_crc32 = member->crc32 != 0;
  storage->crc32 = member->crc32;
  return absl::OkStatus();
}

absl::StatusOr<Content> ReadZip(const std::string& path) {
  ASSIGN_OR_RETURN(ZipArchive archive, ZipArchive::Open(path));
  // Every member lies in one folder, which has the name the file was saved under.
  std::string prefix;
  if (!archive.members().empty()) {
    const std::string& first = archive.members()[0].name;
    prefix = first.substr(0, first.find('/') + 1);
  }
  RETURN_IF_ERROR(CheckNotes(archive, prefix));
  const ZipMember* pickled = archive.Find(prefix + "data.pkl");
  if (prefix.empty() || pickled == nullptr) {
    return InvalidArgument(path, ": a zip archive without data.pkl is no torch.save file");
  }
  ASSIGN_OR_RETURN(const std::string bytes, archive.Read(*pickled, kMaxTorchPickleBytes));
  ASSIGN_OR_RETURN(const Pickle pickle, ParsePickle(bytes, path, TorchGlobals()));
  if (pickle.bytes != bytes.size()) {
    return InvalidArgument(path, ": ", bytes.size() - pickle.bytes, " bytes follow the pickle");
  }
  Content content;
  ASSIGN_OR_RETURN(content.tree, ReadTorchTree(pickle, path));
  for (TorchStorage& storage : content.tree.storages) {
    RETURN_IF_ERROR(PlaceInArchive(archive, prefix, &storage));
  }
  content.fd = std::move(archive).TakeFile();
  return content;
}

// ---- The legacy container ----
//
// Five pickles (magic number, protocol, system, the object, the storages' keys), then the storages
// in the order of the keys: int64 number of elements, elements.

class LegacyReader {
 public:
  explicit LegacyReader(const std::string& path) : path_(path) {}

  absl::StatusOr<Content> Read() {
    ASSIGN_OR_RETURN(content_.fd, OpenForReading(path_, &file_bytes_));
    pickles_.resize(std::min(file_bytes_, kMaxTorchPickleBytes));
    RETURN_IF_ERROR(
        ReadExactly(content_.fd.get(), 0, absl::MakeSpan(&pickles_[0], pickles_.size()), path_));
    ASSIGN_OR_RETURN(const Pickle magic, NextPickle());
    if (magic[magic.root].kind != PickleNode::Kind::kLong) {
      return InvalidArgument(path_, ": the magic number is missing");
    }
    ASSIGN_OR_RETURN(const Pickle protocol, NextPickle());
    if (protocol[protocol.root].integer != kLegacyProtocol) {
      return InvalidArgument(path_, ": torch.save protocol ", protocol[protocol.root].integer,
                             "; known is ", kLegacyProtocol);
    }
    RETURN_IF_ERROR(CheckSystem());
    ASSIGN_OR_RETURN(const Pickle object, NextPickle());
    ASSIGN_OR_RETURN(content_.tree, ReadTorchTree(object, path_));
    ASSIGN_OR_RETURN(const Pickle keys, NextPickle());
    RETURN_IF_ERROR(PlaceStorages(keys));
    return std::move(content_);
  }

 private:
  absl::StatusOr<Pickle> NextPickle() {
    ASSIGN_OR_RETURN(Pickle pickle, ParsePickle(absl::string_view(pickles_).substr(offset_), path_,
                                                TorchGlobals()));
    offset_ += pickle.bytes;
    return pickle;
  }

  absl::Status CheckSystem() {
    ASSIGN_OR_RETURN(const Pickle pickle, NextPickle());
    ASSIGN_OR_RETURN(const TorchTree system, ReadTorchTree(pickle, path_));
    const TorchValue* little = system.root.Find("little_endian");
    if (little == nullptr || little->AsBool() == nullptr || !*little->AsBool()) {
      return InvalidArgument(path_, ": was not written on a little-endian machine");
    }
    return absl::OkStatus();
  }

  absl::Status PlaceStorages(const Pickle& keys) {
    ASSIGN_OR_RETURN(const TorchTree list, ReadTorchTree(keys, path_));
    const std::vector<TorchValue>* items = list.root.AsSequence();
    std::vector<TorchStorage>& storages = content_.tree.storages;
    if (items == nullptr || items->size() != storages.size()) {
      return InvalidArgument(path_, ": its list of storages does not have the ", storages.size(),
                             " that its tensors use");
    }
    absl::flat_hash_map<absl::string_view, TorchStorage*> unplaced;
    for (TorchStorage& storage : storages) unplaced[storage.key] = &storage;
    for (const TorchValue& item : *items) {
      const std::string* key = item.AsString();
      const auto found = key == nullptr ? unplaced.end() : unplaced.find(*key);
      if (found == unplaced.end()) {
        return InvalidArgument(path_, ": its list of storages has an unknown or repeated key");
      }
      RETURN_IF_ERROR(Place(found->second));
      unplaced.erase(found);
    }
    if (offset_ != file_bytes_) {
      return InvalidArgument(path_, ": ", file_bytes_ - offset_, " bytes follow the last storage");
    }
    return absl::OkStatus();
  }

  absl::Status Place(TorchStorage* storage) {
    const std::string where = absl::StrCat(path_, ": storage ", Quoted(storage->key));
    char length[8] = {};
    if (file_bytes_ - offset_ < sizeof(length)) {
      return InvalidArgument(where, ": the file ends before it");
    }
    RETURN_IF_ERROR(ReadExactly(content_.fd.get(), offset_, absl::MakeSpan(length), where));
    offset_ += sizeof(length);
    if (LoadLe<uint64_t>(length) != storage->n_elements) {
      return InvalidArgument(where, ": has ", LoadLe<int64_t>(length),
                             " elements, its tensors say ", storage->n_elements);
    }
    if (file_bytes_ - offset_ < storage->bytes) {
      return InvalidArgument(where, ": needs ", storage->bytes, " bytes, the file has ",
                             file_bytes_ - offset_, " left (truncated?)");
    }
    storage->file_offset = offset_;
    offset_ += storage->bytes;
    return absl::OkStatus();
  }

  const std::string& path_;
  Content content_;
  uint64_t file_bytes_ = 0;
  std::string pickles_;  // the file's beginning, which must hold them
  uint64_t offset_ = 0;  // of what comes next in the file
};

}  // namespace

absl::StatusOr<TorchFile> TorchFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string start, ReadStart(path, kTarMagicOffset + 5));
  absl::StatusOr<Content> content;
  const bool legacy = IsLegacyMagic(start);
  if (legacy) {
    content = LegacyReader(path).Read();
  } else if (absl::StartsWith(start, kZipMagic)) {
    content = ReadZip(path);
  } else if (absl::EndsWith(start, "ustar")) {
    return InvalidArgument(path, ": the tar container of PyTorch < 0.1.10 is not supported");
  } else {
    return InvalidArgument(path,
                           ": is no torch.save file: neither a zip archive nor the legacy "
                           "container");
  }
  if (!content.ok()) return content.status();
  TorchFile file;
  file.path_ = path;
  file.fd_ = std::move(content->fd);
  file.legacy_ = legacy;
  file.root_ = std::move(content->tree.root);
  file.storages_ = std::move(content->tree.storages);
  return file;
}

bool TorchFile::LooksLikeTorchFile(const std::string& path) {
  const absl::StatusOr<std::string> start = ReadStart(path, 64);
  if (!start.ok()) return false;
  if (IsLegacyMagic(*start)) return true;
  if (!absl::StartsWith(*start, kZipMagic)) return false;
  const absl::StatusOr<ZipArchive> archive = ZipArchive::Open(path);
  if (!archive.ok()) return false;
  return std::any_of(archive->members().begin(), archive->members().end(),
                     [](const ZipMember& m) { return absl::EndsWith(m.name, "/data.pkl"); });
}

absl::StatusOr<const TorchTensor*> TorchFile::GetTensor(const TorchValue& dict,
                                                        absl::string_view key) const {
  const TorchValue* value = dict.Find(key);
  if (value == nullptr) return NotFound(path_, ": has no tensor ", Quoted(key));
  if (!value->is_tensor()) {
    return InvalidArgument(path_, ": ", Quoted(key), " is ", value->KindName(), ", no tensor");
  }
  return value->AsTensor();
}

absl::Status TorchFile::Read(const TorchStorage& storage, uint64_t offset,
                             absl::Span<char> out) const {
  const std::string where = absl::StrCat(path_, ": storage ", Quoted(storage.key));
  if (offset > storage.bytes || out.size() > storage.bytes - offset) {
    return OutOfRange(where, ": bytes [", offset, ", +", out.size(), ") are out of range [0, ",
                      storage.bytes, ")");
  }
  return ReadExactly(fd_.get(), storage.file_offset + offset, out, where);
}

absl::Status TorchFile::Stream(const TorchStorage& storage, const Sink& sink) const {
  std::string piece(std::min<uint64_t>(kPieceBytes, storage.bytes), '\0');
  uint32_t crc = 0;
  for (uint64_t offset = 0; offset < storage.bytes; offset += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), storage.bytes - offset));
    RETURN_IF_ERROR(Read(storage, offset, absl::MakeSpan(&piece[0], piece.size())));
    crc = static_cast<uint32_t>(
        crc32_z(crc, reinterpret_cast<const Bytef*>(piece.data()), piece.size()));
    RETURN_IF_ERROR(sink(piece));
  }
  if (!storage.has_crc32 || crc == storage.crc32) return absl::OkStatus();
  return InvalidArgument(path_, ": storage ", Quoted(storage.key),
                         ": damaged: its check sum (CRC-32) is not the recorded one");
}

absl::Status TorchFile::Verify(const TorchStorage& storage) const {
  return Stream(storage, [](absl::Span<const char>) { return absl::OkStatus(); });
}

}  // namespace featurescope
