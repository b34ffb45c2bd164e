// Names that models go by: an SAE's files call "gpt2-small" what the hub calls
// "openai-community/gpt2" and a user "gpt2".
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "server/store/state_db.h"

namespace featurescope {

// What a name comes down to: its last part, small letters and digits, well-known aliases replaced.
std::string CanonicalModelName(absl::string_view name);

// Whether the model's id or where it came from come down to the same as `name`.
bool GoesByName(const ModelRow& model, absl::string_view name);

// An id made of a name from outside: small letters, digits, '.', '_' and '-', at most 64.
std::string IdFromName(absl::string_view name);

}  // namespace featurescope
