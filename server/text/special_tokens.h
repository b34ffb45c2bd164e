// What the files beside a tokenizer say about BOS and EOS.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

struct SpecialTokens {
  // From tokenizer_config.json, else special_tokens_map.json: the tokens' texts.
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::optional<bool> add_bos_token;
  std::string tokenizer_class;  // without "Fast"; empty: unknown
  // From the model's config.json.
  std::optional<uint32_t> bos_token_id;
  std::optional<uint32_t> eos_token_id;
};

// Reads tokenizer_config.json, special_tokens_map.json and config.json in `dir`, each of which may
// be missing. InvalidArgument: one of them is malformed.
absl::StatusOr<SpecialTokens> ReadSpecialTokens(absl::string_view dir);

}  // namespace featurescope
