#include "server/text/sentencepiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/added_tokens.h"
#include "server/text/sentencepiece_bridge.h"
#include "server/text/sentencepiece_model.h"
#include "server/text/word_cache.h"

namespace featurescope {
namespace {

constexpr absl::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, how pieces write a space

class SentencePieceTokenizer final : public Tokenizer {
 public:
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Create(const std::string& content,
                                                                 const std::string& path,
                                                                 const SpecialTokens& special);

  std::string Decode(absl::Span<const uint32_t> ids) const override {
    std::string bytes;
    for (uint32_t id : ids) {
      if (id < pieces_.size()) bytes += pieces_[id].bytes;
    }
    const bool begins_with_text = !ids.empty() && !IsSpecial(ids[0]);
    if (prefix_space_ && begins_with_text && absl::StartsWith(bytes, " ")) bytes.erase(0, 1);
    return bytes;
  }
  std::string TokenBytes(uint32_t id) const override {
    return id < pieces_.size() ? pieces_[id].bytes : std::string();
  }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(pieces_.size()); }
  bool IsSpecial(uint32_t id) const override { return id < pieces_.size() && pieces_[id].special; }

 protected:
  absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text,
                                                   bool parse_special) const override {
    std::vector<uint32_t> ids;
    ids.reserve(text.size() / 3 + 1);
    absl::Status status;
    const auto on_text = [&](absl::string_view part, size_t offset) {
      if (!status.ok()) return;
      // The space that the model puts in front of a text; not behind a special token.
      status = prefix_space_ && offset == 0 ? EncodeBytes(absl::StrCat(" ", part), &ids)
                                            : EncodeBytes(part, &ids);
    };
    if (parse_special) {
      special_texts_.Split(text, on_text, [&ids](uint32_t id) { ids.push_back(id); });
    } else if (!text.empty()) {
      on_text(text, 0);
    }
    RETURN_IF_ERROR(status);
    return ids;
  }

 private:
  struct Piece {
    std::string bytes;
    bool special = false;
  };

  // The part that the library can take without loss, then byte pieces, and so on.
  absl::Status EncodeBytes(absl::string_view text, std::vector<uint32_t>* ids) const {
    while (!text.empty()) {
      size_t clean = ValidUtf8Prefix(text);
      size_t lossy = clean < text.size() ? 1 : 0;
      if (const size_t mark = text.substr(0, clean).find(kSpaceMark);
          mark != absl::string_view::npos) {
        clean = mark;
        lossy = kSpaceMark.size();
      }
      RETURN_IF_ERROR(EncodeClean(text.substr(0, clean), ids));
      for (char byte : text.substr(clean, lossy)) {
        ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
      }
      text.remove_prefix(clean + lossy);
    }
    return absl::OkStatus();
  }

  // Word by word where no piece crosses the border between two words.
  absl::Status EncodeClean(absl::string_view text, std::vector<uint32_t>* ids) const {
    while (!text.empty()) {
      const absl::string_view word = text.substr(0, WordLength(text));
      text.remove_prefix(word.size());
      if (cache_.Append(word, ids)) continue;
      std::vector<int> word_ids;
      std::string error;
      if (!bridge_->Encode(std::string_view(word.data(), word.size()), &word_ids, &error)) {
        return Internal("SentencePiece: ", error);
      }
      const size_t before = ids->size();
      ids->insert(ids->end(), word_ids.begin(), word_ids.end());
      cache_.Insert(word, ids->data() + before, ids->size() - before);
    }
    return absl::OkStatus();
  }

  // Spaces and what follows them, up to the next space. The whole text where a piece may cross
  // that.
  size_t WordLength(absl::string_view text) const {
    size_t length = text.size();
    if (splits_at_spaces_) {
      const size_t begin = std::min(text.find_first_not_of(' '), text.size());
      length = std::min(text.find(' ', begin), text.size());
    }
    return length <= kMaxWordBytes ? length : Utf8CutBefore(text, kMaxWordBytes);
  }

  absl::Status ReadPieces(const std::string& path);
  void ChooseSpecialTokens(const SpecialTokens& special);

  std::unique_ptr<SentencePieceBridge> bridge_;
  bool prefix_space_ = true;
  bool splits_at_spaces_ = true;
  std::vector<Piece> pieces_;  // by id
  std::array<uint32_t, 256> byte_ids_{};
  AddedTokens special_texts_;
  WordCache cache_;
};

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

absl::Status SentencePieceTokenizer::ReadPieces(const std::string& path) {
  std::array<bool, 256> has_byte{};
  for (int id = 0; id < bridge_->size(); ++id) {
    const std::string piece = bridge_->Piece(id);
    const SentencePieceBridge::PieceKind kind = bridge_->Kind(id);
    Piece& entry = pieces_.emplace_back();
    if (kind == SentencePieceBridge::PieceKind::kByte) {
      const int byte = ByteOfPiece(piece);
      if (byte < 0) {
        return InvalidArgument(path, ": byte piece ", id, " is written \"",
                               PrintableUtf8(piece, 60), "\"");
      }
      entry.bytes = std::string(1, static_cast<char>(byte));
      byte_ids_[static_cast<size_t>(byte)] = static_cast<uint32_t>(id);
      has_byte[static_cast<size_t>(byte)] = true;
    } else if (kind == SentencePieceBridge::PieceKind::kControl ||
               kind == SentencePieceBridge::PieceKind::kUnknown) {
      entry.bytes = piece;
      entry.special = true;
      if (!piece.empty()) special_texts_.Add(piece, static_cast<uint32_t>(id));
    } else {
      entry.bytes = absl::StrReplaceAll(piece, {{kSpaceMark, " "}});
      const size_t text = entry.bytes.find_first_not_of(' ');
      if (text != std::string::npos && entry.bytes.find(' ', text) != std::string::npos) {
        splits_at_spaces_ = false;
      }
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    if (!has_byte[byte]) {
      return Unimplemented(path, ": has no piece for byte ", byte,
                           "; models without byte fallback lose text and are not supported");
    }
  }
  return absl::OkStatus();
}

void SentencePieceTokenizer::ChooseSpecialTokens(const SpecialTokens& special) {
  const auto id_or_none = [](int id) {
    return id < 0 ? std::nullopt : std::optional<uint32_t>(static_cast<uint32_t>(id));
  };
  bos_id_ = id_or_none(bridge_->bos_id());
  eos_id_ = id_or_none(bridge_->eos_id());
  adds_bos_ = bos_id_.has_value() && special.add_bos_token.value_or(true);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> SentencePieceTokenizer::Create(
    const std::string& content, const std::string& path, const SpecialTokens& special) {
  ASSIGN_OR_RETURN(const SentencePieceModel model, ReadSentencePieceModel(content, path));
  auto tokenizer = std::make_shared<SentencePieceTokenizer>();
  std::string error;
  tokenizer->bridge_ = SentencePieceBridge::Load(model.keeping_spaces, &error);
  if (tokenizer->bridge_ == nullptr) {
    return InvalidArgument(path, ": no SentencePiece model: ", PrintableUtf8(error));
  }
  tokenizer->prefix_space_ = model.add_dummy_prefix;
  RETURN_IF_ERROR(tokenizer->ReadPieces(path));
  tokenizer->ChooseSpecialTokens(special);
  tokenizer->hash_ = Sha256Hex(content);
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> SentencePieceFromModel(
    const std::string& content, const std::string& path, const SpecialTokens& special) {
  return SentencePieceTokenizer::Create(content, path, special);
}

}  // namespace featurescope
