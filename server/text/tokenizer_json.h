// Tokenizers from a tokenizer.json, the format of huggingface/tokenizers.
//
//   text -> added tokens -> normalizer -> pre-tokenizer -> model -> ids      and back by the
//   decoder
//
// Bytes that are no UTF-8 get the model's tokens for bytes, and what lies between them is encoded
// as usual. Truncation and padding, which tokenizer.json can carry along, belong to batches and are
// not done here. What is not supported is refused by name.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/special_tokens.h"
#include "server/text/tokenizer.h"

namespace featurescope {

// Builds the tokenizer from the content of a tokenizer.json. `path` is for messages.
//
//   Unimplemented    a model, normalizer, pre-tokenizer, decoder or option that is not supported
//   InvalidArgument  malformed, or inconsistent (a merge of unknown tokens, ids given twice, ...)
absl::StatusOr<std::shared_ptr<Tokenizer>> TokenizerFromJson(absl::string_view content,
                                                             const std::string& path,
                                                             const SpecialTokens& special);

}  // namespace featurescope
