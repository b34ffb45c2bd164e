// GPT-2's way to write any bytes as printable text: one character for each byte.
//
// Source: openai/gpt-2, src/encoder.py (bytes_to_unicode).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

// The character for `byte`, as UTF-8.
absl::string_view ByteCharacter(uint8_t byte);

// `bytes` in the alphabet.
std::string ToByteAlphabet(absl::string_view bytes);

// The bytes that `text` stands for; nullopt when a character is not of the alphabet.
std::optional<std::string> FromByteAlphabet(absl::string_view text);

}  // namespace featurescope
