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
#include "server/text/vocabulary.h"
#include "server/text/word_cache.h"

namespace featurescope {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  static absl::StatusOr<std::shared_ptr<Tokenizer>> Create(const std::string& content,
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
    special_texts_.Split(text, parse_special, on_text, [&ids](uint32_t id) { ids.push_back(id); });
    return ids;
  }

 private:
  struct Piece {
    std::string bytes;
    bool special = false;
    bool is_byte = false;  // a byte piece: no token has its text
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
  absl::Status AddTokens(const std::vector<AddedToken>& tokens, const std::string& path);

  std::unique_ptr<const SentencePieceEncoder> encoder_;
  bool prefix_space_ = true;
  bool splits_at_spaces_ = true;
  bool strips_ = false;        // an added token takes white space beside it with it
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
      entry.is_byte = true;
    } else if (!piece.is_text()) {
      entry.bytes = piece.text;
      entry.special = true;
      special_texts_.Add(piece.text, id, {.special = true});
    } else {
      entry.bytes = absl::StrReplaceAll(piece.text, {{kSpaceMark, " "}});
      const size_t text = entry.bytes.find_first_not_of(' ');
      if (text != std::string::npos && entry.bytes.find(' ', text) != std::string::npos) {
        splits_at_spaces_ = false;
      }
    }
  }
}

// Tokens behind the model's own, and own ones that are found as they are.
absl::Status SentencePieceTokenizer::AddTokens(const std::vector<AddedToken>& tokens,
                                               const std::string& path) {
  const std::vector<SentencePiece>& own = encoder_->model().pieces;
  for (const AddedToken& token : tokens) {
    if (token.id < own.size()) {
      if (own[token.id].text != token.content) {
        return InvalidArgument(path, ": piece ", token.id, " is ", Quoted(own[token.id].text),
                               ", but the files beside it call it ", Quoted(token.content));
      }
      if (!own[token.id].is_text()) continue;  // found as it is already
    }
    if (token.id >= pieces_.size()) pieces_.resize(token.id + 1);
    pieces_[token.id] = {token.content, token.options.special, /*is_byte=*/false};
    special_texts_.Add(token.content, token.id, token.options);
    strips_ = strips_ || token.options.lstrip || token.options.rstrip;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Tokenizer>> SentencePieceTokenizer::Create(
    const std::string& content, const std::string& path, const SpecialTokens& special) {
  ASSIGN_OR_RETURN(SentencePieceModel model, ReadSentencePieceModel(content, path));
  auto tokenizer = std::make_shared<SentencePieceTokenizer>();
  tokenizer->prefix_space_ = model.add_dummy_prefix;
  tokenizer->encoder_ = SentencePieceEncoder::Create(std::move(model));
  tokenizer->ReadPieces();
  RETURN_IF_ERROR(tokenizer->AddTokens(special.added, path));
  std::vector<Piece>& pieces = tokenizer->pieces_;
  const auto find = [&pieces](absl::string_view text) -> std::optional<uint32_t> {
    for (uint32_t id = 0; id < pieces.size(); ++id) {
      if (!text.empty() && pieces[id].bytes == text && !pieces[id].is_byte) return id;
    }
    return std::nullopt;
  };
  const auto exists = [&pieces](uint32_t id) { return id < pieces.size(); };
  const SentencePieceModel& own = tokenizer->encoder_->model();
  const ChosenSpecialTokens chosen =
      ChooseSpecialTokens(special, {false, std::nullopt, own.bos_id, own.eos_id, find, exists});
  tokenizer->SetSpecialTokens(chosen);
  for (uint32_t id : chosen.special_ids) pieces[id].special = true;
  tokenizer->keeps_text_ = !tokenizer->strips_;
  tokenizer->hash_ = Sha256Hex(content);
  return std::shared_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace

absl::StatusOr<std::shared_ptr<Tokenizer>> SentencePieceFromModel(const std::string& content,
                                                                  const std::string& path,
                                                                  const SpecialTokens& special) {
  return SentencePieceTokenizer::Create(content, path, special);
}

}  // namespace featurescope
