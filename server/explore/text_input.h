// Texts and tokens as questions about a model carry them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/model/transformer.h"
#include "server/text/tokenizer.h"

namespace featurescope {

// A model that is asked something. Keeps it loaded for as long as the question lasts.
struct ModelRef {
  std::shared_ptr<const Transformer> model;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: the model has none and takes token ids only
};

// A text (any bytes) or its token ids.
struct TextInput {
  std::variant<std::string, std::vector<uint32_t>> input;
  // Leaves out the BOS token that the tokenizer adds to texts by default. Token ids are always
  // taken as they are.
  bool no_bos = false;
};

struct Token {
  uint32_t id = 0;
  std::string bytes;    // empty without a tokenizer
  std::string display;  // printable UTF-8; without a tokenizer "[id]"
  bool special = false;
};

Token MakeToken(const ModelRef& model, uint32_t id);
std::vector<Token> MakeTokens(const ModelRef& model, absl::Span<const uint32_t> ids);

// BOS, EOS and the like: what the tokenizer says, without one the BOS and EOS of the model's
// configuration.
bool IsSpecialToken(const ModelRef& model, uint32_t id);

// The token ids of `input`, at least one and at most the model's n_ctx.
//
//   name    what the error messages call the input, e.g. "inputs[3]"
//   errors  InvalidArgument     empty; longer than n_ctx tokens; an id out of range
//           FailedPrecondition  a text, but the model has no tokenizer
absl::StatusOr<std::vector<uint32_t>> TokenIdsOf(const ModelRef& model, const TextInput& input,
                                                 absl::string_view name);

}  // namespace featurescope
