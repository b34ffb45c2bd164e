// The parts of a chat template: text, expressions {{ }}, statements {% %}; comments are dropped.
//
// White space as transformers sets Jinja up: trim_blocks and lstrip_blocks are on, and "-" strips
// more. Source: pallets/jinja, src/jinja2/lexer.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

struct JinjaToken {
  enum class Type {
    kText,       // between tags, after stripping; never empty
    kOpen,       // {{
    kClose,      // }}
    kBlockOpen,  // {%
    kBlockClose,
    kName,
    kString,  // its value
    kInt,
    kFloat,
    kOperator,  // == != <= >= < > + - * / // % ~ ** | . , : ( ) [ ] { } =
    kEnd,
  };
  Type type = Type::kEnd;
  std::string text;
  int line = 1;  // of the template, for messages
};

// The tokens of a template, kEnd last. InvalidArgument, with the line: an unfinished tag or string,
// a character that no expression has.
absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source);

}  // namespace featurescope
