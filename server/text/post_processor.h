// The post-processor of tokenizer.json, for what it says of BOS. TemplateProcessing, ByteLevel,
// Sequence.
//
// Source: huggingface/tokenizers, tokenizers/src/processors.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "server/text/vocabulary.h"

namespace featurescope {

struct PostProcessor {
  bool has_template = false;
  std::optional<uint32_t> bos;  // what the template puts in front of a text
};

// The section "post_processor". `where` begins every message.
//
//   Unimplemented    a type that is not supported, by name; a template that puts anything but one
//                    token in front, or anything behind a text
//   InvalidArgument  malformed, or a token that the vocabulary does not have
absl::StatusOr<PostProcessor> ReadPostProcessor(const nlohmann::json& json,
                                                const Vocabulary& vocabulary,
                                                absl::string_view where);

}  // namespace featurescope
