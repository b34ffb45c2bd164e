// UTF-8: where valid sequences are, and texts made safe for messages.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

// Bytes (1 to 4) of the well-formed sequence that `text` begins with; 0 when it begins with none or
// is empty. Over-long forms, surrogates and values beyond U+10FFFF are not well-formed.
int Utf8SequenceLength(absl::string_view text);

// The code point of a sequence of `length` bytes that Utf8SequenceLength accepted.
char32_t Utf8CodePoint(absl::string_view text, int length);

// Length of the longest valid prefix.
size_t ValidUtf8Prefix(absl::string_view text);

// The largest cut <= `at` that does not split a sequence. REQUIRES: text is valid UTF-8.
size_t Utf8CutBefore(absl::string_view text, size_t at);

// Valid UTF-8 for any bytes: invalid ones and ASCII controls become \xNN. For error messages that
// quote untrusted files. At most `max_bytes` of `text` are shown.
std::string PrintableUtf8(absl::string_view text, size_t max_bytes = 300);

}  // namespace featurescope
