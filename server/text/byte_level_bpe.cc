#include "server/text/byte_level_bpe.h"

#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"
#include "server/text/added_tokens.h"
#include "server/text/bpe.h"
#include "server/text/gpt2_pattern.h"
#include "server/text/word_cache.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kMaxTokenId = 1u << 22;
constexpr size_t kMaxMerges = 4u << 20;
constexpr size_t kMaxAddedTokens = 1u << 16;
constexpr int kMaxTokenizerDepth = 16;

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", PrintableUtf8(text, 100), "\"");
}

// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 upwards.
std::array<char32_t, 256> ByteAlphabet() {
  std::array<char32_t, 256> alphabet;
  char32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}

// The bytes that a vocabulary entry stands for; nullopt when it is not written in the alphabet.
std::optional<std::string> BytesOfEntry(absl::string_view entry) {
  static const auto* bytes = [] {
    auto* map = new absl::flat_hash_map<char32_t, char>();
    const std::array<char32_t, 256> alphabet = ByteAlphabet();
    for (size_t byte = 0; byte < 256; ++byte) (*map)[alphabet[byte]] = static_cast<char>(byte);
    return map;
  }();
  std::string decoded;
  while (!entry.empty()) {
    const int length = Utf8SequenceLength(entry);
    if (length == 0) return std::nullopt;
    const auto found = bytes->find(Utf8CodePoint(entry, length));
    if (found == bytes->end()) return std::nullopt;
    decoded.push_back(found->second);
    entry.remove_prefix(static_cast<size_t>(length));
  }
  return decoded;
}

struct Token {
  std::string bytes;
  bool exists = false;
  bool special = false;
};

class ByteLevelBpe final : public Tokenizer {
 public:
  std::string Decode(absl::Span<const uint32_t> ids) const override {
    std::string bytes;
    for (uint32_t id : ids) {
      if (id < tokens_.size()) bytes += tokens_[id].bytes;
    }
    return bytes;
  }
  std::string TokenBytes(uint32_t id) const override {
    return id < tokens_.size() ? tokens_[id].bytes : std::string();
  }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(tokens_.size()); }
  bool IsSpecial(uint32_t id) const override { return id < tokens_.size() && tokens_[id].special; }

 protected:
  absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text,
                                                   bool parse_special) const override {
    std::vector<uint32_t> ids;
    ids.reserve(text.size() / 4 + 1);
    const auto push = [&ids](uint32_t id) { ids.push_back(id); };
    // As in HF: tokens that are matched in raw text first, then those matched in normalised text.
    added_[parse_special ? 1 : 0][0].Split(
        text,
        [&](absl::string_view part, size_t) {
          added_[parse_special ? 1 : 0][1].Split(
              part, [&](absl::string_view rest, size_t) { EncodeBytes(rest, &ids); }, push);
        },
        push);
    return ids;
  }

 private:
  friend class Builder;

  // Bytes that are no UTF-8 become their own symbols; what lies between them is encoded as usual.
  void EncodeBytes(absl::string_view text, std::vector<uint32_t>* ids) const {
    while (!text.empty()) {
      const size_t valid = ValidUtf8Prefix(text);
      EncodeValid(text.substr(0, valid), ids);
      if (valid == text.size()) return;
      ids->push_back(merges_.ByteSymbol(static_cast<uint8_t>(text[valid])));
      text.remove_prefix(valid + 1);
    }
  }

  static size_t PieceLength(absl::string_view text) {
    const size_t length = Gpt2PieceLength(text);
    return length <= kMaxWordBytes ? length : Utf8CutBefore(text, kMaxWordBytes);
  }

  void EncodeValid(absl::string_view text, std::vector<uint32_t>* ids) const {
    while (!text.empty()) {
      const absl::string_view word = text.substr(0, PieceLength(text));
      text.remove_prefix(word.size());
      if (cache_.Append(word, ids)) continue;
      const size_t before = ids->size();
      const auto whole = whole_words_.find(word);
      if (whole != whole_words_.end()) {
        ids->push_back(whole->second);
      } else {
        merges_.EncodeWord(word, ids);
      }
      cache_.Insert(word, ids->data() + before, ids->size() - before);
    }
  }

  std::vector<Token> tokens_;  // by id
  BpeMerges merges_;
  // With "ignore_merges": words that are one token whatever the merges say. Else empty.
  absl::flat_hash_map<std::string, uint32_t> whole_words_;
  AddedTokens added_[2][2];  // [special ones too][normalized]
  WordCache cache_;
};

// Turns the parsed file into a tokenizer, section by section.
class Builder {
 public:
  Builder(const Json& json, const std::string& path) : json_(json), path_(path) {}

