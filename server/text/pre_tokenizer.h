// Pre-tokenizers of tokenizer.json: how a normalised text is cut into words, which no token spans.
//
// ByteLevel, Split, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit, Sequence.
// Source: huggingface/tokenizers, tokenizers/src/pre_tokenizers.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace featurescope {

// A part of a text on its way to the model. Valid UTF-8, but for parts behind ByteLevel.
struct TextPart {
  absl::string_view text;
  bool opens_text = false;  // its first character is the whole text's first
  bool continues = false;   // it goes on in the middle of a word: only bytes that are no UTF-8 lie
                            // before it. It gets no space in front.
};
using OnTextPart = absl::FunctionRef<absl::Status(const TextPart& part)>;

// One step. Immutable; const and thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  // Calls on_part for the parts of `part`, in order, none of them empty; their text lives until
  // on_part returns. Ends with the first error of on_part. ResourceExhausted: see
  // Regex::ForEachMatch.
  virtual absl::Status Split(const TextPart& part, OnTextPart on_part) const = 0;
};

// All steps. Immutable; const and thread-safe.
class PreTokenizers {
 public:
  // The section "pre_tokenizer" of a tokenizer.json. `where` begins every message.
  //
  //   Unimplemented    a type or an option that is not supported, by name
  //   InvalidArgument  malformed
  static absl::StatusOr<PreTokenizers> Create(const nlohmann::json& json, absl::string_view where);
  // No steps: texts stay whole.
  PreTokenizers() = default;

  // Words are bytes, for a model that has a symbol for every byte; else they are valid UTF-8.
  bool byte_level() const { return byte_level_; }
  // Whether the words, one behind the other, are the text.
  bool keeps_text() const { return keeps_text_; }

  // Calls on_word for the words of `part`. Else as PreTokenizer::Split.
  absl::Status Split(const TextPart& part, OnTextPart on_word) const {
    return SplitFrom(0, part, on_word);
  }

 private:
  absl::Status SplitFrom(size_t step, const TextPart& part, OnTextPart on_word) const;

  std::vector<std::unique_ptr<const PreTokenizer>> steps_;
  bool byte_level_ = false;
  bool keeps_text_ = true;
};

}  // namespace featurescope
