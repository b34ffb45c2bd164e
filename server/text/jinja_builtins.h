// Filters, tests and methods of chat templates.
//
//   filters  trim length count tojson upper lower capitalize title default d join first last list
//            string int replace items safe map select reject selectattr rejectattr
//   tests    defined undefined none string number integer float boolean true false mapping iterable
//            sequence equalto eq == ne != in odd even
//   methods  strip lstrip rstrip split startswith endswith replace upper lower title capitalize
//            join of strings; get items keys values of mappings
// Source: pallets/jinja, src/jinja2/filters.py, tests.py; Python's str and dict.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/jinja_ast.h"

namespace featurescope {

// Evaluated arguments; positional ones have no name.
using JinjaArguments = std::vector<std::pair<std::string, JinjaValue>>;

// Unimplemented, with the line, for a filter or a test that is not in the list, and for calling
// what is no name or method in the lists. Checked when a template is read.
absl::Status CheckJinjaFilter(absl::string_view name, int line);
absl::Status CheckJinjaTest(absl::string_view name, int line);
absl::Status CheckJinjaCall(const JinjaExpr& callee);

//   Unimplemented    arguments that are not supported, or such a value
//   InvalidArgument  the value is of the wrong kind
absl::StatusOr<JinjaValue> ApplyJinjaFilter(absl::string_view name, const JinjaValue& value,
                                            const JinjaArguments& arguments);
absl::StatusOr<bool> ApplyJinjaTest(absl::string_view name, const JinjaValue& value,
                                    const JinjaArguments& arguments);
absl::StatusOr<JinjaValue> CallJinjaMethod(const JinjaValue& value, absl::string_view name,
                                           const JinjaArguments& arguments);

// Python's `item in container`.
absl::StatusOr<bool> JinjaContains(const JinjaValue& container, const JinjaValue& item);
// The items of a list, the keys of a mapping, the characters of a string; none of an undefined
// value.
absl::StatusOr<JinjaList> JinjaItems(const JinjaValue& value);

}  // namespace featurescope
