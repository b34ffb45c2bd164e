#include "server/text/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"
#include "server/text/added_token_json.h"
#include "server/text/added_tokens.h"
#include "server/text/normalizer.h"
#include "server/text/post_processor.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/token_decoder.h"
#include "server/text/token_model.h"
#include "server/text/vocabulary.h"
#include "server/text/word_cache.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

constexpr int kMaxTokenizerDepth = 24;

class JsonTokenizer final : public Tokenizer {
 public:
  std::string Decode(absl::Span<const uint32_t> ids) const override {
    std::string text;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= tokens_.size()) continue;
      const Token& token = tokens_[ids[i]];
      text += i == 0 && token.differs_first ? token.first_bytes : token.bytes;
    }
    decoder_.Finish(&text);
    return text;
  }
  std::string TokenBytes(uint32_t id) const override {
    return id < tokens_.size() ? tokens_[id].bytes : std::string();
  }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(tokens_.size()); }
  bool IsSpecial(uint32_t id) const override { return id < tokens_.size() && tokens_[id].special; }

 protected:
  absl::StatusOr<Ids> EncodeText(absl::string_view text, bool parse_special) const override {
    Ids ids;
    ids.reserve(text.size() / 4 + 1);
    TextPlace place;
    while (!text.empty()) {
      const size_t valid = ValidUtf8Prefix(text);
      place.closes_section = valid == text.size();
      if (valid > 0)
        RETURN_IF_ERROR(EncodeValid(text.substr(0, valid), place, parse_special, &ids));
      if (valid == text.size()) break;
      model_->EncodeByte(static_cast<uint8_t>(text[valid]), &ids);
      text.remove_prefix(valid + 1);
      place = {.opens_section = false, .closes_section = false, .opens_text = false};
    }
    return ids;
  }

 private:
  friend class Builder;

  struct Token {
    std::string bytes;
    std::string first_bytes;  // where differs_first: at the beginning of a text
    bool differs_first = false;
    bool special = false;
  };

  // As in the source: tokens that are matched in raw text first, then those matched in normalised
  // text.
  absl::Status EncodeValid(absl::string_view text, TextPlace place, bool parse_special,
                           Ids* ids) const {
    absl::Status status;
    raw_added_.Split(
        text, parse_special,
        [&](absl::string_view section, size_t offset) {
          if (!status.ok()) return;
          TextPlace here = place;
          if (offset > 0) here.opens_section = true, here.opens_text = false;
          if (offset + section.size() < text.size()) here.closes_section = true;
          status = EncodeSection(section, here, parse_special, ids);
        },
        [ids](uint32_t id) { ids->push_back(id); });
    return status;
  }

  absl::Status EncodeSection(absl::string_view section, TextPlace place, bool parse_special,
                             Ids* ids) const {
    std::string storage;
    if (normalizer_ != nullptr) {
      ASSIGN_OR_RETURN(const bool changed, normalizer_->Apply(section, &place, &storage));
      if (changed) section = storage;
    }
    absl::Status status;
    normalized_added_.Split(
        section, parse_special,
        [&](absl::string_view text, size_t offset) {
          if (!status.ok()) return;
          const bool first = offset == 0;
          status = pre_tokenizers_.Split(
              {text, first && place.opens_text, first && !place.opens_section},
              [this, ids](const TextPart& word) {
                EncodeWord(word.text, ids);
                return absl::OkStatus();
              });
        },
        [ids](uint32_t id) { ids->push_back(id); });
    return status;
  }

  void EncodeWord(absl::string_view text, Ids* ids) const {
    while (!text.empty()) {
      const absl::string_view part = text.substr(0, PartLength(text));
      text.remove_prefix(part.size());
      if (cache_.Append(part, ids)) continue;
      const size_t before = ids->size();
      model_->Encode(part, ids);
      cache_.Insert(part, ids->data() + before, ids->size() - before);
    }
  }

  size_t PartLength(absl::string_view text) const {
    const size_t length = model_->PartLength(text.substr(0, kMaxWordBytes + 1));
    if (length <= kMaxWordBytes) return length;
    const size_t cut = Utf8CutBefore(text, kMaxWordBytes);
    return cut > 0 ? cut : kMaxWordBytes;
  }

  AddedTokens raw_added_;
  std::unique_ptr<const Normalizer> normalizer_;  // null: none
  AddedTokens normalized_added_;
  PreTokenizers pre_tokenizers_;
  std::unique_ptr<const TokenModel> model_;
  TokenDecoder decoder_;
  std::vector<Token> tokens_;  // by id
  WordCache cache_;
};

