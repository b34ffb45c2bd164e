// The three character classes that pre-tokenizer patterns speak of: \s, \p{L}, \p{N}.
#pragma once

#include <cstdint>

namespace featurescope {

enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

// White_Space is a space; general categories L* letters, N* numbers. Any value is accepted.
CharClass ClassOf(char32_t code_point);

// Whether the character shows nothing by itself, or changes how others show: control, format,
// line and paragraph separators, surrogates, private use.
bool IsInvisible(char32_t code_point);

}  // namespace featurescope
