#include "server/text/jinja_builtins.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/characters.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

using Result = absl::StatusOr<JinjaValue>;

constexpr absl::string_view kFilters[] = {
    "trim",    "length", "count", "tojson", "upper",  "lower",  "capitalize", "title",
    "default", "d",      "join",  "first",  "last",   "list",   "string",     "int",
    "replace", "items",  "safe",  "map",    "select", "reject", "selectattr", "rejectattr"};
constexpr absl::string_view kTests[] = {"defined", "undefined", "none",     "string",  "number",
                                        "integer", "float",     "boolean",  "true",    "false",
                                        "mapping", "iterable",  "sequence", "equalto", "eq",
                                        "ne",      "in",        "odd",      "even"};
constexpr absl::string_view kMethods[] = {
    "strip", "lstrip", "rstrip",     "split", "startswith", "endswith", "replace", "upper",
    "lower", "title",  "capitalize", "join",  "get",        "items",    "keys",    "values"};

template <size_t n>
bool Has(const absl::string_view (&names)[n], absl::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string Shown(absl::string_view name) { return PrintableUtf8(name, 40); }

absl::Status WrongKind(absl::string_view what, const JinjaValue& value) {
  return InvalidArgument(
      what, " of ", value.KindName(),
      value.is_undefined() ? absl::StrCat(" (", value.undefined_name(), ")") : "");
}

// Reads arguments by position or name; all must be read.
class ArgumentReader {
 public:
  ArgumentReader(absl::string_view function, const JinjaArguments& arguments)
      : function_(function), arguments_(arguments), used_(arguments.size()) {}

  // nullptr when it is not given.
  const JinjaValue* Take(size_t position, absl::string_view name) {
    for (size_t i = 0; i < arguments_.size(); ++i) {
      const std::string& given = arguments_[i].first;
      if (given.empty() ? i == position : given == name) {
        used_[i] = true;
        return &arguments_[i].second;
      }
    }
    return nullptr;
  }
  absl::StatusOr<std::string> TakeString(size_t position, absl::string_view name) {
    const JinjaValue* value = Take(position, name);
    if (value == nullptr || !value->is_string()) {
      return InvalidArgument(function_, " needs a string as ", name);
    }
    return value->string();
  }
  absl::Status Done() const {
    for (size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i]) {
        return Unimplemented("argument ", i + 1, " of ", function_, " is not supported");
      }
    }
    return absl::OkStatus();
  }

 private:
  const absl::string_view function_;
  const JinjaArguments& arguments_;
  std::vector<bool> used_;
};

// str.isspace: White_Space and four separators.
bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1c && c <= 0x1f); }

// With `characters`, those are stripped instead of white space.
std::string Strip(absl::string_view text, const JinjaValue* characters, bool left, bool right) {
  const auto goes = [characters](char32_t code) {
    if (characters == nullptr || characters->is_none()) return IsPythonSpace(code);
    std::string character;
    AppendUtf8(code, &character);
    return absl::StrContains(characters->string(), character);
  };
  while (left && !text.empty() && goes(CharacterAt(text, 0).code)) {
    text.remove_prefix(CharacterAt(text, 0).size);
  }
  while (right && !text.empty() && goes(CharacterBefore(text, text.size()).code)) {
    text.remove_suffix(CharacterBefore(text, text.size()).size);
  }
  return std::string(text);
}

Result StripMethod(absl::string_view name, const std::string& text,
                   const JinjaArguments& arguments) {
  ArgumentReader reader(name, arguments);
  const JinjaValue* characters = reader.Take(0, "chars");
  RETURN_IF_ERROR(reader.Done());
  if (characters != nullptr && !characters->is_string() && !characters->is_none()) {
    return WrongKind(absl::StrCat(name, " by the characters"), *characters);
  }
  return JinjaValue::String(Strip(text, characters, name != "rstrip", name != "lstrip"));
}

// upper, lower, title, capitalize. Only of ASCII: the rules for other letters are not small.
Result ChangeCase(absl::string_view name, const std::string& text) {
  std::string changed = text;
  bool within_word = false;
  for (size_t i = 0; i < changed.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(changed[i]);
    if (c >= 0x80) return Unimplemented(name, " of letters beyond ASCII is not supported");
    const bool up =
        name == "upper" || (name == "title" && !within_word) || (name == "capitalize" && i == 0);
    changed[i] = up ? absl::ascii_toupper(c) : absl::ascii_tolower(c);
    within_word = absl::ascii_isalpha(c);
  }
  return JinjaValue::String(std::move(changed));
}

