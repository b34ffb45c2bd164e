// Chat templates parsed: the part of Jinja that published templates use.
//
// Tags: if, for (break, continue), set, macro, generation. Expressions: all operators, filters and
// tests of jinja_builtins.h. What else Jinja has is refused by name.
// Source: pallets/jinja, src/jinja2/parser.py.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/jinja_ast.h"

namespace featurescope {

// Messages begin with the line.
//
//   Unimplemented    a tag, filter or test that is not supported, by name
//   InvalidArgument  malformed, or nested too deep
absl::StatusOr<JinjaBlock> ParseJinja(absl::string_view source);

}  // namespace featurescope
