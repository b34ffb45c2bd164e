// Operators of chat templates on values, as Python has them.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/jinja_value.h"

namespace featurescope {

// + - * / // % ~ == != < <= > >= in, "not in"; not "and" and "or". Errors as JinjaTemplate::Render.
absl::StatusOr<JinjaValue> ApplyJinjaOperator(absl::string_view op, const JinjaValue& left,
                                              const JinjaValue& right);
// "-", "+", "not".
absl::StatusOr<JinjaValue> ApplyJinjaUnary(absl::string_view op, const JinjaValue& operand);

// container[key]; undefined where there is no such item.
absl::StatusOr<JinjaValue> JinjaSubscript(const JinjaValue& container, const JinjaValue& key);
// container.name; undefined where there is no such attribute.
absl::StatusOr<JinjaValue> JinjaAttribute(const JinjaValue& container, absl::string_view name);
// container[start:stop:step] of a list or string; none or undefined where left out.
absl::StatusOr<JinjaValue> JinjaSlice(const JinjaValue& container, const JinjaValue& start,
                                      const JinjaValue& stop, const JinjaValue& step);

}  // namespace featurescope
