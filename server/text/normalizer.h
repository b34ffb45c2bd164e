// Normalizers of tokenizer.json: what is done to a text before it is cut into words.
//
// NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, StripAccents, Precompiled, Sequence.
// Source: huggingface/tokenizers, tokenizers/src/normalizers.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace featurescope {

// Where a stretch of text lies. A text is cut at added tokens, which makes sections, and these at
// bytes that are no UTF-8.
struct TextPlace {
  bool opens_section = true;
  bool closes_section = true;
  bool opens_text = true;  // its first character is the text's first
};

// Immutable; const and thread-safe.
class Normalizer {
 public:
  // The section "normalizer" of a tokenizer.json. `where` begins every message.
  //
  //   Unimplemented    a type or an option that is not supported, by name
  //   InvalidArgument  malformed
  static absl::StatusOr<std::unique_ptr<const Normalizer>> Create(const nlohmann::json& json,
                                                                  absl::string_view where);
  virtual ~Normalizer() = default;

  // Writes the normalised text to *out and returns true; false, *out untouched, when the text stays
  // as it is. Clears place->opens_text when characters at the front are dropped.
  // REQUIRES: text is valid UTF-8. ResourceExhausted: see Regex::ForEachMatch.
  virtual absl::StatusOr<bool> Apply(absl::string_view text, TextPlace* place,
                                     std::string* out) const = 0;
};

}  // namespace featurescope
