// Unicode normal forms. Linear but for runs of marks, which are sorted.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// Writes the normal form of `text` to *out and returns true. Returns false and leaves *out alone
// when no character of the text can be changed by the form.
// REQUIRES: text is valid UTF-8.
// Source: Unicode Standard Annex #15.
bool ToUnicodeForm(UnicodeForm form, absl::string_view text, std::string* out);

}  // namespace featurescope
