#include "server/text/gpt2_pattern.h"

#include "server/formats/utf8.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

struct Char {
  CharClass char_class;
  size_t length;
};

Char CharAt(absl::string_view text, size_t at) {
  const unsigned char lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {ClassOf(lead), 1};
  const int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return {ClassOf(Utf8CodePoint(text.substr(at), length)), static_cast<size_t>(length)};
}

// Length of the contraction that `text` begins with; 0 when there is none.
size_t ContractionLength(absl::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char c = text[1];
  if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
  if (text.size() < 3) return 0;
  const char next = text[2];
  return (c == 'r' && next == 'e') || (c == 'v' && next == 'e') || (c == 'l' && next == 'l') ? 3
                                                                                             : 0;
}

// End of the run of `char_class` that goes on at `at`.
size_t RunEnd(absl::string_view text, size_t at, CharClass char_class) {
  while (at < text.size()) {
    const Char c = CharAt(text, at);
    if (c.char_class != char_class) break;
    at += c.length;
  }
  return at;
}

// A run of spaces leaves its last one to the word behind it.
size_t SpaceRunLength(absl::string_view text) {
  size_t at = 0;
  size_t last = 0;
  while (at < text.size()) {
    const Char c = CharAt(text, at);
    if (c.char_class != CharClass::kSpace) return last > 0 ? last : at;
    last = at;
    at += c.length;
  }
  return at;
}

}  // namespace

size_t Gpt2PieceLength(absl::string_view text) {
  if (const size_t contraction = ContractionLength(text); contraction > 0) return contraction;
  const Char first = CharAt(text, 0);
  if (first.char_class != CharClass::kSpace) {
    return RunEnd(text, first.length, first.char_class);
  }
  if (text[0] == ' ' && text.size() > 1) {
    const Char second = CharAt(text, 1);
    if (second.char_class != CharClass::kSpace) {
      return RunEnd(text, 1 + second.length, second.char_class);
    }
  }
  return SpaceRunLength(text);
}

}  // namespace featurescope
