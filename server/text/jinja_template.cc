#include "server/text/jinja_template.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"
#include "server/text/jinja_builtins.h"
#include "server/text/jinja_operators.h"
#include "server/text/jinja_parser.h"

namespace featurescope {
namespace {

using Result = absl::StatusOr<JinjaValue>;

constexpr int kMaxSteps = 3'000'000;
constexpr int kMaxCalls = 10;  // within one another
constexpr int64_t kMaxRange = 100'000;

// Functions are values like macros, told apart by these.
const JinjaMacro* FunctionNamed(absl::string_view name) {
  static const auto* functions = [] {
    auto* list = new std::vector<JinjaMacro>(4);
    const char* names[] = {"namespace", "range", "raise_exception", "strftime_now"};
    for (size_t i = 0; i < list->size(); ++i) (*list)[i].name = names[i];
    return list;
  }();
  for (const JinjaMacro& function : *functions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

enum class Flow { kOn, kBreak, kContinue };

class Interpreter {
 public:
  Interpreter(const JinjaMap& variables, absl::Time now) : now_(now), frames_(1, variables) {}

  absl::StatusOr<Flow> Run(const JinjaBlock& block, std::string* out) {
    for (const auto& node : block) {
      absl::StatusOr<Flow> flow = Run(*node, out);
      if (!flow.ok()) return AtLine(flow.status(), node->line);
      if (*flow != Flow::kOn) return flow;
    }
    return Flow::kOn;
  }

 private:
  using Kind = JinjaExpr::Kind;

  // The innermost line is the one that counts.
  absl::Status AtLine(const absl::Status& status, int line) {
    if (std::exchange(has_line_, true)) return status;
    return Annotate(status, absl::StrCat("line ", line));
  }
  absl::Status Step() {
    if (++steps_ > kMaxSteps) return ResourceExhausted("takes more than ", kMaxSteps, " steps");
    return absl::OkStatus();
  }
  void SetVariable(const std::string& name, JinjaValue value) {
    for (auto& [known, held] : frames_.back()) {
      if (known == name) {
        held = std::move(value);
        return;
      }
    }
    frames_.back().emplace_back(name, std::move(value));
  }
  JinjaValue Variable(const std::string& name) const {
    for (auto frame = frames_.rbegin(); frame != frames_.rend(); ++frame) {
      for (const auto& [known, value] : *frame) {
        if (known == name) return value;
      }
    }
    const JinjaMacro* function = FunctionNamed(name);
    return function == nullptr ? JinjaValue::MakeUndefined(name) : JinjaValue::Macro(function);
  }

  absl::StatusOr<Flow> Run(const JinjaNode& node, std::string* out);
  absl::StatusOr<Flow> RunIf(const JinjaNode& node, std::string* out);
  absl::StatusOr<Flow> RunFor(const JinjaNode& node, std::string* out);
  absl::Status RunSet(const JinjaNode& node);
  absl::Status Unpack(const JinjaNode& node, const JinjaValue& value);
  absl::Status Print(absl::string_view text, std::string* out) {
    if (out->size() + text.size() > kMaxJinjaTextBytes) {
      return ResourceExhausted("prints more than ", kMaxJinjaTextBytes, " bytes");
    }
    out->append(text.data(), text.size());
    return absl::OkStatus();
  }

  Result Evaluate(const JinjaExpr& expr);
  Result EvaluateBinary(const JinjaExpr& expr);
  Result EvaluateCall(const JinjaExpr& expr);
  // Undefined for nullptr.
  Result EvaluateOptional(const JinjaExprPtr& expr) {
    if (expr == nullptr) return JinjaValue();
    return Evaluate(*expr);
  }
  absl::StatusOr<JinjaArguments> EvaluateArguments(const JinjaExpr& expr);
  Result CallFunction(const std::string& name, const JinjaArguments& arguments);
  Result CallMacro(const JinjaMacro& macro, const JinjaArguments& arguments);

  const absl::Time now_;
  std::vector<JinjaMap> frames_;  // variables, the innermost last
  int steps_ = 0;
  int calls_ = 0;
  bool has_line_ = false;
};

absl::StatusOr<Flow> Interpreter::Run(const JinjaNode& node, std::string* out) {
  RETURN_IF_ERROR(Step());
  switch (node.kind) {
    case JinjaNode::Kind::kText:
      RETURN_IF_ERROR(Print(node.text, out));
      return Flow::kOn;
    case JinjaNode::Kind::kPrint: {
      ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*node.expr));
      ASSIGN_OR_RETURN(const std::string text, value.Print());
      RETURN_IF_ERROR(Print(text, out));
      return Flow::kOn;
    }
    case JinjaNode::Kind::kIf:
      return RunIf(node, out);
    case JinjaNode::Kind::kFor:
      return RunFor(node, out);
    case JinjaNode::Kind::kSet:
      RETURN_IF_ERROR(RunSet(node));
      return Flow::kOn;
    case JinjaNode::Kind::kMacro:
      SetVariable(node.macro->name, JinjaValue::Macro(node.macro.get()));
      return Flow::kOn;
    case JinjaNode::Kind::kBlock:
      return Run(node.body, out);
    case JinjaNode::Kind::kBreak:
      return Flow::kBreak;
    case JinjaNode::Kind::kContinue:
      return Flow::kContinue;
  }
  return Internal("unknown node");
}

absl::StatusOr<Flow> Interpreter::RunIf(const JinjaNode& node, std::string* out) {
  for (const auto& [condition, body] : node.branches) {
    ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*condition));
    if (value.Truthy()) return Run(body, out);
  }
  return Run(node.otherwise, out);
}