  absl::StatusOr<std::shared_ptr<const Tokenizer>> Build(absl::string_view content,
                                                         const SpecialTokens& special) {
    RETURN_IF_ERROR(CheckPipeline());
    RETURN_IF_ERROR(CheckModel());
    RETURN_IF_ERROR(ReadVocabulary());
    RETURN_IF_ERROR(ReadMerges());
    RETURN_IF_ERROR(ReadAddedTokens());
    RETURN_IF_ERROR(ReadPostProcessor());
    ChooseSpecialTokens(special);
    bpe_->hash_ = Sha256Hex(content);
    return std::shared_ptr<const Tokenizer>(std::move(bpe_));
  }

 private:
  absl::Status Unsupported(absl::string_view what, const Json& value) const {
    const Json* type = JsonFind(value, "type");
    const std::string name = (type != nullptr ? *type : value).dump(-1, ' ', true);
    return Unimplemented(path_, ": ", what, " ", name.substr(0, 100), " is not supported");
  }

  // Refuses an option of `section` that is set to anything but absent, null or `allowed`.
  absl::Status OnlyBool(const Json& section, absl::string_view key, bool allowed) const {
    const Json* value = JsonFind(section, key);
    if (value == nullptr || (value->is_boolean() && value->get<bool>() == allowed)) {
      return absl::OkStatus();
    }
    return Unsupported(key, *value);
  }
  absl::Status OnlyEmpty(const Json& section, absl::string_view key) const {
    const Json* value = JsonFind(section, key);
    if (value == nullptr || (value->is_string() && value->get_ref<const std::string&>().empty())) {
      return absl::OkStatus();
    }
    return Unsupported(key, *value);
  }

  bool IsByteLevel(const Json* section) const {
    const Json* type = section == nullptr ? nullptr : JsonFind(*section, "type");
    return type != nullptr && *type == "ByteLevel";
  }

  absl::Status CheckPipeline() const {
    if (!json_.is_object()) return InvalidArgument(path_, ": must be an object");
    if (const Json* normalizer = JsonFind(json_, "normalizer"); normalizer != nullptr) {
      return Unsupported("normalizer", *normalizer);
    }
    const Json* pre_tokenizer = JsonFind(json_, "pre_tokenizer");
    if (!IsByteLevel(pre_tokenizer)) {
      return Unsupported("pre_tokenizer", pre_tokenizer == nullptr ? Json() : *pre_tokenizer);
    }
    RETURN_IF_ERROR(OnlyBool(*pre_tokenizer, "add_prefix_space", false));
    if (JsonFind(*pre_tokenizer, "add_prefix_space") == nullptr) {  // absent means true
      return Unimplemented(path_, ": pre_tokenizer add_prefix_space is not supported");
    }
    RETURN_IF_ERROR(OnlyBool(*pre_tokenizer, "use_regex", true));
    const Json* decoder = JsonFind(json_, "decoder");
    if (decoder != nullptr && !IsByteLevel(decoder)) return Unsupported("decoder", *decoder);
    return absl::OkStatus();
  }

  absl::Status CheckModel() {
    const Json* model = JsonFind(json_, "model");
    if (model == nullptr || !model->is_object()) {
      return InvalidArgument(path_, ": \"model\" is missing or no object");
    }
    model_ = model;
    const Json* type = JsonFind(*model, "type");
    if (type != nullptr && *type != "BPE") return Unsupported("model", *model);
    if (const Json* dropout = JsonFind(*model, "dropout"); dropout != nullptr && *dropout != 0) {
      return Unsupported("dropout", *dropout);
    }
    RETURN_IF_ERROR(OnlyEmpty(*model, "continuing_subword_prefix"));
    RETURN_IF_ERROR(OnlyEmpty(*model, "end_of_word_suffix"));
    return OnlyBool(*model, "byte_fallback", false);
  }

