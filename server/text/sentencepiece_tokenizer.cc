#include "server/text/sentencepiece_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/added_tokens.h"
#include "server/text/sentencepiece_encoder.h"
#include "server/text/sentencepiece_model.h"
#include "server/text/word_cache.h"

namespace featurescope {
namespace {

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
    const auto on_text = [&](absl::string_view part, size_t offset) {
      // The space that the model puts in front of a text; not behind a special token.
      if (prefix_space_ && offset == 0) {
        EncodeBytes(absl::StrCat(" ", part), &ids);
      } else {
        EncodeBytes(part, &ids);
      }
    };
    if (parse_special) {
      special_texts_.Split(text, on_text, [&ids](uint32_t id) { ids.push_back(id); });
    } else if (!text.empty()) {
      on_text(text, 0);
    }
    return ids;
  }

 private:
  struct Piece {
    std::string bytes;
    bool special = false;
  };

  // Bytes that are no UTF-8, and U+2581, are no text for the model and become byte pieces.
  void EncodeBytes(absl::string_view text, std::vector<uint32_t>* ids) const {
    while (!text.empty()) {
      const size_t valid = ValidUtf8Prefix(text);
      EncodeValid(text.substr(0, valid), ids);
      text.remove_prefix(valid);
      if (text.empty()) return;
      AppendBytePieces(text.substr(0, 1), ids);
      text.remove_prefix(1);
    }
  }

  void EncodeValid(absl::string_view text, std::vector<uint32_t>* ids) const {
    for (size_t mark; (mark = text.find(kSpaceMark)) != absl::string_view::npos;) {
      EncodeClean(text.substr(0, mark), ids);
      AppendBytePieces(kSpaceMark, ids);
      text.remove_prefix(mark + kSpaceMark.size());
    }
    EncodeClean(text, ids);
  }

  void AppendBytePieces(absl::string_view bytes, std::vector<uint32_t>* ids) const {
    for (char byte : bytes) {
      ids->push_back(encoder_->model().byte_ids[static_cast<uint8_t>(byte)]);
    }
  }

  // Word by word where no piece crosses the border between two words.
  void EncodeClean(absl::string_view text, std::vector<uint32_t>* ids) const {
    while (!text.empty()) {
      const absl::string_view word = text.substr(0, WordLength(text));
      text.remove_prefix(word.size());
      if (cache_.Append(word, ids)) continue;
      const size_t before = ids->size();
      encoder_->Encode(word, ids);
      cache_.Insert(word, ids->data() + before, ids->size() - before);
    }
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

  void ReadPieces();

  std::unique_ptr<const SentencePieceEncoder> encoder_;
  bool prefix_space_ = true;
  bool splits_at_spaces_ = true;
  std::vector<Piece> pieces_;  // by id
  AddedTokens special_texts_;
  WordCache cache_;
};

void SentencePieceTokenizer::ReadPieces() {
  const SentencePieceModel& model = encoder_->model();
  std::vector<uint8_t> byte_of_id(model.pieces.size());
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_of_id[model.byte_ids[byte]] = static_cast<uint8_t>(byte);
  }
  for (uint32_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    Piece& entry = pieces_.emplace_back();
    if (piece.type == SentencePiece::Type::kByte) {
      entry.bytes = std::string(1, static_cast<char>(byte_of_id[id]));
    } else if (!piece.is_text()) {
      entry.bytes = piece.text;
      entry.special = true;
      special_texts_.Add(piece.text, id);
    } else {
      entry.bytes = absl::StrReplaceAll(piece.text, {{kSpaceMark, " "}});
      const size_t text = entry.bytes.find_first_not_of(' ');
      if (text != std::string::npos && entry.bytes.find(' ', text) != std::string::npos) {
        splits_at_spaces_ = false;
      }
    }
  }
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> SentencePieceTokenizer::Create(
    const std::string& content, const std::string& path, const SpecialTokens& special) {
  ASSIGN_OR_RETURN(SentencePieceModel model, ReadSentencePieceModel(content, path));
  auto tokenizer = std::make_shared<SentencePieceTokenizer>();
  tokenizer->prefix_space_ = model.add_dummy_prefix;
  tokenizer->bos_id_ = model.bos_id;
  tokenizer->eos_id_ = model.eos_id;
  tokenizer->adds_bos_ = model.bos_id.has_value() && special.add_bos_token.value_or(true);
  tokenizer->encoder_ = SentencePieceEncoder::Create(std::move(model));
  tokenizer->ReadPieces();
  tokenizer->hash_ = Sha256Hex(content);
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> SentencePieceFromModel(
    const std::string& content, const std::string& path, const SpecialTokens& special) {
  return SentencePieceTokenizer::Create(content, path, special);
}

}  // namespace featurescope
