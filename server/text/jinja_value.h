// Values of chat templates: what Jinja, and Python behind it, computes with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// No text that a template makes or prints is longer.
constexpr size_t kMaxJinjaTextBytes = 64u << 20;

struct JinjaMacro;  // of the parsed template
class JinjaValue;

using JinjaList = std::vector<JinjaValue>;
using JinjaMap = std::vector<std::pair<std::string, JinjaValue>>;  // in order; keys are strings

// A cheap copy shares lists and maps, which do not change; a namespace is shared and does.
class JinjaValue {
 public:
  struct Undefined {
    std::string name;  // for messages
  };
  struct Namespace {
    JinjaMap attributes;
  };

  JinjaValue() : value_(Undefined{}) {}
  static JinjaValue MakeUndefined(absl::string_view name) {
    return JinjaValue(Undefined{std::string(name)});
  }
  static JinjaValue None() { return JinjaValue(nullptr); }
  static JinjaValue Bool(bool value) { return JinjaValue(value); }
  static JinjaValue Int(int64_t value) { return JinjaValue(value); }
  static JinjaValue Float(double value) { return JinjaValue(value); }
  static JinjaValue String(std::string value) { return JinjaValue(std::move(value)); }
  static JinjaValue List(JinjaList value) {
    return JinjaValue(std::make_shared<const JinjaList>(std::move(value)));
  }
  static JinjaValue Map(JinjaMap value) {
    return JinjaValue(std::make_shared<const JinjaMap>(std::move(value)));
  }
  static JinjaValue NewNamespace(JinjaMap attributes) {
    return JinjaValue(std::make_shared<Namespace>(Namespace{std::move(attributes)}));
  }
  static JinjaValue Macro(const JinjaMacro* macro) { return JinjaValue(macro); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(value_); }
  bool is_none() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_float() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_list() const { return std::holds_alternative<ListPtr>(value_); }
  bool is_map() const { return std::holds_alternative<MapPtr>(value_); }
  bool is_namespace() const { return std::holds_alternative<NamespacePtr>(value_); }
  bool is_macro() const { return std::holds_alternative<const JinjaMacro*>(value_); }

  // REQUIRES of each: is_..() of its kind.
  const std::string& undefined_name() const { return std::get<Undefined>(value_).name; }
  bool bool_value() const { return std::get<bool>(value_); }
  const std::string& string() const { return std::get<std::string>(value_); }
  const JinjaList& list() const { return *std::get<ListPtr>(value_); }
  const JinjaMap& map() const { return *std::get<MapPtr>(value_); }
  Namespace& name_space() const { return *std::get<NamespacePtr>(value_); }
  const JinjaMacro* macro() const { return std::get<const JinjaMacro*>(value_); }
  // As Python: True is 1. REQUIRES: is_number(); for int_value not is_float().
  int64_t int_value() const { return is_bool() ? bool_value() : std::get<int64_t>(value_); }
  double float_value() const {
    return is_float() ? std::get<double>(value_) : static_cast<double>(int_value());
  }

  // Python's bool(value).
  bool Truthy() const;
  // Python's ==.
  bool Equals(const JinjaValue& other) const;
  // "a string", "a list", ...: for messages.
  absl::string_view KindName() const;
  // What {{ value }} prints. Unimplemented for lists, maps, namespaces and macros.
  absl::StatusOr<std::string> Print() const;
  // The entry of a map or the attribute of a namespace; nullptr when there is none, or no such.
  const JinjaValue* Find(absl::string_view key) const;

 private:
  using ListPtr = std::shared_ptr<const JinjaList>;
  using MapPtr = std::shared_ptr<const JinjaMap>;
  using NamespacePtr = std::shared_ptr<Namespace>;
  using Variant = std::variant<Undefined, std::nullptr_t, bool, int64_t, double, std::string,
                               ListPtr, MapPtr, NamespacePtr, const JinjaMacro*>;
  template <typename T>
  explicit JinjaValue(T value) : value_(std::move(value)) {}

  Variant value_;
};

// Python's json.dumps(value, ensure_ascii=False), on one line for indent < 0.
// Unimplemented for what is no JSON.
absl::StatusOr<std::string> ToJson(const JinjaValue& value, int64_t indent);

}  // namespace featurescope
