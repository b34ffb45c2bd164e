// Byte-level BPE (GPT-2's kind) from a tokenizer.json.
//
// Every byte has a symbol of its own, so any text has token ids and decoding gives back its bytes.
// Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.2.
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
absl::StatusOr<std::shared_ptr<const Tokenizer>> ByteLevelBpeFromJson(absl::string_view content,
                                                                      const std::string& path,
                                                                      const SpecialTokens& special);

}  // namespace featurescope
