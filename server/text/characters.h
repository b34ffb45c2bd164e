// Characters of valid UTF-8, one at a time, as fast as it gets: the inner loops of tokenizers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

struct Character {
  char32_t code;
  size_t size;  // bytes
};

// The character that begins at byte `at`. REQUIRES: text is valid UTF-8, `at` begins a character.
inline Character CharacterAt(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> char32_t { return static_cast<uint8_t>(text[at + i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (lead < 0xf0) return {(lead & 0xf) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(lead & 7) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

// The character that ends before byte `at`. REQUIRES: text is valid UTF-8, at > 0 ends a character.
inline Character CharacterBefore(absl::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
  return CharacterAt(text, begin);
}

// REQUIRES: a Unicode scalar value.
inline void AppendUtf8(char32_t code, std::string* text) {
  const auto tail = [&](int shift) {
    text->push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3f)));
  };
  if (code < 0x80) {
    text->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    text->push_back(static_cast<char>(0xc0 | (code >> 6)));
    tail(0);
  } else if (code < 0x10000) {
    text->push_back(static_cast<char>(0xe0 | (code >> 12)));
    tail(6);
    tail(0);
  } else {
    text->push_back(static_cast<char>(0xf0 | (code >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace featurescope
