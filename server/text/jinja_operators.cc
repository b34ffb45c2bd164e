#include "server/text/jinja_operators.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/text/jinja_builtins.h"

namespace featurescope {
namespace {

using Result = absl::StatusOr<JinjaValue>;

constexpr size_t kMaxListItems = 100'000;

absl::Status WrongKinds(absl::string_view op, const JinjaValue& left, const JinjaValue& right) {
  return InvalidArgument("\"", op, "\" of ", left.KindName(), " and ", right.KindName());
}

absl::Status UndefinedUse(const JinjaValue& value) {
  return InvalidArgument("\"", value.undefined_name(), "\" is undefined");
}

Result Joined(std::string left, absl::string_view right) {
  if (left.size() + right.size() > kMaxJinjaTextBytes) {
    return ResourceExhausted("a text grows beyond ", kMaxJinjaTextBytes, " bytes");
  }
  left.append(right.data(), right.size());
  return JinjaValue::String(std::move(left));
}

// Python rounds quotients down.
int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return quotient - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
}

Result Arithmetic(absl::string_view op, const JinjaValue& left, const JinjaValue& right) {
  if (!left.is_number() || !right.is_number()) return WrongKinds(op, left, right);
  const bool divides = op == "/" || op == "//" || op == "%";
  if (divides && right.float_value() == 0) return InvalidArgument("division by zero");
  if (op == "/") return JinjaValue::Float(left.float_value() / right.float_value());
  if (left.is_float() || right.is_float()) {
    const double a = left.float_value();
    const double b = right.float_value();
    if (op == "+") return JinjaValue::Float(a + b);
    if (op == "-") return JinjaValue::Float(a - b);
    if (op == "*") return JinjaValue::Float(a * b);
    const double quotient = std::floor(a / b);
    return JinjaValue::Float(op == "//" ? quotient : a - quotient * b);
  }
  const int64_t a = left.int_value();
  const int64_t b = right.int_value();
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &result);
  if (op == "-") overflow = __builtin_sub_overflow(a, b, &result);
  if (op == "*") overflow = __builtin_mul_overflow(a, b, &result);
  if (op == "//" || op == "%") {
    overflow = b == -1 && a == INT64_MIN;
    if (!overflow) result = op == "//" ? FloorDivide(a, b) : a - FloorDivide(a, b) * b;
  }
  if (overflow) return InvalidArgument("a number is too large");
  return JinjaValue::Int(result);
}

Result Add(const JinjaValue& left, const JinjaValue& right) {
  if (left.is_string() && right.is_string()) return Joined(left.string(), right.string());
  if (left.is_list() && right.is_list()) {
    JinjaList list = left.list();
    if (list.size() + right.list().size() > kMaxListItems) {
      return ResourceExhausted("a list grows beyond ", kMaxListItems, " items");
    }
    list.insert(list.end(), right.list().begin(), right.list().end());
    return JinjaValue::List(std::move(list));
  }
  return Arithmetic("+", left, right);
}

Result Compare(absl::string_view op, const JinjaValue& left, const JinjaValue& right) {
  int order = 0;
  if (left.is_number() && right.is_number()) {
    const double a = left.float_value();
    const double b = right.float_value();
    order = a < b ? -1 : a > b ? 1 : 0;
  } else if (left.is_string() && right.is_string()) {
    order = left.string().compare(right.string());
  } else {
    return WrongKinds(op, left, right);
  }
  return JinjaValue::Bool(op == "<"    ? order < 0
                          : op == "<=" ? order <= 0
                          : op == ">"  ? order > 0
                                       : order >= 0);
}

absl::StatusOr<int64_t> SliceBound(const JinjaValue& value, int64_t otherwise) {
  if (value.is_none() || value.is_undefined()) return otherwise;
  if (!value.is_int()) return InvalidArgument("a slice by ", value.KindName());
  return std::clamp<int64_t>(value.int_value(), INT32_MIN, INT32_MAX);
}

}  // namespace

