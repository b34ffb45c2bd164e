#include "server/text/display.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "server/formats/utf8.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

void AppendAsciiControl(uint8_t byte, std::string* display) {
  switch (byte) {
    case '\n':
      *display += "↵";
      return;
    case '\t':
      *display += "⇥";
      return;
    case 0x7f:
      *display += "␡";
      return;
    default:  // U+2400 + byte: the control's picture
      *display += "\xe2\x90";
      display->push_back(static_cast<char>(0x80 + byte));
  }
}

}  // namespace

std::string DisplayToken(absl::string_view bytes) {
  std::string display;
  for (size_t at = 0; at < bytes.size();) {
    const absl::string_view rest = bytes.substr(at);
    const int length = Utf8SequenceLength(rest);
    const uint8_t byte = static_cast<uint8_t>(rest[0]);
    if (length == 0) {
      absl::StrAppend(&display, "⟨", absl::Hex(byte, absl::kZeroPad2), "⟩");
      ++at;
      continue;
    }
    const char32_t code = Utf8CodePoint(rest, length);
    if (code < 0x20 || code == 0x7f) {
      AppendAsciiControl(byte, &display);
    } else if (IsInvisible(code)) {
      std::string hex = absl::StrCat(absl::Hex(static_cast<uint32_t>(code), absl::kZeroPad4));
      for (char& c : hex) c = static_cast<char>(c >= 'a' && c <= 'f' ? c - 'a' + 'A' : c);
      absl::StrAppend(&display, "⟨U+", hex, "⟩");
    } else {
      display.append(rest.data(), static_cast<size_t>(length));
    }
    at += static_cast<size_t>(length);
  }
  return display;
}

}  // namespace featurescope
