#include "server/text/sentencepiece_model.h"

#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/protobuf_wire.h"

namespace featurescope {
namespace {

using Type = SentencePiece::Type;
using Wire = WireField::Type;

// The largest vocabularies in use have a million pieces; pieces are some characters long.
constexpr size_t kMaxPieces = 1u << 21;
constexpr size_t kMaxPieceBytes = 512;

struct Settings {
  // TrainerSpec
  uint64_t model_type = 1;
  bool whitespace_as_suffix = false;
  bool byte_fallback = false;
  std::string bos_piece;
  std::string eos_piece;
  // NormalizerSpec
  std::string normalizer = "nmt_nfkc";
  bool has_chars_map = false;
  bool add_dummy_prefix = true;
  bool escape_whitespaces = true;
};

// The one reader of a model's content; every error names the file.
class ModelReader {
 public:
  explicit ModelReader(const std::string& path) : path_(path) {}

  absl::Status Read(absl::string_view content) {
    return ReadMessage(content, "ModelProto", [this](const WireField& field) -> absl::Status {
      if (field.number > 3) return absl::OkStatus();  // self test, denormalizer, extensions
      RETURN_IF_ERROR(Expect(field, Wire::kBytes, "ModelProto"));
      if (field.number == 1) return ReadPiece(field.bytes);
      return field.number == 2 ? ReadTrainer(field.bytes) : ReadNormalizer(field.bytes);
    });
  }

  absl::StatusOr<SentencePieceModel> Finish();

 private:
  template <typename OnField>
  absl::Status ReadMessage(absl::string_view message, absl::string_view name,
                           const OnField& on_field) {
    WireField field;
    while (!message.empty()) {
      if (!ReadWireField(&message, &field)) {
        return InvalidArgument(path_, ": no SentencePiece model (malformed Protobuf in ", name,
                               ")");
      }
      RETURN_IF_ERROR(on_field(field));
    }
    return absl::OkStatus();
  }
  absl::Status Expect(const WireField& field, Wire type, absl::string_view message) const {
    if (field.type == type) return absl::OkStatus();
    return InvalidArgument(path_, ": no SentencePiece model (field ", field.number, " of ", message,
                           " has wire type ", static_cast<int>(field.type), ", not ",
                           static_cast<int>(type), ")");
  }
  std::string Named(size_t id) const {
    return absl::StrCat(path_, ": piece ", id, " \"", PrintableUtf8(model_.pieces[id].text, 60),
                        "\"");
  }

  absl::Status ReadPiece(absl::string_view message);
  absl::Status ReadTrainer(absl::string_view message);
  absl::Status ReadNormalizer(absl::string_view message);
  absl::Status CheckSettings() const;
  absl::Status ReadBytePieces();
  absl::Status CheckTexts();
  std::optional<uint32_t> ControlPiece(const std::string& text) const;