absl::StatusOr<Flow> Interpreter::RunFor(const JinjaNode& node, std::string* out) {
  ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*node.expr));
  ASSIGN_OR_RETURN(JinjaList items, JinjaItems(value));
  if (node.condition != nullptr) {
    JinjaList kept;
    for (JinjaValue& item : items) {
      frames_.emplace_back();
      const absl::Status unpacked = Unpack(node, item);
      Result condition = unpacked.ok() ? Evaluate(*node.condition) : Result(unpacked);
      frames_.pop_back();
      RETURN_IF_ERROR(condition.status());
      if (condition->Truthy()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) return Run(node.otherwise, out);
  const int64_t n = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < n; ++i) {
    const size_t at = static_cast<size_t>(i);
    const bool first = i == 0;
    const bool last = i + 1 == n;
    frames_.push_back(
        {{"loop", JinjaValue::Map({{"index", JinjaValue::Int(i + 1)},
                                   {"index0", JinjaValue::Int(i)},
                                   {"revindex", JinjaValue::Int(n - i)},
                                   {"revindex0", JinjaValue::Int(n - i - 1)},
                                   {"first", JinjaValue::Bool(first)},
                                   {"last", JinjaValue::Bool(last)},
                                   {"length", JinjaValue::Int(n)},
                                   {"previtem", first ? JinjaValue() : items[at - 1]},
                                   {"nextitem", last ? JinjaValue() : items[at + 1]}})}});
    const absl::Status unpacked = Unpack(node, items[at]);
    const absl::StatusOr<Flow> flow = unpacked.ok() ? Run(node.body, out) : unpacked;
    frames_.pop_back();
    RETURN_IF_ERROR(flow.status());
    if (*flow == Flow::kBreak) break;
  }
  return Flow::kOn;
}

// Sets a node's names to a value, or to the items of a list of as many.
absl::Status Interpreter::Unpack(const JinjaNode& node, const JinjaValue& value) {
  if (node.names.size() == 1) {
    SetVariable(node.names[0], value);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const JinjaList items, JinjaItems(value));
  if (items.size() != node.names.size()) {
    return InvalidArgument(items.size(), " values for ", node.names.size(), " names");
  }
  for (size_t i = 0; i < items.size(); ++i) SetVariable(node.names[i], items[i]);
  return absl::OkStatus();
}

absl::Status Interpreter::RunSet(const JinjaNode& node) {
  JinjaValue value;
  if (node.expr != nullptr) {
    ASSIGN_OR_RETURN(value, Evaluate(*node.expr));
  } else {
    std::string text;
    frames_.emplace_back();
    const absl::Status status = Run(node.body, &text).status();
    frames_.pop_back();
    RETURN_IF_ERROR(status);
    value = JinjaValue::String(std::move(text));
  }
  if (node.attribute.empty()) return Unpack(node, value);
  const JinjaValue target = Variable(node.names[0]);
  if (!target.is_namespace()) {
    return InvalidArgument("setting an attribute of ", target.KindName());
  }
  JinjaMap& attributes = target.name_space().attributes;
  for (auto& [name, held] : attributes) {
    if (name == node.attribute) {
      held = std::move(value);
      return absl::OkStatus();
    }
  }
  attributes.emplace_back(node.attribute, std::move(value));
  return absl::OkStatus();
}