Result Split(const std::string& text, const JinjaArguments& arguments) {
  ArgumentReader reader("split", arguments);
  const JinjaValue* separator = reader.Take(0, "sep");
  const JinjaValue* limit = reader.Take(1, "maxsplit");
  RETURN_IF_ERROR(reader.Done());
  if (separator == nullptr || !separator->is_string() || separator->string().empty() ||
      (limit != nullptr && !limit->is_int())) {
    return Unimplemented("split without a separator is not supported");
  }
  JinjaList parts;
  absl::string_view rest = text;
  int64_t left = limit == nullptr ? -1 : limit->int_value();
  for (size_t at; left != 0 && (at = rest.find(separator->string())) != absl::string_view::npos;
       --left) {
    parts.push_back(JinjaValue::String(std::string(rest.substr(0, at))));
    rest.remove_prefix(at + separator->string().size());
  }
  parts.push_back(JinjaValue::String(std::string(rest)));
  return JinjaValue::List(std::move(parts));
}

Result Replace(const std::string& text, const JinjaArguments& arguments) {
  ArgumentReader reader("replace", arguments);
  ASSIGN_OR_RETURN(const std::string from, reader.TakeString(0, "old"));
  ASSIGN_OR_RETURN(const std::string to, reader.TakeString(1, "new"));
  RETURN_IF_ERROR(reader.Done());
  if (from.empty()) return Unimplemented("replace of an empty string is not supported");
  const size_t matches = text.size() / from.size();
  if (to.size() > from.size() && matches * (to.size() - from.size()) > kMaxJinjaTextBytes) {
    return ResourceExhausted("replace makes a text too long");
  }
  return JinjaValue::String(absl::StrReplaceAll(text, {{from, to}}));
}

Result Join(const JinjaValue& items, absl::string_view separator) {
  ASSIGN_OR_RETURN(const JinjaList list, JinjaItems(items));
  std::string joined;
  for (size_t i = 0; i < list.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string text, list[i].Print());
    absl::StrAppend(&joined, i > 0 ? separator : "", text);
  }
  return JinjaValue::String(std::move(joined));
}

JinjaValue PairsOf(const JinjaValue& map) {
  JinjaList pairs;
  for (const auto& [key, value] : map.map()) {
    pairs.push_back(JinjaValue::List({JinjaValue::String(key), value}));
  }
  return JinjaValue::List(std::move(pairs));
}

Result StringMethod(const std::string& text, absl::string_view name,
                    const JinjaArguments& arguments) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    return StripMethod(name, text, arguments);
  }
  if (name == "split") return Split(text, arguments);
  if (name == "replace") return Replace(text, arguments);
  ArgumentReader reader(name, arguments);
  if (name == "startswith" || name == "endswith") {
    ASSIGN_OR_RETURN(const std::string part, reader.TakeString(0, "prefix"));
    RETURN_IF_ERROR(reader.Done());
    return JinjaValue::Bool(name == "endswith" ? absl::EndsWith(text, part)
                                               : absl::StartsWith(text, part));
  }
  if (name == "join") {
    const JinjaValue* items = reader.Take(0, "iterable");
    RETURN_IF_ERROR(reader.Done());
    if (items == nullptr) return InvalidArgument("join needs a list");
    return Join(*items, text);
  }
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
    RETURN_IF_ERROR(reader.Done());
    return ChangeCase(name, text);
  }
  return WrongKind(absl::StrCat("method ", Shown(name)), JinjaValue::String(text));
}

Result MapMethod(const JinjaValue& map, absl::string_view name, const JinjaArguments& arguments) {
  ArgumentReader reader(name, arguments);
  if (name == "get") {
    ASSIGN_OR_RETURN(const std::string key, reader.TakeString(0, "key"));
    const JinjaValue* otherwise = reader.Take(1, "default");
    RETURN_IF_ERROR(reader.Done());
    const JinjaValue* found = map.Find(key);
    return found != nullptr ? *found : otherwise != nullptr ? *otherwise : JinjaValue::None();
  }
  RETURN_IF_ERROR(reader.Done());
  if (name == "items") return PairsOf(map);
  JinjaList list;
  for (const auto& [key, value] : map.map()) {
    list.push_back(name == "keys" ? JinjaValue::String(key) : value);
  }
  if (name == "keys" || name == "values") return JinjaValue::List(std::move(list));
  return WrongKind(absl::StrCat("method ", Shown(name)), map);
}

