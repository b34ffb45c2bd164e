// GPT-2's pre-tokenizer pattern, written out as a scanner:
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// A fixed scanner instead of a regular expression from a file: linear time on any text.
// Source: openai/gpt-2, src/encoder.py.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace featurescope {

// Bytes of the piece that `text` begins with: at least 1, and pieces cover the text.
// REQUIRES: text is valid UTF-8 and not empty.
size_t Gpt2PieceLength(absl::string_view text);

}  // namespace featurescope
