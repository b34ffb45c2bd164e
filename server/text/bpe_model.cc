// The model "BPE" of tokenizer.json, on bytes (GPT-2's kind) or on characters (Llama 2's).

#include <array>
#include <bitset>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/text/bpe.h"
#include "server/text/byte_alphabet.h"
#include "server/text/characters.h"
#include "server/text/sentencepiece_model.h"
#include "server/text/token_model.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxMerges = 4u << 20;
constexpr char32_t kMark = 0x2581;  // of kSpaceMark

// What a BPE model is made of, read and checked.
struct Parts {
  bool byte_fallback = false;
  bool fuse_unk = false;
  std::optional<uint32_t> unk;
  BpeMerges merges;
  // With "ignore_merges": words that are one token whatever the merges say. Else empty.
  absl::flat_hash_map<std::string, uint32_t> whole_words;
};

// Every byte that text can have has a symbol of its own.
class ByteBpe final : public TokenModel {
 public:
  using Symbols = std::array<std::optional<uint32_t>, 256>;
  // REQUIRES: all bytes that valid UTF-8 can have have symbols.
  ByteBpe(Parts parts, const Symbols& symbols) : parts_(std::move(parts)) {
    for (size_t byte = 0; byte < symbols.size(); ++byte) {
      has_symbol_[byte] = symbols[byte].has_value();
      symbols_[byte] = symbols[byte].value_or(0);
    }
  }

  void Encode(absl::string_view word, std::vector<uint32_t>* ids) const override {
    if (const auto whole = parts_.whole_words.find(word); whole != parts_.whole_words.end()) {
      ids->push_back(whole->second);
      return;
    }
    absl::InlinedVector<uint32_t, 32> symbols(word.size());
    for (size_t i = 0; i < word.size(); ++i) symbols[i] = symbols_[static_cast<uint8_t>(word[i])];
    parts_.merges.Merge(symbols, ids);
  }
  void EncodeByte(uint8_t byte, std::vector<uint32_t>* ids) const override {
    if (!has_symbol_[byte]) return Encode("\ufffd", ids);
    ids->push_back(symbols_[byte]);
  }
  bool keeps_text() const override { return has_symbol_.all(); }

 private:
  const Parts parts_;
  std::array<uint32_t, 256> symbols_;
  std::bitset<256> has_symbol_;
};

class CharacterBpe final : public TokenModel {
 public:
  CharacterBpe(Parts parts, const Vocabulary& vocabulary);

  void Encode(absl::string_view word, std::vector<uint32_t>* ids) const override {
    if (const auto whole = parts_.whole_words.find(word); whole != parts_.whole_words.end()) {
      ids->push_back(whole->second);
      return;
    }
    std::vector<uint32_t> symbols;
    AppendSymbols(word, &symbols);
    parts_.merges.Merge(symbols, ids);
  }
  void EncodeByte(uint8_t byte, std::vector<uint32_t>* ids) const override {
    const char as_char = static_cast<char>(byte);
    if (!parts_.byte_fallback || !bytes_.Append({&as_char, 1}, ids)) Encode("\ufffd", ids);
  }
  bool keeps_text() const override { return parts_.byte_fallback && bytes_.complete(); }

  // Up to a mark that no entry has behind the character before it: no merge can cross there.
  size_t PartLength(absl::string_view text) const override {
    if (!cuts_at_marks_) return text.size();
    for (size_t at = 0;;) {
      at = text.find(kSpaceMark, at + 1);
      if (at == absl::string_view::npos) return text.size();
      if (!before_mark_.contains(CharacterBefore(text, at).code)) return at;
    }
  }

 private:
  std::optional<uint32_t> SymbolOf(char32_t code) const {
    if (code < ascii_.size()) return ascii_[code];
    const auto found = symbols_.find(code);
    return found == symbols_.end() ? std::nullopt : std::optional<uint32_t>(found->second);
  }
  void AppendSymbols(absl::string_view word, std::vector<uint32_t>* symbols) const;

  const Parts parts_;
  ByteTokens bytes_;
  std::array<std::optional<uint32_t>, 128> ascii_;
  absl::flat_hash_map<char32_t, uint32_t> symbols_;  // beyond ASCII
  bool cuts_at_marks_ = false;
  absl::flat_hash_set<char32_t> before_mark_;  // characters that some entry has before a mark
};