Result Length(const JinjaValue& value) {
  if (value.is_string()) {
    const std::string& text = value.string();
    return JinjaValue::Int(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
  }
  ASSIGN_OR_RETURN(const JinjaList items, JinjaItems(value));
  return JinjaValue::Int(static_cast<int64_t>(items.size()));
}

// map(attribute="x"), selectattr("x", "equalto", y), select("string"), and their contraries.
Result FilterItems(absl::string_view name, const JinjaValue& value,
                   const JinjaArguments& arguments) {
  ArgumentReader reader(name, arguments);
  ASSIGN_OR_RETURN(const JinjaList items, JinjaItems(value));
  JinjaList kept;
  const auto attribute_of = [](const JinjaValue& item, const std::string& attribute) {
    const JinjaValue* found = item.Find(attribute);
    return found == nullptr ? JinjaValue::MakeUndefined(attribute) : *found;
  };
  if (name == "map") {
    const JinjaValue* attribute = reader.Take(SIZE_MAX, "attribute");
    RETURN_IF_ERROR(reader.Done());
    if (attribute == nullptr || !attribute->is_string()) {
      return Unimplemented("map without attribute= is not supported");
    }
    for (const JinjaValue& item : items) kept.push_back(attribute_of(item, attribute->string()));
    return JinjaValue::List(std::move(kept));
  }
  const bool by_attribute = absl::EndsWith(name, "attr");
  std::string attribute;
  if (by_attribute) {
    ASSIGN_OR_RETURN(attribute, reader.TakeString(0, "attr"));
  }
  const size_t first = by_attribute ? 1 : 0;
  std::string test;
  if (arguments.size() > first) {
    ASSIGN_OR_RETURN(test, reader.TakeString(first, "test"));
    RETURN_IF_ERROR(CheckJinjaTest(test, 0));
  }
  const JinjaArguments rest(
      arguments.begin() + static_cast<std::ptrdiff_t>(std::min(arguments.size(), first + 1)),
      arguments.end());
  const bool wanted = absl::StartsWith(name, "select");
  for (const JinjaValue& item : items) {
    const JinjaValue tested = by_attribute ? attribute_of(item, attribute) : item;
    bool holds = tested.Truthy();
    if (!test.empty()) {
      ASSIGN_OR_RETURN(holds, ApplyJinjaTest(test, tested, rest));
    }
    if (holds == wanted) kept.push_back(item);
  }
  return JinjaValue::List(std::move(kept));
}

Result ToInt(const JinjaValue& value) {
  if (value.is_float()) return JinjaValue::Int(static_cast<int64_t>(value.float_value()));
  if (value.is_number()) return JinjaValue::Int(value.int_value());
  int64_t number = 0;
  if (value.is_string()) (void)absl::SimpleAtoi(value.string(), &number);
  return JinjaValue::Int(number);
}

}  // namespace

absl::Status CheckJinjaFilter(absl::string_view name, int line) {
  if (Has(kFilters, name)) return absl::OkStatus();
  return Unimplemented("line ", line, ": the filter ", Shown(name), " is not supported");
}

absl::Status CheckJinjaTest(absl::string_view name, int line) {
  if (Has(kTests, name) || name == "==" || name == "!=") return absl::OkStatus();
  return Unimplemented("line ", line, ": the test ", Shown(name), " is not supported");
}

absl::Status CheckJinjaCall(const JinjaExpr& callee) {
  if (callee.kind == JinjaExpr::Kind::kName) return absl::OkStatus();
  if (callee.kind == JinjaExpr::Kind::kAttribute && Has(kMethods, callee.name)) {
    return absl::OkStatus();
  }
  return Unimplemented("line ", callee.line, ": calling ",
                       callee.name.empty() ? "an expression" : Shown(callee.name),
                       " is not supported");
}

