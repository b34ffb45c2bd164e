// SentencePiece tokenizers (Llama's kind) from a tokenizer.model.
//
// Unlike the original, it loses nothing: bytes that are no UTF-8 and a literal U+2581 become byte
// pieces <0xXX>, and spaces are never dropped.
// Source: Kudo, Richardson 2018, "SentencePiece", arXiv:1808.06226; google/sentencepiece.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/special_tokens.h"
#include "server/text/tokenizer.h"

namespace featurescope {

// Builds the tokenizer from the content of a tokenizer.model. `path` is for messages. Added tokens
// of the files beside it are found in texts, too.
//
//   Unimplemented    a word or character model; a model that cannot keep every text: without byte
//                    fallback, or with a normalizer that changes it
//   InvalidArgument  no SentencePiece model, or an added token that disagrees with it
absl::StatusOr<std::shared_ptr<Tokenizer>> SentencePieceFromModel(const std::string& content,
                                                                  const std::string& path,
                                                                  const SpecialTokens& special);

}  // namespace featurescope