Result ApplyJinjaOperator(absl::string_view op, const JinjaValue& left, const JinjaValue& right) {
  if (op == "==") return JinjaValue::Bool(left.Equals(right));
  if (op == "!=") return JinjaValue::Bool(!left.Equals(right));
  if (op == "in" || op == "not in") {
    ASSIGN_OR_RETURN(const bool contains, JinjaContains(right, left));
    return JinjaValue::Bool(contains == (op == "in"));
  }
  if (op == "~") {
    ASSIGN_OR_RETURN(std::string text, left.Print());
    ASSIGN_OR_RETURN(const std::string tail, right.Print());
    return Joined(std::move(text), tail);
  }
  if (left.is_undefined()) return UndefinedUse(left);
  if (right.is_undefined()) return UndefinedUse(right);
  if (op == "+") return Add(left, right);
  if (op == "<" || op == "<=" || op == ">" || op == ">=") return Compare(op, left, right);
  if (left.is_string() && (op == "%" || op == "*")) {
    return Unimplemented("\"", op, "\" of a string is not supported");
  }
  return Arithmetic(op, left, right);
}

Result ApplyJinjaUnary(absl::string_view op, const JinjaValue& operand) {
  if (op == "not") return JinjaValue::Bool(!operand.Truthy());
  return Arithmetic(op, JinjaValue::Int(0), operand);
}

Result JinjaSubscript(const JinjaValue& container, const JinjaValue& key) {
  if (container.is_undefined()) return UndefinedUse(container);
  if (key.is_string()) return JinjaAttribute(container, key.string());
  if (!key.is_int() || (!container.is_list() && !container.is_string())) {
    return JinjaValue::MakeUndefined("item");
  }
  JinjaList characters;
  if (container.is_string()) {
    ASSIGN_OR_RETURN(characters, JinjaItems(container));
  }
  const JinjaList& items = container.is_string() ? characters : container.list();
  const int64_t n = static_cast<int64_t>(items.size());
  const int64_t at = key.int_value() < 0 ? key.int_value() + n : key.int_value();
  if (at < 0 || at >= n) return JinjaValue::MakeUndefined("item");
  return items[static_cast<size_t>(at)];
}

Result JinjaAttribute(const JinjaValue& container, absl::string_view name) {
  if (container.is_undefined()) return UndefinedUse(container);
  const JinjaValue* found = container.Find(name);
  return found == nullptr ? JinjaValue::MakeUndefined(name) : *found;
}

Result JinjaSlice(const JinjaValue& container, const JinjaValue& start, const JinjaValue& stop,
                  const JinjaValue& step) {
  if (container.is_undefined()) return UndefinedUse(container);
  if (!container.is_list() && !container.is_string()) {
    return InvalidArgument("a slice of ", container.KindName());
  }
  ASSIGN_OR_RETURN(const JinjaList items, JinjaItems(container));
  const int64_t n = static_cast<int64_t>(items.size());
  ASSIGN_OR_RETURN(const int64_t by, SliceBound(step, 1));
  if (by == 0) return InvalidArgument("a slice with step 0");
  // As Python clips them: to [0, n] forwards, to [-1, n - 1] backwards.
  const int64_t lowest = by > 0 ? 0 : -1;
  const int64_t highest = by > 0 ? n : n - 1;
  const auto clip = [&](int64_t bound) {
    return std::clamp(bound < 0 ? bound + n : bound, lowest, highest);
  };
  ASSIGN_OR_RETURN(const int64_t from, SliceBound(start, INT64_MAX));
  ASSIGN_OR_RETURN(const int64_t to, SliceBound(stop, INT64_MAX));
  const int64_t begin = from == INT64_MAX ? (by > 0 ? lowest : highest) : clip(from);
  const int64_t end = to == INT64_MAX ? (by > 0 ? highest : lowest) : clip(to);
  JinjaList slice;
  for (int64_t at = begin; by > 0 ? at < end : at > end; at += by) {
    slice.push_back(items[static_cast<size_t>(at)]);
  }
  if (container.is_list()) return JinjaValue::List(std::move(slice));
  std::string text;
  for (const JinjaValue& character : slice) text += character.string();
  return JinjaValue::String(std::move(text));
}

}  // namespace featurescope