Result ApplyJinjaFilter(absl::string_view name, const JinjaValue& value,
                        const JinjaArguments& arguments) {
  if (name == "default" || name == "d") {
    ArgumentReader reader(name, arguments);
    const JinjaValue* otherwise = reader.Take(0, "default_value");
    const JinjaValue* boolean = reader.Take(1, "boolean");
    RETURN_IF_ERROR(reader.Done());
    const bool replaced =
        value.is_undefined() || (boolean != nullptr && boolean->Truthy() && !value.Truthy());
    if (!replaced) return value;
    return otherwise == nullptr ? JinjaValue::String("") : *otherwise;
  }
  if (name == "map" || name == "select" || name == "reject" || name == "selectattr" ||
      name == "rejectattr") {
    return FilterItems(name, value, arguments);
  }
  if (name == "tojson") {
    ArgumentReader reader(name, arguments);
    const JinjaValue* indent = reader.Take(0, "indent");
    RETURN_IF_ERROR(reader.Done());
    const bool lines = indent != nullptr && indent->is_int();
    if (lines && (indent->int_value() < 0 || indent->int_value() > 16)) {
      return Unimplemented("tojson(indent=", indent->int_value(), ") is not supported");
    }
    ASSIGN_OR_RETURN(std::string json, ToJson(value, lines ? indent->int_value() : -1));
    return JinjaValue::String(std::move(json));
  }
  if (name == "trim" || name == "upper" || name == "lower" || name == "capitalize" ||
      name == "title" || name == "replace") {
    if (!value.is_string() && !value.is_number() && !value.is_undefined()) {
      return WrongKind(name, value);
    }
    ASSIGN_OR_RETURN(const std::string text, value.Print());
    return StringMethod(text, name == "trim" ? "strip" : name, arguments);
  }
  if (name == "join") {
    ArgumentReader reader(name, arguments);
    const JinjaValue* separator = reader.Take(0, "d");
    RETURN_IF_ERROR(reader.Done());
    if (separator != nullptr && !separator->is_string()) return WrongKind("join by", *separator);
    return Join(value, separator == nullptr ? "" : separator->string());
  }
  RETURN_IF_ERROR(ArgumentReader(name, arguments).Done());
  if (name == "length" || name == "count") return Length(value);
  if (name == "safe") return value;
  if (name == "int") return ToInt(value);
  if (name == "string") {
    ASSIGN_OR_RETURN(std::string text, value.Print());
    return JinjaValue::String(std::move(text));
  }
  if (name == "items") {
    if (value.is_undefined()) return JinjaValue::List({});
    if (!value.is_map()) return WrongKind("items", value);
    return PairsOf(value);
  }
  ASSIGN_OR_RETURN(JinjaList items, JinjaItems(value));
  if (name == "list") return JinjaValue::List(std::move(items));
  if (items.empty()) return JinjaValue::MakeUndefined(name);
  return name == "first" ? items.front() : items.back();
}

absl::StatusOr<bool> ApplyJinjaTest(absl::string_view name, const JinjaValue& value,
                                    const JinjaArguments& arguments) {
  ArgumentReader reader(name, arguments);
  if (name == "equalto" || name == "eq" || name == "==" || name == "ne" || name == "!=" ||
      name == "in") {
    const JinjaValue* other = reader.Take(0, "other");
    RETURN_IF_ERROR(reader.Done());
    if (other == nullptr) return InvalidArgument("the test ", Shown(name), " needs a value");
    if (name == "in") return JinjaContains(*other, value);
    return value.Equals(*other) == (name != "ne" && name != "!=");
  }
  RETURN_IF_ERROR(reader.Done());
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.is_string();
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is_int();
  if (name == "float") return value.is_float();
  if (name == "boolean") return value.is_bool();
  if (name == "true" || name == "false") {
    return value.is_bool() && value.bool_value() == (name == "true");
  }
  if (name == "mapping") return value.is_map();
  if (name == "iterable") {
    return value.is_list() || value.is_map() || value.is_string() || value.is_undefined();
  }
  if (name == "sequence") return value.is_list() || value.is_map() || value.is_string();
  if (value.is_float() || !value.is_number()) return WrongKind(absl::StrCat("is ", name), value);
  return (value.int_value() % 2 != 0) == (name == "odd");
}

Result CallJinjaMethod(const JinjaValue& value, absl::string_view name,
                       const JinjaArguments& arguments) {
  if (value.is_string()) return StringMethod(value.string(), name, arguments);
  if (value.is_map()) return MapMethod(value, name, arguments);
  return WrongKind(absl::StrCat("method ", Shown(name)), value);
}

absl::StatusOr<bool> JinjaContains(const JinjaValue& container, const JinjaValue& item) {
  if (container.is_string()) {
    if (!item.is_string()) return WrongKind("\"in\" of a string", item);
    return absl::StrContains(container.string(), item.string());
  }
  if (container.is_map()) return item.is_string() && container.Find(item.string()) != nullptr;
  ASSIGN_OR_RETURN(const JinjaList items, JinjaItems(container));
  return std::any_of(items.begin(), items.end(),
                     [&item](const JinjaValue& one) { return one.Equals(item); });
}

absl::StatusOr<JinjaList> JinjaItems(const JinjaValue& value) {
  if (value.is_list()) return value.list();
  JinjaList items;
  if (value.is_undefined()) return items;
  if (value.is_map()) {
    for (const auto& [key, unused] : value.map()) items.push_back(JinjaValue::String(key));
    return items;
  }
  if (!value.is_string()) return WrongKind("the items", value);
  const absl::string_view text = value.string();
  for (size_t at = 0; at < text.size();) {
    const size_t size = CharacterAt(text, at).size;
    items.push_back(JinjaValue::String(std::string(text.substr(at, size))));
    at += size;
  }
  return items;
}

}  // namespace featurescope
