// Models of tokenizer.json: how one word becomes tokens. BPE and Unigram.
//
// Source: huggingface/tokenizers, tokenizers/src/models.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "server/text/vocabulary.h"

namespace featurescope {

// Immutable; const and thread-safe.
class TokenModel {
 public:
  // Reads the section "model" of a tokenizer.json, whose path begins every message. Its entries go
  // to *vocabulary, which must be empty. `byte_level`: words are bytes (PreTokenizers::byte_level).
  //
  //   Unimplemented    another kind of model, or an option that is not supported, by name
  //   InvalidArgument  malformed, or inconsistent (a merge of unknown tokens, ids given twice, ...)
  static absl::StatusOr<std::unique_ptr<const TokenModel>> Create(const nlohmann::json& json,
                                                                  const std::string& path,
                                                                  bool byte_level,
                                                                  Vocabulary* vocabulary);
  virtual ~TokenModel() = default;

  // Appends the ids of one word. REQUIRES: word is valid UTF-8 unless byte_level.
  virtual void Encode(absl::string_view word, std::vector<uint32_t>* ids) const = 0;
  // Appends the ids of a byte that is no part of valid UTF-8; where the model has no tokens for
  // bytes, those of U+FFFD.
  virtual void EncodeByte(uint8_t byte, std::vector<uint32_t>* ids) const = 0;

  // Bytes, at least 1, that no token spans the end of: `text` may be encoded part by part.
  // REQUIRES: text is not empty.
  virtual size_t PartLength(absl::string_view text) const { return text.size(); }

  // Whether the tokens of every text stand for all of it.
  virtual bool keeps_text() const = 0;
};

// The two models, which Create chooses from; `where` begins their messages.
absl::StatusOr<std::unique_ptr<const TokenModel>> ReadBpeModel(const nlohmann::json& json,
                                                               const std::string& where,
                                                               bool byte_level,
                                                               Vocabulary* vocabulary);
absl::StatusOr<std::unique_ptr<const TokenModel>> ReadUnigramModel(const nlohmann::json& json,
                                                                   const std::string& where,
                                                                   Vocabulary* vocabulary);

// Tokens for single bytes, "<0x0A>", as byte fallback needs them.
class ByteTokens {
 public:
  ByteTokens() = default;
  explicit ByteTokens(const Vocabulary& vocabulary);

  bool complete() const { return n_found_ == 256; }
  // Appends the tokens of all bytes; false, nothing appended, where one has none.
  bool Append(absl::string_view bytes, std::vector<uint32_t>* ids) const;

 private:
  std::array<std::optional<uint32_t>, 256> ids_;
  size_t n_found_ = 0;
};

}  // namespace featurescope
