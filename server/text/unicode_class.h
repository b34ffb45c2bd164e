// Character classes that tokenizers speak of: \s, \w, \p{L}, \p{N}, \p{M}, \p{P}, \p{S}.
//
// Any value is accepted; what is no assigned character is in none of them.
#pragma once

#include <cstdint>

namespace featurescope {

enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

// White_Space is a space; general categories L* letters, N* numbers.
CharClass ClassOf(char32_t code_point);

inline bool IsLetter(char32_t code_point) { return ClassOf(code_point) == CharClass::kLetter; }
inline bool IsNumber(char32_t code_point) { return ClassOf(code_point) == CharClass::kNumber; }
inline bool IsWhiteSpace(char32_t code_point) { return ClassOf(code_point) == CharClass::kSpace; }
bool IsMark(char32_t code_point);         // general categories M*
bool IsPunctuation(char32_t code_point);  // general categories P*
bool IsSymbol(char32_t code_point);       // general categories S*
// A character of a word, \w as Unicode defines it: Alphabetic, marks, decimal numbers, connector
// punctuation and the two joiners.
bool IsWordCharacter(char32_t code_point);

// Whether the character shows nothing by itself, or changes how others show: control, format,
// line and paragraph separators, surrogates, private use.
bool IsInvisible(char32_t code_point);

}  // namespace featurescope