  absl::Status ReadVocabulary() {
    const Json* vocab = JsonFind(*model_, "vocab");
    if (vocab == nullptr || !vocab->is_object()) {
      return InvalidArgument(path_, ": model.vocab is missing or no object");
    }
    bpe_->tokens_.reserve(vocab->size());
    for (const auto& [entry, id_json] : vocab->items()) {
      ASSIGN_OR_RETURN(const uint32_t id, ParseId(id_json, "vocab", entry));
      Token& token = TokenAt(id);
      if (token.exists) {
        return InvalidArgument(path_, ": token ", Quoted(entry), " has id ", id,
                               ", which another token has");
      }
      std::optional<std::string> bytes = BytesOfEntry(entry);
      token.exists = true;
      token.bytes = bytes ? *std::move(bytes) : entry;
      ids_[entry] = id;
    }
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const std::string entry = EntryOfByte(static_cast<uint8_t>(byte));
      const auto found = ids_.find(entry);
      if (found == ids_.end()) {
        return InvalidArgument(path_, ": the vocabulary lacks ", Quoted(entry),
                               ", the symbol of "
                               "byte ",
                               byte);
      }
      bpe_->merges_.SetByteSymbol(static_cast<uint8_t>(byte), found->second);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint32_t> ParseId(const Json& json, absl::string_view section,
                                   absl::string_view entry) const {
    if (!json.is_number_unsigned() || json.get<uint64_t>() > kMaxTokenId) {
      return InvalidArgument(path_, ": ", section, ": token ", Quoted(entry), " has id ",
                             json.dump(-1, ' ', true).substr(0, 60), ", allowed is [0, ",
                             kMaxTokenId, "]");
    }
    return json.get<uint32_t>();
  }

  Token& TokenAt(uint32_t id) {
    if (id >= bpe_->tokens_.size()) bpe_->tokens_.resize(id + 1);
    return bpe_->tokens_[id];
  }

  static std::string EntryOfByte(uint8_t byte) {
    static const std::array<char32_t, 256> alphabet = ByteAlphabet();
    const char32_t code = alphabet[byte];  // below U+0800
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
  }

  absl::Status ReadMerges() {
    const Json* merges = JsonFind(*model_, "merges");
    if (merges == nullptr || !merges->is_array() || merges->size() > kMaxMerges) {
      return InvalidArgument(path_, ": model.merges is missing, no array or has more than ",
                             kMaxMerges, " entries");
    }
    uint32_t rank = 0;
    for (const Json& merge : *merges) {
      std::string left, right;
      if (!SplitMerge(merge, &left, &right)) {
        return InvalidArgument(path_, ": merge ", rank, " must be \"left right\" or two strings");
      }
      const auto left_id = ids_.find(left);
      const auto right_id = ids_.find(right);
      const auto merged_id = ids_.find(absl::StrCat(left, right));
      if (left_id == ids_.end() || right_id == ids_.end() || merged_id == ids_.end()) {
        return InvalidArgument(path_, ": merge ", rank, " (", Quoted(left), " ", Quoted(right),
                               ") needs a token that the vocabulary does not have");
      }
      if (!BytesOfEntry(left) || !BytesOfEntry(right)) {
        return InvalidArgument(path_, ": merge ", rank, " (", Quoted(left), " ", Quoted(right),
                               ") is not written in the byte alphabet");
      }
      bpe_->merges_.AddMerge(left_id->second, right_id->second, rank++, merged_id->second);
    }
    ASSIGN_OR_RETURN(const bool ignore_merges, JsonBoolOr(*model_, "ignore_merges", path_, false));
    if (ignore_merges) {
      for (const auto& [entry, id] : ids_) {
        if (std::optional<std::string> bytes = BytesOfEntry(entry)) {
          bpe_->whole_words_[*std::move(bytes)] = id;
        }
      }
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

  absl::Status ReadAddedTokens() {
    const Json* added = JsonFind(json_, "added_tokens");
    if (added == nullptr) return absl::OkStatus();
    if (!added->is_array() || added->size() > kMaxAddedTokens) {
      return InvalidArgument(path_, ": added_tokens is no array or has more than ", kMaxAddedTokens,
                             " entries");
    }
    for (const Json& token : *added) RETURN_IF_ERROR(ReadAddedToken(token));
    return absl::OkStatus();
  }

  absl::Status ReadAddedToken(const Json& json) {
    const std::string where = absl::StrCat(path_, ": added_tokens");
    ASSIGN_OR_RETURN(const std::string content, JsonString(json, "content", where));
    ASSIGN_OR_RETURN(const int64_t id64, JsonInt(json, "id", where, 0, kMaxTokenId));
    ASSIGN_OR_RETURN(const bool special, JsonBoolOr(json, "special", where, false));
    ASSIGN_OR_RETURN(const bool normalized, JsonBoolOr(json, "normalized", where, !special));
    RETURN_IF_ERROR(OnlyBool(json, "single_word", false));
    RETURN_IF_ERROR(OnlyBool(json, "lstrip", false));
    RETURN_IF_ERROR(OnlyBool(json, "rstrip", false));
    if (content.empty()) return InvalidArgument(where, ": token ", id64, " is empty");
    const uint32_t id = static_cast<uint32_t>(id64);
    Token& token = TokenAt(id);
    const auto in_vocab = ids_.find(content);
    if (in_vocab == ids_.end() ? token.exists : in_vocab->second != id) {
      return InvalidArgument(where, ": token ", Quoted(content), " has id ", id,
                             ", which disagrees with the vocabulary");
    }
    token = {content, true, special};
    ids_[content] = id;
    bpe_->added_[1][normalized ? 1 : 0].Add(content, id);
    if (!special) bpe_->added_[0][normalized ? 1 : 0].Add(content, id);
    return absl::OkStatus();
  }

  // Only BOS in front is known: ByteLevel adds nothing, a template may put one token first.
  absl::Status ReadPostProcessor() {
    const Json* processor = JsonFind(json_, "post_processor");
    if (processor == nullptr) return absl::OkStatus();
    const Json* list = JsonFind(*processor, "processors");
    const Json* type = JsonFind(*processor, "type");
    if (type == nullptr || *type != "Sequence") return ReadPostProcessor(*processor);
    if (list == nullptr || !list->is_array()) return Unsupported("post_processor", *processor);
    for (const Json& one : *list) RETURN_IF_ERROR(ReadPostProcessor(one));
    return absl::OkStatus();
  }

  absl::Status ReadPostProcessor(const Json& processor) {
    if (IsByteLevel(&processor)) return absl::OkStatus();
    const Json* type = JsonFind(processor, "type");
    const Json* single = JsonFind(processor, "single");
    if (type == nullptr || *type != "TemplateProcessing" || single == nullptr ||
        !single->is_array() || single->empty() || single->size() > 2 ||
        JsonFind(single->back(), "Sequence") == nullptr) {
      return Unsupported("post_processor", processor);
    }
    if (single->size() == 1) return absl::OkStatus();
    const Json* first = JsonFind(single->front(), "SpecialToken");
    if (first == nullptr) return Unsupported("post_processor", processor);
    ASSIGN_OR_RETURN(const std::string text, JsonString(*first, "id", path_));
    template_bos_ = text;
    return absl::OkStatus();
  }

  std::optional<uint32_t> IdOf(const std::optional<std::string>& text) const {
    if (!text) return std::nullopt;
    const auto found = ids_.find(*text);
    return found == ids_.end() ? std::nullopt : std::optional<uint32_t>(found->second);
  }

  std::optional<uint32_t> Existing(std::optional<uint32_t> id) const {
    if (!id || *id >= bpe_->tokens_.size() || !bpe_->tokens_[*id].exists) return std::nullopt;
    return id;
  }

  void ChooseSpecialTokens(const SpecialTokens& special) {
    bpe_->bos_id_ = IdOf(template_bos_);
    if (!bpe_->bos_id_) bpe_->bos_id_ = IdOf(special.bos_token);
    if (!bpe_->bos_id_) bpe_->bos_id_ = Existing(special.bos_token_id);
    bpe_->eos_id_ = IdOf(special.eos_token);
    if (!bpe_->eos_id_) bpe_->eos_id_ = Existing(special.eos_token_id);
    // A vocabulary of GPT-2's kind that came without any word about it.
    const std::optional<uint32_t> end_of_text = IdOf("<|endoftext|>");
    const bool no_word =
        !special.bos_token && !special.bos_token_id && !special.eos_token && !special.eos_token_id;
    if (no_word && end_of_text && bpe_->tokens_[*end_of_text].special) {
      if (!bpe_->bos_id_) bpe_->bos_id_ = end_of_text;
      bpe_->eos_id_ = end_of_text;
    }
    for (const std::optional<uint32_t>& id : {bpe_->bos_id_, bpe_->eos_id_}) {
      if (id) bpe_->tokens_[*id].special = true;
    }
    // GPT-2 texts get BOS as in TransformerLens; these two kinds do not.
    const bool without = special.tokenizer_class == "GPTNeoXTokenizer" ||
                         special.tokenizer_class == "Qwen2Tokenizer";
    const bool wanted = special.add_bos_token.value_or(template_bos_ || !without);
    bpe_->adds_bos_ = wanted && bpe_->bos_id_.has_value();
  }

  const Json& json_;
  const std::string& path_;
  const Json* model_ = nullptr;
  std::shared_ptr<ByteLevelBpe> bpe_ = std::make_shared<ByteLevelBpe>();
  absl::flat_hash_map<std::string, uint32_t> ids_;  // entries as written in the file
  std::optional<std::string> template_bos_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> ByteLevelBpeFromJson(
    absl::string_view content, const std::string& path, const SpecialTokens& special) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(content, path, kMaxTokenizerDepth));
  return Builder(json, path).Build(content, special);
}

}  // namespace featurescope