Result Interpreter::Evaluate(const JinjaExpr& expr) {
  RETURN_IF_ERROR(Step());
  switch (expr.kind) {
    case Kind::kLiteral:
      return expr.literal;
    case Kind::kName:
      return Variable(expr.name);
    case Kind::kList: {
      JinjaList list;
      for (const JinjaExprPtr& item : expr.items) {
        ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*item));
        list.push_back(std::move(value));
      }
      return JinjaValue::List(std::move(list));
    }
    case Kind::kMap: {
      JinjaMap map;
      for (size_t i = 0; i + 1 < expr.items.size(); i += 2) {
        ASSIGN_OR_RETURN(const JinjaValue key, Evaluate(*expr.items[i]));
        ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*expr.items[i + 1]));
        if (!key.is_string()) return Unimplemented("a key that is ", key.KindName());
        map.emplace_back(key.string(), std::move(value));
      }
      return JinjaValue::Map(std::move(map));
    }
    case Kind::kAttribute: {
      ASSIGN_OR_RETURN(const JinjaValue container, Evaluate(*expr.items[0]));
      return JinjaAttribute(container, expr.name);
    }
    case Kind::kSubscript: {
      ASSIGN_OR_RETURN(const JinjaValue container, Evaluate(*expr.items[0]));
      ASSIGN_OR_RETURN(const JinjaValue key, Evaluate(*expr.items[1]));
      return JinjaSubscript(container, key);
    }
    case Kind::kSlice: {
      ASSIGN_OR_RETURN(const JinjaValue container, Evaluate(*expr.items[0]));
      ASSIGN_OR_RETURN(const JinjaValue start, EvaluateOptional(expr.items[1]));
      ASSIGN_OR_RETURN(const JinjaValue stop, EvaluateOptional(expr.items[2]));
      ASSIGN_OR_RETURN(const JinjaValue step, EvaluateOptional(expr.items[3]));
      return JinjaSlice(container, start, stop, step);
    }
    case Kind::kCall:
      return EvaluateCall(expr);
    case Kind::kFilter:
    case Kind::kTest: {
      ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*expr.items[0]));
      ASSIGN_OR_RETURN(const JinjaArguments arguments, EvaluateArguments(expr));
      if (expr.kind == Kind::kFilter) return ApplyJinjaFilter(expr.name, value, arguments);
      ASSIGN_OR_RETURN(const bool holds, ApplyJinjaTest(expr.name, value, arguments));
      return JinjaValue::Bool(holds);
    }
    case Kind::kUnary: {
      ASSIGN_OR_RETURN(const JinjaValue operand, Evaluate(*expr.items[0]));
      return ApplyJinjaUnary(expr.name, operand);
    }
    case Kind::kBinary:
      return EvaluateBinary(expr);
    case Kind::kConditional: {
      ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(*expr.items[1]));
      return condition.Truthy() ? Evaluate(*expr.items[0]) : EvaluateOptional(expr.items[2]);
    }
  }
  return Internal("unknown expression");
}

Result Interpreter::EvaluateBinary(const JinjaExpr& expr) {
  ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*expr.items[0]));
  if (expr.name == "and" || expr.name == "or") {
    return left.Truthy() == (expr.name == "or") ? Result(std::move(left))
                                                : Evaluate(*expr.items[1]);
  }
  ASSIGN_OR_RETURN(const JinjaValue right, Evaluate(*expr.items[1]));
  return ApplyJinjaOperator(expr.name, left, right);
}

absl::StatusOr<JinjaArguments> Interpreter::EvaluateArguments(const JinjaExpr& expr) {
  JinjaArguments arguments;
  for (const JinjaArgument& argument : expr.arguments) {
    ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*argument.value));
    arguments.emplace_back(argument.name, std::move(value));
  }
  return arguments;
}

Result Interpreter::EvaluateCall(const JinjaExpr& expr) {
  const JinjaExpr& callee = *expr.items[0];
  if (callee.kind == Kind::kAttribute) {
    ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*callee.items[0]));
    if (value.is_undefined()) {
      return InvalidArgument("\"", value.undefined_name(), "\" is undefined");
    }
    ASSIGN_OR_RETURN(const JinjaArguments arguments, EvaluateArguments(expr));
    return CallJinjaMethod(value, callee.name, arguments);
  }
  const JinjaValue function = Variable(callee.name);
  if (!function.is_macro()) {
    return function.is_undefined()
               ? Unimplemented("the function ", callee.name, " is not supported")
               : InvalidArgument("calling ", function.KindName(), ", ", callee.name);
  }
  ASSIGN_OR_RETURN(const JinjaArguments arguments, EvaluateArguments(expr));
  if (function.macro() == FunctionNamed(function.macro()->name)) {
    return CallFunction(function.macro()->name, arguments);
  }
  return CallMacro(*function.macro(), arguments);
}

