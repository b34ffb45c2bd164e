#include "server/text/json_section.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"
#include "server/text/characters.h"

namespace featurescope {
namespace {

constexpr size_t kMaxListedSections = 64;

}  // namespace

absl::StatusOr<JsonSection> JsonSection::Create(const nlohmann::json& json,
                                                absl::string_view where) {
  if (!json.is_object()) return InvalidArgument(where, " must be an object");
  JsonSection section;
  section.json_ = &json;
  ASSIGN_OR_RETURN(section.type_, JsonString(json, "type", where));
  section.where_ = absl::StrCat(where, " ", PrintableUtf8(section.type_, 60));
  return section;
}

absl::Status JsonSection::OnlyOptions(std::initializer_list<absl::string_view> options) const {
  for (const auto& [key, value] : json_->items()) {
    const absl::string_view name = key;
    if (name != "type" && std::find(options.begin(), options.end(), name) == options.end()) {
      return Unimplemented(where_, ": option ", PrintableUtf8(key, 60), " is not supported");
    }
  }
  return absl::OkStatus();
}

absl::Status JsonSection::UnsupportedType() const {
  return Unimplemented(where_, " is not supported");
}

absl::StatusOr<bool> JsonSection::Bool(absl::string_view key) const {
  return JsonBool(*json_, key, where_);
}
absl::StatusOr<bool> JsonSection::BoolOr(absl::string_view key, bool otherwise) const {
  return JsonBoolOr(*json_, key, where_, otherwise);
}
absl::StatusOr<int64_t> JsonSection::Int(absl::string_view key, int64_t lo, int64_t hi) const {
  return JsonInt(*json_, key, where_, lo, hi);
}
absl::StatusOr<std::string> JsonSection::String(absl::string_view key) const {
  return JsonString(*json_, key, where_);
}

absl::StatusOr<std::string> JsonSection::OneCharacter(absl::string_view key) const {
  ASSIGN_OR_RETURN(std::string text, String(key));
  if (text.empty() || CharacterAt(text, 0).size != text.size()) {
    return InvalidArgument(where_, ": ", key, " is \"", PrintableUtf8(text, 60),
                           "\", must be one character");
  }
  return text;
}

absl::StatusOr<std::vector<JsonSection>> JsonSection::List(absl::string_view key) const {
  const nlohmann::json* list = JsonFind(*json_, key);
  if (list == nullptr || !list->is_array() || list->size() > kMaxListedSections) {
    return InvalidArgument(where_, ": ", key, " is missing, no array or has more than ",
                           kMaxListedSections, " entries");
  }
  std::vector<JsonSection> sections;
  for (const nlohmann::json& entry : *list) {
    ASSIGN_OR_RETURN(JsonSection section,
                     Create(entry, absl::StrCat(where_, ": ", key, "[", sections.size(), "]")));
    sections.push_back(std::move(section));
  }
  return sections;
}

absl::Status JsonSection::Annotated(const absl::Status& status) const {
  return Annotate(status, where_);
}

}  // namespace featurescope
