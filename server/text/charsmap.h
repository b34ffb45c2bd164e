// SentencePiece's precompiled map of characters, as tokenizer.json's "Precompiled" normalizer has
// it: a double-array trie from character sequences to what they become.
//
// Source: google/sentencepiece, src/normalizer.cc; s-yata/darts-clone; huggingface/spm_precompiled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// Immutable; const and thread-safe.
class Charsmap {
 public:
  // `base64` is the field precompiled_charsmap. InvalidArgument: no such map.
  static absl::StatusOr<Charsmap> FromBase64(absl::string_view base64);

  // Writes the mapped text to *out and returns true; false, *out untouched, when nothing in it is
  // mapped. As huggingface/tokenizers does it: first whole grapheme clusters of less than 6 bytes,
  // each by the shortest sequence that it begins with, then character by character.
  // REQUIRES: text is valid UTF-8.
  bool Map(absl::string_view text, std::string* out) const;

 private:
  Charsmap() = default;
  // Appends what the shortest sequence at the start of `chunk` becomes; false when there is none.
  bool Append(absl::string_view chunk, std::string* out) const;

  std::vector<uint32_t> units_;
  std::string mapped_;  // NUL-terminated texts
};

}  // namespace featurescope
