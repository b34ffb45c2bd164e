// Added tokens as tokenizer.json and tokenizer_config.json write them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "server/text/added_tokens.h"

namespace featurescope {

struct AddedToken {
  std::string content;  // not empty
  uint32_t id = 0;
  bool normalized = false;  // found in normalised text, not in the text as given
  AddedTokenOptions options;
};

constexpr size_t kMaxAddedTokens = 1u << 16;

// {"content": "<s>", "id": 1, "special": true, ...}. `where` begins every message.
// InvalidArgument: malformed, or the id is above kMaxTokenId. Unimplemented: an unknown option.
absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& json, absl::string_view where);
// The same without "id".
absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& json, uint32_t id,
                                          absl::string_view where);

}  // namespace featurescope
