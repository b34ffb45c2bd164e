// Chat templates rendered: an interpreter for the part of Jinja that published templates use.
//
// A template comes with a model, from nobody knows whom: it can compute but not reach out, and
// steps, depth and sizes are bounded. jinja_parser.h and jinja_builtins.h say what it knows, and
// the functions namespace, range, raise_exception and strftime_now.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/text/jinja_ast.h"

namespace featurescope {

// Immutable; const and thread-safe.
class JinjaTemplate {
 public:
  // Errors as ParseJinja.
  static absl::StatusOr<JinjaTemplate> Parse(absl::string_view source);

  // What the template prints with these variables. `now`: what strftime_now tells, in local time.
  //
  //   InvalidArgument    the template raises an exception, with its message; or it computes with
  //                      what is undefined or of the wrong kind
  //   Unimplemented      an operation that is not supported, by name
  //   ResourceExhausted  too many steps, or a text or list that grows too long
  absl::StatusOr<std::string> Render(const JinjaMap& variables, absl::Time now) const;

 private:
  JinjaTemplate() = default;
  JinjaBlock block_;
};

}  // namespace featurescope
