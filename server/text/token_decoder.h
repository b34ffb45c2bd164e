// Decoders of tokenizer.json: how tokens become text again.
//
// ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence. Unlike the source, bytes that
// are no UTF-8 stay as they are.
// Source: huggingface/tokenizers, tokenizers/src/decoders.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace featurescope {

// Immutable; const and thread-safe.
class TokenDecoder {
 public:
  // The section "decoder" of a tokenizer.json. `where` begins every message.
  //
  //   Unimplemented    a type, an option or an order of steps that is not supported, by name
  //   InvalidArgument  malformed
  static absl::StatusOr<TokenDecoder> Create(const nlohmann::json& json, absl::string_view where);
  // Tokens are their text, written in the byte alphabet or not.
  static TokenDecoder Plain(bool byte_level);

  // The bytes that an entry of the vocabulary stands for within a text.
  absl::StatusOr<std::string> TokenBytes(absl::string_view entry) const;
  // The same at the beginning of a text.
  absl::StatusOr<std::string> FirstTokenBytes(absl::string_view entry) const;
  // What is done to a whole text.
  void Finish(std::string* text) const;

 private:
  struct Step;
  absl::StatusOr<std::string> Run(absl::string_view entry, bool first) const;

  std::vector<std::shared_ptr<const Step>> steps_;
};

}  // namespace featurescope
