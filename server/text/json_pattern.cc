#include "server/text/json_pattern.h"

#include <string>

#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {

absl::StatusOr<std::unique_ptr<const SplitPattern>> ReadPattern(const JsonSection& section) {
  const nlohmann::json* pattern = JsonFind(section.json(), "pattern");
  const nlohmann::json* literal = pattern == nullptr ? nullptr : JsonFind(*pattern, "String");
  const nlohmann::json* regex = pattern == nullptr ? nullptr : JsonFind(*pattern, "Regex");
  if (literal != nullptr && literal->is_string() && regex == nullptr) {
    const std::string& text = literal->get_ref<const std::string&>();
    if (text.empty()) return InvalidArgument(section.where(), ": pattern is an empty string");
    return SplitPattern::Literal(text);
  }
  if (regex != nullptr && regex->is_string() && literal == nullptr) {
    auto compiled = SplitPattern::Expression(regex->get_ref<const std::string&>());
    if (!compiled.ok()) return section.Annotated(compiled.status());
    return compiled;
  }
  return InvalidArgument(section.where(),
                         ": pattern must be {\"String\": text} or {\"Regex\": expression}");
}

}  // namespace featurescope