// Turns the parsed file into a tokenizer, section by section.
class Builder {
 public:
  Builder(const Json& json, const std::string& path, const SpecialTokens& special)
      : json_(json), path_(path), special_(special) {}

  absl::StatusOr<std::shared_ptr<Tokenizer>> Build(absl::string_view content) {
    RETURN_IF_ERROR(CheckKeys());
    RETURN_IF_ERROR(ReadPipeline());
    RETURN_IF_ERROR(ReadAddedTokens());
    RETURN_IF_ERROR(ChooseSpecial());
    RETURN_IF_ERROR(MakeTokens());
    tokenizer_->keeps_text_ = KeepsText();
    tokenizer_->hash_ = Sha256Hex(content);
    return std::shared_ptr<Tokenizer>(std::move(tokenizer_));
  }

 private:
  // nullptr when the section is absent or null.
  const Json* Section(absl::string_view name) const { return JsonFind(json_, name); }
  std::string Where(absl::string_view name) const { return absl::StrCat(path_, ": ", name); }

  absl::Status CheckKeys() const {
    if (!json_.is_object()) return InvalidArgument(path_, ": must be an object");
    for (const auto& [key, value] : json_.items()) {
      static constexpr absl::string_view kKnown[] = {
          "version",       "truncation",     "padding", "added_tokens", "normalizer",
          "pre_tokenizer", "post_processor", "decoder", "model"};
      if (std::find(std::begin(kKnown), std::end(kKnown), absl::string_view(key)) ==
          std::end(kKnown)) {
        return Unimplemented(path_, ": ", PrintableUtf8(key, 60), " is not supported");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadPipeline() {
    if (const Json* json = Section("normalizer"); json != nullptr) {
      ASSIGN_OR_RETURN(tokenizer_->normalizer_, Normalizer::Create(*json, Where("normalizer")));
    }
    if (const Json* json = Section("pre_tokenizer"); json != nullptr) {
      Json section = *json;
      // What the file beside it says of this goes before, as in transformers.
      if (special_.add_prefix_space && section.contains("type") && section["type"] == "ByteLevel") {
        section["add_prefix_space"] = *special_.add_prefix_space;
      }
      ASSIGN_OR_RETURN(tokenizer_->pre_tokenizers_,
                       PreTokenizers::Create(section, Where("pre_tokenizer")));
    }
    const bool byte_level = tokenizer_->pre_tokenizers_.byte_level();
    const Json* model = Section("model");
    if (model == nullptr) return InvalidArgument(path_, ": \"model\" is missing");
    ASSIGN_OR_RETURN(tokenizer_->model_,
                     TokenModel::Create(*model, path_, byte_level, &vocabulary_));
    tokenizer_->decoder_ = TokenDecoder::Plain(byte_level);
    if (const Json* json = Section("decoder"); json != nullptr) {
      ASSIGN_OR_RETURN(tokenizer_->decoder_, TokenDecoder::Create(*json, Where("decoder")));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens() {
    std::vector<AddedToken> tokens;
    const Json* added = Section("added_tokens");
    if (added != nullptr && (!added->is_array() || added->size() > kMaxAddedTokens)) {
      return InvalidArgument(path_, ": added_tokens is no array or has more than ", kMaxAddedTokens,
                             " entries");
    }
    if (added != nullptr) {
      for (const Json& json : *added) {
        ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(json, Where("added_tokens")));
        tokens.push_back(std::move(token));
      }
    }
    // The file beside it may know more.
    for (const AddedToken& token : special_.added) {
      const auto same = [&](const AddedToken& one) { return one.content == token.content; };
      if (std::none_of(tokens.begin(), tokens.end(), same)) tokens.push_back(token);
    }
    // Of equal texts the special one counts, then the first.
    std::stable_partition(tokens.begin(), tokens.end(),
                          [](const AddedToken& token) { return token.options.special; });
    vocabulary_.Reserve(tokens.size());
    for (const AddedToken& token : tokens) RETURN_IF_ERROR(AddToken(token));
    return absl::OkStatus();
  }

  absl::Status AddToken(const AddedToken& token) {
    const absl::Status status =
        vocabulary_.AddToken(token.content, token.id, token.options.special);
    if (!status.ok()) return Annotate(status, Where("added_tokens"));
    strips_ = strips_ || token.options.lstrip || token.options.rstrip;
    if (!token.normalized) {
      tokenizer_->raw_added_.Add(token.content, token.id, token.options);
      return absl::OkStatus();
    }
    std::string content = token.content;
    if (tokenizer_->normalizer_ != nullptr) {
      TextPlace place;
      RETURN_IF_ERROR(tokenizer_->normalizer_->Apply(token.content, &place, &content).status());
    }
    if (!content.empty()) tokenizer_->normalized_added_.Add(content, token.id, token.options);
    return absl::OkStatus();
  }

  absl::Status ChooseSpecial() {
    PostProcessor processor;
    if (const Json* json = Section("post_processor"); json != nullptr) {
      ASSIGN_OR_RETURN(processor, ReadPostProcessor(*json, vocabulary_, Where("post_processor")));
    }
    const auto find = [this](absl::string_view text) { return vocabulary_.Find(text); };
    const auto exists = [this](uint32_t id) { return vocabulary_.Has(id); };
    const ChosenSpecialTokens chosen = ChooseSpecialTokens(
        special_,
        {processor.has_template, processor.bos, std::nullopt, std::nullopt, find, exists});
    tokenizer_->SetSpecialTokens(chosen);
    for (uint32_t id : chosen.special_ids) vocabulary_.MarkSpecial(id);
    return absl::OkStatus();
  }

  absl::Status MakeTokens() {
    tokenizer_->tokens_.reserve(vocabulary_.entries().size());
    for (const Vocabulary::Entry& entry : vocabulary_.entries()) {
      JsonTokenizer::Token& token = tokenizer_->tokens_.emplace_back();
      token.special = entry.special;
      if (!entry.exists) continue;
      if (entry.added) {
        token.bytes = entry.text;
        continue;
      }
      ASSIGN_OR_RETURN(token.bytes, tokenizer_->decoder_.TokenBytes(entry.text));
      ASSIGN_OR_RETURN(token.first_bytes, tokenizer_->decoder_.FirstTokenBytes(entry.text));
      token.differs_first = token.first_bytes != token.bytes;
      if (!token.differs_first) token.first_bytes = std::string();
    }
    return absl::OkStatus();
  }

  bool KeepsText() const {
    return tokenizer_->normalizer_ == nullptr && tokenizer_->pre_tokenizers_.byte_level() &&
           tokenizer_->pre_tokenizers_.keeps_text() && tokenizer_->model_->keeps_text() && !strips_;
  }

  const Json& json_;
  const std::string& path_;
  const SpecialTokens& special_;
  std::shared_ptr<JsonTokenizer> tokenizer_ = std::make_shared<JsonTokenizer>();
  Vocabulary vocabulary_;
  bool strips_ = false;  // an added token takes white space beside it with it
};

}  // namespace

absl::StatusOr<std::shared_ptr<Tokenizer>> TokenizerFromJson(absl::string_view content,
                                                             const std::string& path,
                                                             const SpecialTokens& special) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(content, path, kMaxTokenizerDepth));
  return Builder(json, path, special).Build(content);
}

}  // namespace featurescope
