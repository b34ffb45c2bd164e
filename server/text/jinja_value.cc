#include "server/text/jinja_value.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// Python's repr of a float, for values that templates print.
std::string FloatText(double value) {
  if (std::isfinite(value) && value == std::floor(value) && std::abs(value) < 1e16) {
    return absl::StrFormat("%.1f", value);
  }
  return absl::StrFormat("%.17g", value);
}

void AppendJsonString(absl::string_view text, std::string* json) {
  json->push_back('"');
  for (char c : text) {
    switch (c) {
      case '"':
        *json += "\\\"";
        break;
      case '\\':
        *json += "\\\\";
        break;
      case '\n':
        *json += "\\n";
        break;
      case '\r':
        *json += "\\r";
        break;
      case '\t':
        *json += "\\t";
        break;
      case '\b':
        *json += "\\b";
        break;
      case '\f':
        *json += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(json, "\\u%04x", static_cast<int>(c));
        } else {
          json->push_back(c);
        }
    }
  }
  json->push_back('"');
}

absl::Status AppendJson(const JinjaValue& value, int64_t indent, int64_t depth, std::string* json);

// Items of a list or map between brackets; `append(i)` writes one.
template <typename Append>
absl::Status AppendJsonItems(size_t n, char open, char close, int64_t indent, int64_t depth,
                             std::string* json, const Append& append) {
  json->push_back(open);
  const auto new_line = [&](int64_t levels) {
    if (indent >= 0) json->append("\n").append(static_cast<size_t>(indent * levels), ' ');
  };
  for (size_t i = 0; i < n; ++i) {
    if (i > 0) *json += indent >= 0 ? "," : ", ";
    new_line(depth + 1);
    RETURN_IF_ERROR(append(i));
  }
  if (n > 0) new_line(depth);
  json->push_back(close);
  return absl::OkStatus();
}

absl::Status AppendJson(const JinjaValue& value, int64_t indent, int64_t depth, std::string* json) {
  if (value.is_none()) {
    *json += "null";
  } else if (value.is_bool()) {
    *json += value.bool_value() ? "true" : "false";
  } else if (value.is_int()) {
    absl::StrAppend(json, value.int_value());
  } else if (value.is_float()) {
    *json += FloatText(value.float_value());
  } else if (value.is_string()) {
    AppendJsonString(value.string(), json);
  } else if (value.is_list()) {
    const JinjaList& list = value.list();
    return AppendJsonItems(list.size(), '[', ']', indent, depth, json,
                           [&](size_t i) { return AppendJson(list[i], indent, depth + 1, json); });
  } else if (value.is_map()) {
    const JinjaMap& map = value.map();
    return AppendJsonItems(map.size(), '{', '}', indent, depth, json, [&](size_t i) {
      AppendJsonString(map[i].first, json);
      *json += ": ";
      return AppendJson(map[i].second, indent, depth + 1, json);
    });
  } else {
    return Unimplemented("tojson of ", value.KindName(), " is not supported");
  }
  return absl::OkStatus();
}

}  // namespace

bool JinjaValue::Truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return float_value() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  if (is_map()) return !map().empty();
  return true;
}

bool JinjaValue::Equals(const JinjaValue& other) const {
  if (is_number() && other.is_number()) {
    if (is_float() || other.is_float()) return float_value() == other.float_value();
    return int_value() == other.int_value();
  }
  if (value_.index() != other.value_.index()) return false;
  if (is_string()) return string() == other.string();
  if (is_list()) {
    const JinjaList& a = list();
    const JinjaList& b = other.list();
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i) {
      if (!a[i].Equals(b[i])) return false;
    }
    return true;
  }
  if (is_map()) {
    if (map().size() != other.map().size()) return false;
    for (const auto& [key, value] : map()) {
      const JinjaValue* match = other.Find(key);
      if (match == nullptr || !value.Equals(*match)) return false;
    }
    return true;
  }
  if (is_namespace()) return &name_space() == &other.name_space();
  if (is_macro()) return macro() == other.macro();
  return true;  // two undefined ones, two None
}

absl::string_view JinjaValue::KindName() const {
  if (is_undefined()) return "an undefined value";
  if (is_none()) return "none";
  if (is_bool()) return "a boolean";
  if (is_int()) return "an integer";
  if (is_float()) return "a number";
  if (is_string()) return "a string";
  if (is_list()) return "a list";
  if (is_map()) return "a mapping";
  return is_namespace() ? "a namespace" : "a macro";
}

absl::StatusOr<std::string> JinjaValue::Print() const {
  if (is_undefined()) return std::string();
  if (is_none()) return std::string("None");
  if (is_bool()) return std::string(bool_value() ? "True" : "False");
  if (is_int()) return absl::StrCat(int_value());
  if (is_float()) return FloatText(float_value());
  if (is_string()) return string();
  return Unimplemented("printing ", KindName(), " is not supported");
}

const JinjaValue* JinjaValue::Find(absl::string_view key) const {
  if (!is_map() && !is_namespace()) return nullptr;
  for (const auto& [name, value] : is_map() ? map() : name_space().attributes) {
    if (name == key) return &value;
  }
  return nullptr;
}

absl::StatusOr<std::string> ToJson(const JinjaValue& value, int64_t indent) {
  std::string json;
  RETURN_IF_ERROR(AppendJson(value, indent, 0, &json));
  return json;
}

}  // namespace featurescope
