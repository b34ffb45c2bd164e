// Patterns of tokenizer.json are written for the Oniguruma library: here they become PCRE2's.
//
// The two agree on most of the syntax and disagree on what \s, \w, \b, \h, \v, \p{Han} and (?m)
// mean. What is not known to mean the same is refused by name.
// Source: kkos/oniguruma, doc/RE; pcre2pattern(3).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// The pattern for PCRE2 with UTF, UCP and MULTILINE.
//
//   Unimplemented    a construct that is not supported, quoted
//   InvalidArgument  no valid UTF-8, an unfinished class, escape or interval
absl::StatusOr<std::string> OnigurumaToPcre2(absl::string_view pattern);

}  // namespace featurescope
