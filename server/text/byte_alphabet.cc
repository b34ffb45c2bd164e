#include "server/text/byte_alphabet.h"

#include <array>

#include "server/formats/utf8.h"
#include "server/text/characters.h"

namespace featurescope {
namespace {

constexpr char32_t kEnd = 0x144;  // behind the alphabet's last character

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, kEnd> bytes;  // by character; -1: none
};

// Printable Latin-1 bytes stand for themselves, the others for U+0100 upwards.
Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.bytes.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const char32_t code = printable ? static_cast<char32_t>(byte) : next++;
    AppendUtf8(code, &alphabet.characters[static_cast<size_t>(byte)]);
    alphabet.bytes[code] = byte;
  }
  return alphabet;
}

const Alphabet& TheAlphabet() {
  static const auto* alphabet = new Alphabet(MakeAlphabet());
  return *alphabet;
}

}  // namespace

absl::string_view ByteCharacter(uint8_t byte) { return TheAlphabet().characters[byte]; }

std::string ToByteAlphabet(absl::string_view bytes) {
  std::string text;
  for (char byte : bytes) text += TheAlphabet().characters[static_cast<uint8_t>(byte)];
  return text;
}

std::optional<std::string> FromByteAlphabet(absl::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const int length = Utf8SequenceLength(text);
    if (length == 0) return std::nullopt;
    const char32_t code = Utf8CodePoint(text, length);
    const int byte = code < kEnd ? TheAlphabet().bytes[code] : -1;
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    text.remove_prefix(static_cast<size_t>(length));
  }
  return bytes;
}

}  // namespace featurescope