CharacterBpe::CharacterBpe(Parts parts, const Vocabulary& vocabulary)
    : parts_(std::move(parts)), bytes_(vocabulary) {
  const std::vector<Vocabulary::Entry>& entries = vocabulary.entries();
  for (uint32_t id = 0; id < entries.size(); ++id) {
    const absl::string_view text = entries[id].text;
    if (text.empty()) continue;
    const Character first = CharacterAt(text, 0);
    if (first.size == text.size()) {
      if (first.code < ascii_.size()) {
        ascii_[first.code] = id;
      } else {
        symbols_[first.code] = id;
      }
    }
    for (size_t at = 0; (at = text.find(kSpaceMark, at + 1)) != absl::string_view::npos;) {
      before_mark_.insert(CharacterBefore(text, at).code);
    }
  }
  cuts_at_marks_ = SymbolOf(kMark).has_value() && parts_.whole_words.empty();
}

// Unknown characters become their bytes' tokens, else the unknown token: one for each, or with
// fuse_unk one for neighbours.
void CharacterBpe::AppendSymbols(absl::string_view word, std::vector<uint32_t>* symbols) const {
  bool unknown_before = false;  // an unknown token is not yet appended
  const auto append_unknown = [&] {
    if (std::exchange(unknown_before, false)) symbols->push_back(*parts_.unk);
  };
  for (size_t at = 0; at < word.size();) {
    const Character c = CharacterAt(word, at);
    const absl::string_view text = word.substr(at, c.size);
    at += c.size;
    if (const std::optional<uint32_t> symbol = SymbolOf(c.code)) {
      append_unknown();
      symbols->push_back(*symbol);
      continue;
    }
    if (parts_.byte_fallback && bytes_.Append(text, symbols)) continue;
    if (!parts_.unk) continue;  // all bytes have tokens where there is none
    if (!parts_.fuse_unk) append_unknown();
    unknown_before = true;
  }
  append_unknown();
}

class Reader {
 public:
  Reader(const Json& json, const std::string& where, bool byte_level, Vocabulary* vocabulary)
      : json_(json), where_(where), byte_level_(byte_level), vocabulary_(*vocabulary) {}

  absl::StatusOr<std::unique_ptr<const TokenModel>> Read() {
    RETURN_IF_ERROR(ReadOptions());
    RETURN_IF_ERROR(ReadVocabulary());
    RETURN_IF_ERROR(ReadUnknown());
    RETURN_IF_ERROR(ReadMerges());
    RETURN_IF_ERROR(ReadWholeWords());
    if (byte_level_) return MakeByteBpe();
    const ByteTokens bytes(vocabulary_);
    if (!parts_.unk && !(parts_.byte_fallback && bytes.complete())) {
      return Unimplemented(where_,
                           " BPE without unk_token and without byte_fallback to 256 byte tokens "
                           "drops characters it does not know, and is not supported");
    }
    return std::unique_ptr<const TokenModel>(
        std::make_unique<CharacterBpe>(std::move(parts_), vocabulary_));
  }

 private:
  absl::Status ReadOptions() {
    for (const auto& [key, value] : json_.items()) {
      static const absl::flat_hash_set<std::string> known = {"type",
                                                             "dropout",
                                                             "unk_token",
                                                             "continuing_subword_prefix",
                                                             "end_of_word_suffix",
                                                             "fuse_unk",
                                                             "byte_fallback",
                                                             "ignore_merges",
                                                             "vocab",
                                                             "merges"};
      if (!known.contains(key)) return Unsupported(key, Json());
    }
    if (const Json* dropout = JsonFind(json_, "dropout"); dropout != nullptr && *dropout != 0) {
      return Unsupported("dropout", *dropout);
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json* value = JsonFind(json_, key);
      if (value != nullptr && *value != "") return Unsupported(key, *value);
    }
    ASSIGN_OR_RETURN(parts_.byte_fallback, JsonBoolOr(json_, "byte_fallback", where_, false));
    ASSIGN_OR_RETURN(parts_.fuse_unk, JsonBoolOr(json_, "fuse_unk", where_, false));
    return absl::OkStatus();
  }

  absl::Status Unsupported(absl::string_view key, const Json& value) const {
    const std::string shown = value.is_null() ? "" : " " + value.dump(-1, ' ', true).substr(0, 60);
    return Unimplemented(where_, " BPE: ", key, shown, " is not supported");
  }

