// Token texts for people: everything that cannot be seen is made visible.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

// Printable, valid UTF-8 for any bytes: line break ↵, tab ⇥, other ASCII controls as their picture
// (␀ ␍ ␛), invisible and direction-changing characters as ⟨U+200B⟩, invalid bytes as ⟨xx⟩. Spaces
// stay spaces.
std::string DisplayToken(absl::string_view bytes);

}  // namespace featurescope
