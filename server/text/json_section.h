// One section of a tokenizer.json ({"type": ..., options}) and the errors that name it.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace featurescope {

// Borrows the JSON. Const and cheap to copy.
class JsonSection {
 public:
  // `where` is the file and the section's name: "dir/tokenizer.json: normalizer".
  // InvalidArgument: no object, or its "type" is no string.
  static absl::StatusOr<JsonSection> Create(const nlohmann::json& json, absl::string_view where);

  const std::string& type() const { return type_; }
  const nlohmann::json& json() const { return *json_; }
  // "dir/tokenizer.json: normalizer Prepend", with which messages begin.
  const std::string& where() const { return where_; }

  // Unimplemented, naming the first option that is not listed: it could change every token.
  absl::Status OnlyOptions(std::initializer_list<absl::string_view> options) const;
  // "WHERE is not supported".
  absl::Status UnsupportedType() const;

  absl::StatusOr<bool> Bool(absl::string_view key) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool otherwise) const;
  absl::StatusOr<int64_t> Int(absl::string_view key, int64_t lo, int64_t hi) const;
  absl::StatusOr<std::string> String(absl::string_view key) const;
  // One character, as UTF-8.
  absl::StatusOr<std::string> OneCharacter(absl::string_view key) const;

  // The sections of an array.
  absl::StatusOr<std::vector<JsonSection>> List(absl::string_view key) const;

  // Puts the section's name in front of an error.
  absl::Status Annotated(const absl::Status& status) const;

 private:
  const nlohmann::json* json_ = nullptr;
  std::string where_;
  std::string type_;
};

}  // namespace featurescope
