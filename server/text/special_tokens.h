// What the files beside a tokenizer say about BOS, EOS and other special tokens, and the rules by
// which that is weighed.
//
//   bos_id    1. what the tokenizer's own post-processor puts in front   (tokenizer.json)
//             2. bos_token                                               (tokenizer_config.json)
//             3. bos_token                                               (special_tokens_map.json)
//             4. the tokenizer's own BOS                                 (tokenizer.model)
//             5. bos_token_id          (generation_config.json, then config.json)
//             6. "<|endoftext|>", where no file says a word of BOS or EOS
//   eos_id    the same without 1; 5 is the first of a list
//   eos_ids   eos_id and the whole list of generation_config.json, or where it has none, of
//             config.json
//   adds_bos  1. add_bos_token                                           (tokenizer_config.json)
//             2. whether the post-processor is a template with BOS       (tokenizer.json)
//             3. no, where bos_token is null                             (tokenizer_config.json)
//             4. no for GPTNeoXTokenizer and Qwen2Tokenizer              (tokenizer_class)
//             5. yes, as TransformerLens has it, where there is a BOS
// A token that is named but unknown to the tokenizer counts as not named.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/added_token_json.h"

namespace featurescope {

struct SpecialTokens {
  // From tokenizer_config.json, else special_tokens_map.json: the tokens' texts.
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::map<std::string, std::string> others;  // unk_token, pad_token, sep_token, ...: by that name
  std::vector<std::string> additional;        // additional_special_tokens
  // From tokenizer_config.json.
  bool bos_token_is_null = false;
  std::optional<bool> add_bos_token;
  std::optional<bool> add_prefix_space;
  std::string tokenizer_class;    // without "Fast"; empty: unknown
  std::vector<AddedToken> added;  // added_tokens_decoder, and added_tokens.json
  // From generation_config.json, else config.json.
  std::optional<uint32_t> bos_token_id;
  std::vector<uint32_t> eos_token_ids;
};

// Reads the files in `dir`, each of which may be missing.
//
//   InvalidArgument  one of them is malformed
//   Unimplemented    add_eos_token: no text gets an EOS behind it here
absl::StatusOr<SpecialTokens> ReadSpecialTokens(absl::string_view dir);

// What a tokenizer itself knows of its special tokens.
struct OwnSpecialTokens {
  // A template of the post-processor: it says whether texts get a BOS, and which.
  bool has_template = false;
  std::optional<uint32_t> template_bos;
  // Of a tokenizer.model.
  std::optional<uint32_t> bos;
  std::optional<uint32_t> eos;
  absl::FunctionRef<std::optional<uint32_t>(absl::string_view text)> find;  // id of a token
  absl::FunctionRef<bool(uint32_t id)> exists;
};

struct ChosenSpecialTokens {
  std::optional<uint32_t> bos_id;
  std::optional<uint32_t> eos_id;
  std::vector<uint32_t> eos_ids;      // ascending
  bool adds_bos = false;              // only with bos_id
  std::vector<uint32_t> special_ids;  // all that any file names
};

// Applies the rules above.
ChosenSpecialTokens ChooseSpecialTokens(const SpecialTokens& files, const OwnSpecialTokens& own);

}  // namespace featurescope