  const std::string& path_;
  Settings settings_;
  SentencePieceModel model_;
  // By text: pieces that stand for their text, and those that stand for something else.
  absl::flat_hash_map<absl::string_view, uint32_t> text_ids_;
  absl::flat_hash_map<absl::string_view, uint32_t> reserved_ids_;
};

absl::Status ModelReader::ReadPiece(absl::string_view message) {
  const size_t id = model_.pieces.size();
  if (id == kMaxPieces) {
    return InvalidArgument(path_, ": has more than ", kMaxPieces, " pieces");
  }
  SentencePiece& piece = model_.pieces.emplace_back();
  const auto read_field = [&](const WireField& field) -> absl::Status {
    if (field.number == 1) {
      RETURN_IF_ERROR(Expect(field, Wire::kBytes, "SentencePiece"));
      if (field.bytes.size() > kMaxPieceBytes) {
        return InvalidArgument(path_, ": piece ", id, " has ", field.bytes.size(),
                               " bytes, at most ", kMaxPieceBytes, " are allowed");
      }
      piece.text = std::string(field.bytes);
    } else if (field.number == 2) {
      RETURN_IF_ERROR(Expect(field, Wire::kFixed32, "SentencePiece"));
      piece.score = WireFloat(field);
    } else if (field.number == 3) {
      RETURN_IF_ERROR(Expect(field, Wire::kVarint, "SentencePiece"));
      if (field.varint < 1 || field.varint > 6) {
        return InvalidArgument(path_, ": piece ", id, " has type ", field.varint,
                               ", allowed are 1 to 6");
      }
      piece.type = static_cast<Type>(field.varint);
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ReadMessage(message, "SentencePiece", read_field));
  if (piece.text.empty()) return InvalidArgument(path_, ": piece ", id, " is empty");
  if (ValidUtf8Prefix(piece.text) < piece.text.size()) {
    return InvalidArgument(Named(id), " is no valid UTF-8");
  }
  if (!std::isfinite(piece.score)) {
    return InvalidArgument(Named(id), " has score ", piece.score);
  }
  return absl::OkStatus();
}

absl::Status ModelReader::ReadTrainer(absl::string_view message) {
  return ReadMessage(message, "TrainerSpec", [this](const WireField& field) {
    switch (field.number) {
      case 3:
        RETURN_IF_ERROR(Expect(field, Wire::kVarint, "TrainerSpec"));
        settings_.model_type = field.varint;
        break;
      case 24:
        RETURN_IF_ERROR(Expect(field, Wire::kVarint, "TrainerSpec"));
        settings_.whitespace_as_suffix = field.varint != 0;
        break;
      case 35:
        RETURN_IF_ERROR(Expect(field, Wire::kVarint, "TrainerSpec"));
        settings_.byte_fallback = field.varint != 0;
        break;
      case 46:
        RETURN_IF_ERROR(Expect(field, Wire::kBytes, "TrainerSpec"));
        settings_.bos_piece = std::string(field.bytes);
        break;
      case 47:
        RETURN_IF_ERROR(Expect(field, Wire::kBytes, "TrainerSpec"));
        settings_.eos_piece = std::string(field.bytes);
        break;
      default:
        break;
    }
    return absl::OkStatus();
  });
}

absl::Status ModelReader::ReadNormalizer(absl::string_view message) {
  return ReadMessage(message, "NormalizerSpec", [this](const WireField& field) {
    switch (field.number) {
      case 1:
        RETURN_IF_ERROR(Expect(field, Wire::kBytes, "NormalizerSpec"));
        settings_.normalizer = std::string(field.bytes);
        break;
      case 2:
        RETURN_IF_ERROR(Expect(field, Wire::kBytes, "NormalizerSpec"));
        settings_.has_chars_map = !field.bytes.empty();
        break;
      case 3:
        RETURN_IF_ERROR(Expect(field, Wire::kVarint, "NormalizerSpec"));
        settings_.add_dummy_prefix = field.varint != 0;
        break;
      case 5:
        RETURN_IF_ERROR(Expect(field, Wire::kVarint, "NormalizerSpec"));
        settings_.escape_whitespaces = field.varint != 0;
        break;
      default:  // 4, remove_extra_whitespaces, is not followed: no space of a text is dropped
        break;
    }
    return absl::OkStatus();
  });
}

absl::Status ModelReader::CheckSettings() const {
  if (settings_.model_type == 3 || settings_.model_type == 4) {
    return Unimplemented(path_, ": model_type ", settings_.model_type == 3 ? "WORD" : "CHAR",
                         " is not supported; UNIGRAM and BPE are");
  }
  if (settings_.model_type != 1 && settings_.model_type != 2) {
    return InvalidArgument(path_, ": model_type ", settings_.model_type,
                           " is unknown, allowed are 1 (UNIGRAM) and 2 (BPE)");
  }
  if (settings_.has_chars_map || !settings_.escape_whitespaces || settings_.whitespace_as_suffix) {
    return Unimplemented(path_, ": normalizer \"", PrintableUtf8(settings_.normalizer, 60),
                         "\" changes texts (character map ", settings_.has_chars_map,
                         ", escape_whitespaces ", settings_.escape_whitespaces,
                         ", treat_whitespace_as_suffix ", settings_.whitespace_as_suffix,
                         ") and is not supported");
  }
  if (!settings_.byte_fallback) {
    return Unimplemented(path_, ": models without byte_fallback lose text and are not supported");
  }
  return absl::OkStatus();
}

// The value of "<0x0A>"; -1 for any other text.
int ByteOfPiece(absl::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  int value = 0;
  for (char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

absl::Status ModelReader::ReadBytePieces() {
  std::array<bool, 256> has_byte{};
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    if (model_.pieces[id].type != Type::kByte) continue;
    const int byte = ByteOfPiece(model_.pieces[id].text);
    if (byte < 0) return InvalidArgument(Named(id), " is not written as a byte, like \"<0x0A>\"");
    model_.byte_ids[static_cast<size_t>(byte)] = static_cast<uint32_t>(id);
    has_byte[static_cast<size_t>(byte)] = true;
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    if (!has_byte[byte]) {
      return InvalidArgument(path_, ": byte_fallback is set, but byte ", byte, " has no piece");
    }
  }
  return absl::OkStatus();
}

absl::Status ModelReader::CheckTexts() {
  bool has_unknown = false;
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    const SentencePiece& piece = model_.pieces[id];
    auto& ids = piece.is_text() ? text_ids_ : reserved_ids_;
    const auto [known, inserted] = ids.try_emplace(piece.text, static_cast<uint32_t>(id));
    if (!inserted) return InvalidArgument(Named(id), " is piece ", known->second, " already");
    if (piece.type != Type::kUnknown) continue;
    if (has_unknown) {
      return InvalidArgument(Named(id), " and piece ", model_.unk_id, " both have type UNKNOWN");
    }
    has_unknown = true;
    model_.unk_id = static_cast<uint32_t>(id);
  }
  if (!has_unknown) return InvalidArgument(path_, ": no piece has type UNKNOWN");
  return absl::OkStatus();
}

std::optional<uint32_t> ModelReader::ControlPiece(const std::string& text) const {
  const auto found = reserved_ids_.find(text);
  if (found == reserved_ids_.end()) return std::nullopt;
  if (model_.pieces[found->second].type != Type::kControl) return std::nullopt;
  return found->second;
}

absl::StatusOr<SentencePieceModel> ModelReader::Finish() {
  RETURN_IF_ERROR(CheckSettings());
  RETURN_IF_ERROR(CheckTexts());
  RETURN_IF_ERROR(ReadBytePieces());
  model_.algorithm = static_cast<SentencePieceModel::Algorithm>(settings_.model_type);
  model_.add_dummy_prefix = settings_.add_dummy_prefix;
  model_.bos_id = ControlPiece(settings_.bos_piece.empty() ? "<s>" : settings_.bos_piece);
  model_.eos_id = ControlPiece(settings_.eos_piece.empty() ? "</s>" : settings_.eos_piece);
  return std::move(model_);
}

}  // namespace

absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(absl::string_view content,
                                                          const std::string& path) {
  ModelReader reader(path);
  RETURN_IF_ERROR(reader.Read(content));
  return reader.Finish();
}

}  // namespace featurescope