Result Interpreter::CallFunction(const std::string& name, const JinjaArguments& arguments) {
  if (name == "namespace") {
    for (const auto& [attribute, value] : arguments) {
      if (attribute.empty()) return Unimplemented("namespace of a mapping is not supported");
    }
    return JinjaValue::NewNamespace(arguments);
  }
  const bool one_string = arguments.size() == 1 && arguments[0].second.is_string();
  if (name == "raise_exception") {
    return InvalidArgument("refuses the conversation: ",
                           one_string ? arguments[0].second.string() : "no reason is given");
  }
  if (name == "strftime_now") {
    if (!one_string) return InvalidArgument("strftime_now needs a format");
    return JinjaValue::String(
        absl::FormatTime(arguments[0].second.string(), now_, absl::LocalTimeZone()));
  }
  int64_t bounds[3] = {0, 0, 1};  // range(stop), range(start, stop[, step])
  if (arguments.empty() || arguments.size() > 3) return InvalidArgument("range of no number");
  for (size_t i = 0; i < arguments.size(); ++i) {
    const JinjaValue& value = arguments[i].second;
    if (!value.is_int()) return InvalidArgument("range of ", value.KindName());
    bounds[arguments.size() == 1 ? 1 : i] =
        std::clamp<int64_t>(value.int_value(), INT32_MIN, INT32_MAX);
  }
  if (bounds[2] == 0) return InvalidArgument("range with step 0");
  JinjaList numbers;
  for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
    if (static_cast<int64_t>(numbers.size()) == kMaxRange) {
      return ResourceExhausted("range of more than ", kMaxRange, " numbers");
    }
    numbers.push_back(JinjaValue::Int(i));
  }
  return JinjaValue::List(std::move(numbers));
}

// A macro sees its arguments and the template's outermost variables.
Result Interpreter::CallMacro(const JinjaMacro& macro, const JinjaArguments& arguments) {
  if (calls_ == kMaxCalls) return ResourceExhausted("macros call one another too deep");
  JinjaMap locals;
  size_t positional = 0;
  for (const auto& [name, value] : arguments) {
    if (name.empty() && positional == macro.parameters.size()) {
      return InvalidArgument("too many arguments for macro ", macro.name);
    }
    const std::string& parameter = name.empty() ? macro.parameters[positional++].first : name;
    const auto known = std::find_if(macro.parameters.begin(), macro.parameters.end(),
                                    [&](const auto& one) { return one.first == parameter; });
    if (known == macro.parameters.end()) {
      return InvalidArgument("macro ", macro.name, " has no parameter ", parameter);
    }
    locals.emplace_back(parameter, value);
  }
  std::vector<JinjaMap> caller = {frames_[0], std::move(locals)};
  std::swap(frames_, caller);
  ++calls_;
  std::string text;
  absl::Status status;
  for (const auto& parameter : macro.parameters) {
    const bool given = std::any_of(frames_[1].begin(), frames_[1].end(), [&](const auto& local) {
      return local.first == parameter.first;
    });
    if (given || !status.ok()) continue;
    Result value = EvaluateOptional(parameter.second);
    status = value.status();
    if (value.ok()) frames_[1].emplace_back(parameter.first, *std::move(value));
  }
  if (status.ok()) status = Run(macro.body, &text).status();
  --calls_;
  std::swap(frames_, caller);
  RETURN_IF_ERROR(status);
  return JinjaValue::String(std::move(text));
}

}  // namespace

absl::StatusOr<JinjaTemplate> JinjaTemplate::Parse(absl::string_view source) {
  JinjaTemplate parsed;
  ASSIGN_OR_RETURN(parsed.block_, ParseJinja(source));
  return parsed;
}

absl::StatusOr<std::string> JinjaTemplate::Render(const JinjaMap& variables, absl::Time now) const {
  std::string text;
  RETURN_IF_ERROR(Interpreter(variables, now).Run(block_, &text).status());
  return text;
}

}  // namespace featurescope
