#include "server/formats/utf8.h"

#include <cstdint>

#include "absl/strings/str_cat.h"

namespace featurescope {
namespace {

bool IsTail(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

}  // namespace

int Utf8SequenceLength(absl::string_view text) {
  if (text.empty()) return 0;
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || text.size() < 2 || !IsTail(text[1])) return 0;
  if (lead < 0xe0) return 2;
  const uint8_t second = static_cast<uint8_t>(text[1]);
  if (text.size() < 3 || !IsTail(text[2])) return 0;
  if (lead < 0xf0) {
    if (lead == 0xe0 && second < 0xa0) return 0;  // over-long
    if (lead == 0xed && second > 0x9f) return 0;  // surrogate
    return 3;
  }
  if (lead > 0xf4 || text.size() < 4 || !IsTail(text[3])) return 0;
  if (lead == 0xf0 && second < 0x90) return 0;  // over-long
  if (lead == 0xf4 && second > 0x8f) return 0;  // beyond U+10FFFF
  return 4;
}

char32_t Utf8CodePoint(absl::string_view text, int length) {
  if (length == 1) return static_cast<uint8_t>(text[0]);
  char32_t code = static_cast<uint8_t>(text[0]) & (0xffu >> (length + 1));
  for (int i = 1; i < length; ++i) code = code << 6 | (static_cast<uint8_t>(text[i]) & 0x3fu);
  return code;
}

size_t ValidUtf8Prefix(absl::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const int length = Utf8SequenceLength(text.substr(at, 4));
    if (length == 0) break;
    at += static_cast<size_t>(length);
  }
  return at;
}

size_t Utf8CutBefore(absl::string_view text, size_t at) {
  if (at >= text.size()) return text.size();
  while (at > 0 && IsTail(text[at])) --at;
  return at;
}

std::string PrintableUtf8(absl::string_view text, size_t max_bytes) {
  std::string printable;
  size_t at = 0;
  while (at < text.size() && at < max_bytes) {
    const int length = Utf8SequenceLength(text.substr(at, 4));
    const uint8_t byte = static_cast<uint8_t>(text[at]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      absl::StrAppend(&printable, "\\x", absl::Hex(byte, absl::kZeroPad2));
      ++at;
    } else {
      printable.append(text.data() + at, static_cast<size_t>(length));
      at += static_cast<size_t>(length);
    }
  }
  if (at < text.size()) printable += "...";
  return printable;
}

}  // namespace featurescope