  absl::Status ReadVocabulary() {
    const Json* vocab = JsonFind(json_, "vocab");
    if (vocab == nullptr || !vocab->is_object()) {
      return InvalidArgument(where_, ".vocab is missing or no object");
    }
    vocabulary_.Reserve(vocab->size());
    for (const auto& [text, id] : vocab->items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId) {
        return InvalidArgument(where_, ".vocab: token ", Quoted(text), " has id ",
                               id.dump(-1, ' ', true).substr(0, 60), ", allowed is [0, ",
                               kMaxTokenId, "]");
      }
      const absl::Status status = vocabulary_.Add(text, id.get<uint32_t>());
      if (!status.ok()) return Annotate(status, absl::StrCat(where_, ".vocab"));
    }
    return absl::OkStatus();
  }

  absl::Status ReadUnknown() {
    ASSIGN_OR_RETURN(const std::string text, JsonStringOr(json_, "unk_token", where_, ""));
    if (text.empty()) return absl::OkStatus();
    parts_.unk = vocabulary_.Find(text);
    if (parts_.unk || byte_level_) return absl::OkStatus();  // there, no character is unknown
    return InvalidArgument(where_, ".unk_token ", Quoted(text), " is not in the vocabulary");
  }

  absl::Status ReadMerges() {
    const Json* merges = JsonFind(json_, "merges");
    if (merges == nullptr || !merges->is_array() || merges->size() > kMaxMerges) {
      return InvalidArgument(where_, ".merges is missing, no array or has more than ", kMaxMerges,
                             " entries");
    }
    parts_.merges.Reserve(merges->size());
    uint32_t rank = 0;
    for (const Json& merge : *merges) {
      std::string left, right;
      if (!SplitMerge(merge, &left, &right)) {
        return InvalidArgument(where_, ".merges: merge ", rank,
                               " must be \"left right\" or two strings");
      }
      const std::optional<uint32_t> left_id = vocabulary_.Find(left);
      const std::optional<uint32_t> right_id = vocabulary_.Find(right);
      const std::optional<uint32_t> merged_id = vocabulary_.Find(absl::StrCat(left, right));
      if (!left_id || !right_id || !merged_id) {
        return InvalidArgument(where_, ".merges: merge ", rank, " (", Quoted(left), " ",
                               Quoted(right), ") needs a token that the vocabulary does not have");
      }
      parts_.merges.AddMerge(*left_id, *right_id, rank++, *merged_id);
    }
    return absl::OkStatus();
  }

  static bool SplitMerge(const Json& merge, std::string* left, std::string* right) {
    if (merge.is_array()) {
      if (merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) return false;
      *left = merge[0].get<std::string>();
      *right = merge[1].get<std::string>();
      return true;
    }
    if (!merge.is_string()) return false;
    const std::string& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return false;
    *left = text.substr(0, space);
    *right = text.substr(space + 1);
    return true;
  }

  absl::Status ReadWholeWords() {
    ASSIGN_OR_RETURN(const bool ignore_merges, JsonBoolOr(json_, "ignore_merges", where_, false));
    if (!ignore_merges) return absl::OkStatus();
    const std::vector<Vocabulary::Entry>& entries = vocabulary_.entries();
    for (uint32_t id = 0; id < entries.size(); ++id) {
      if (!entries[id].exists) continue;
      std::optional<std::string> bytes =
          byte_level_ ? FromByteAlphabet(entries[id].text) : entries[id].text;
      if (bytes) parts_.whole_words[*std::move(bytes)] = id;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<const TokenModel>> MakeByteBpe() {
    ByteBpe::Symbols symbols;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const absl::string_view character = ByteCharacter(static_cast<uint8_t>(byte));
      symbols[byte] = vocabulary_.Find(character);
      const bool in_utf8 = byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);
      if (!symbols[byte] && in_utf8) {
        return InvalidArgument(where_, ".vocab lacks ", Quoted(character), ", the symbol of byte ",
                               byte);
      }
    }
    return std::unique_ptr<const TokenModel>(std::make_unique<ByteBpe>(std::move(parts_), symbols));
  }

  const Json& json_;
  const std::string& where_;
  const bool byte_level_;
  Vocabulary& vocabulary_;
  Parts parts_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> ReadBpeModel(const Json& json,
                                                               const std::string& where,
                                                               bool byte_level,
                                                               Vocabulary* vocabulary) {
  return Reader(json, where, byte_level, vocabulary).Read();
}

}  // namespace featurescope
