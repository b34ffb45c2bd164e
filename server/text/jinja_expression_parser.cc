#include "server/text/jinja_expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/formats/utf8.h"
#include "server/text/jinja_builtins.h"

namespace featurescope {
namespace {

using Kind = JinjaExpr::Kind;
using Type = JinjaToken::Type;
using Result = absl::StatusOr<JinjaExprPtr>;

constexpr int kMaxDepth = 60;
constexpr int kMaxHeight = 100;

}  // namespace

bool JinjaExpressionParser::IsOperator(absl::string_view text) const {
  return Peek().type == Type::kOperator && Peek().text == text;
}
bool JinjaExpressionParser::IsKeyword(absl::string_view text) const {
  return Peek().type == Type::kName && Peek().text == text;
}
bool JinjaExpressionParser::TakeOperator(absl::string_view text) {
  if (!IsOperator(text)) return false;
  Next();
  return true;
}
bool JinjaExpressionParser::TakeKeyword(absl::string_view text) {
  if (!IsKeyword(text)) return false;
  Next();
  return true;
}
absl::Status JinjaExpressionParser::Expect(absl::string_view op) {
  if (TakeOperator(op)) return absl::OkStatus();
  return Error("expected \"", op, "\", found ", Shown());
}
absl::StatusOr<std::string> JinjaExpressionParser::Name() {
  if (Peek().type != Type::kName) return Error("expected a name, found ", Shown());
  std::string name = Peek().text;
  Next();
  return name;
}

std::string JinjaExpressionParser::Shown() const {
  switch (Peek().type) {
    case Type::kName:
    case Type::kInt:
    case Type::kFloat:
    case Type::kOperator:
    case Type::kString:
      return absl::StrCat("\"", PrintableUtf8(Peek().text, 40), "\"");
    default:
      return "the end of the tag";
  }
}

std::unique_ptr<JinjaExpr> JinjaExpressionParser::New(Kind kind) const {
  auto expr = std::make_unique<JinjaExpr>();
  expr->kind = kind;
  expr->line = Peek().line;
  return expr;
}

Result JinjaExpressionParser::Done(std::unique_ptr<JinjaExpr> expr) const {
  for (const JinjaExprPtr& item : expr->items) {
    if (item != nullptr) expr->height = std::max(expr->height, item->height + 1);
  }
  for (const JinjaArgument& argument : expr->arguments) {
    expr->height = std::max(expr->height, argument.value->height + 1);
  }
  if (expr->height > kMaxHeight) {
    return Error("an expression of more than ", kMaxHeight, " operators within one another");
  }
  return JinjaExprPtr(std::move(expr));
}

Result JinjaExpressionParser::Tuple() {
  ASSIGN_OR_RETURN(JinjaExprPtr first, Expression());
  if (!IsOperator(",")) return first;
  auto list = New(Kind::kList);
  list->items.push_back(std::move(first));
  while (TakeOperator(",")) {
    if (Peek().type == Type::kClose || Peek().type == Type::kBlockClose || IsOperator(")")) break;
    ASSIGN_OR_RETURN(JinjaExprPtr item, Expression());
    list->items.push_back(std::move(item));
  }
  return Done(std::move(list));
}

Result JinjaExpressionParser::Expression(bool with_condition) {
  if (++depth_ > kMaxDepth) return Error("nested deeper than ", kMaxDepth);
  const absl::Cleanup leave = [this] { --depth_; };
  ASSIGN_OR_RETURN(JinjaExprPtr expr, Or());
  while (with_condition && TakeKeyword("if")) {
    auto conditional = New(Kind::kConditional);
    conditional->items.push_back(std::move(expr));
    ASSIGN_OR_RETURN(JinjaExprPtr condition, Or());
    conditional->items.push_back(std::move(condition));
    JinjaExprPtr otherwise;
    if (TakeKeyword("else")) {
      ASSIGN_OR_RETURN(otherwise, Expression());
    }
    conditional->items.push_back(std::move(otherwise));
    ASSIGN_OR_RETURN(expr, Done(std::move(conditional)));
  }
  return expr;
}

Result JinjaExpressionParser::Binary(Level operand, std::initializer_list<const char*> operators) {
  ASSIGN_OR_RETURN(JinjaExprPtr left, (this->*operand)());
  while (true) {
    const char* found = nullptr;
    for (const char* op : operators) {
      if (IsOperator(op) || IsKeyword(op)) found = op;
    }
    if (found == nullptr) return left;
    auto binary = New(Kind::kBinary);
    Next();
    binary->name = found;
    binary->items.push_back(std::move(left));
    ASSIGN_OR_RETURN(JinjaExprPtr right, (this->*operand)());
    binary->items.push_back(std::move(right));
    ASSIGN_OR_RETURN(left, Done(std::move(binary)));
  }
}

Result JinjaExpressionParser::Or() { return Binary(&JinjaExpressionParser::And, {"or"}); }
Result JinjaExpressionParser::And() { return Binary(&JinjaExpressionParser::Not, {"and"}); }

Result JinjaExpressionParser::Not() {
  if (!IsKeyword("not")) return Comparison();
  if (++depth_ > kMaxDepth) return Error("nested deeper than ", kMaxDepth);
  const absl::Cleanup leave = [this] { --depth_; };
  auto unary = New(Kind::kUnary);
  Next();
  unary->name = "not";
  ASSIGN_OR_RETURN(JinjaExprPtr operand, Not());
  unary->items.push_back(std::move(operand));
  return Done(std::move(unary));
}

Result JinjaExpressionParser::Comparison() {
  ASSIGN_OR_RETURN(JinjaExprPtr left, Sum());
  bool compared = false;
  while (true) {
    auto binary = New(Kind::kBinary);
    if (Peek().type == Type::kOperator) {
      for (const char* op : {"==", "!=", "<", "<=", ">", ">="}) {
        if (IsOperator(op)) binary->name = op;
      }
    } else if (IsKeyword("in")) {
      binary->name = "in";
    } else if (IsKeyword("not") && at_ + 1 < tokens_.size() && tokens_[at_ + 1].text == "in") {
      Next();
      binary->name = "not in";
    }
    if (binary->name.empty()) return left;
    if (compared)
      return Unimplemented("line ", Peek().line, ": chained comparisons are not supported");
    compared = true;
    Next();
    binary->items.push_back(std::move(left));
    ASSIGN_OR_RETURN(JinjaExprPtr right, Sum());
    binary->items.push_back(std::move(right));
    ASSIGN_OR_RETURN(left, Done(std::move(binary)));
  }
}

Result JinjaExpressionParser::Sum() {
  return Binary(&JinjaExpressionParser::Concatenation, {"+", "-"});
}
Result JinjaExpressionParser::Concatenation() {
  return Binary(&JinjaExpressionParser::Product, {"~"});
}
Result JinjaExpressionParser::Product() {
  return Binary(&JinjaExpressionParser::Power, {"*", "/", "//", "%"});
}
Result JinjaExpressionParser::Power() {
  ASSIGN_OR_RETURN(JinjaExprPtr expr, Unary());
  if (IsOperator("**")) return Unimplemented("line ", Peek().line, ": ** is not supported");
  return expr;
}

Result JinjaExpressionParser::Unary() {
  ASSIGN_OR_RETURN(JinjaExprPtr expr, UnaryWithoutFilters());
  return Filters(std::move(expr));
}

Result JinjaExpressionParser::UnaryWithoutFilters() {
  if (IsOperator("-") || IsOperator("+")) {
    if (++depth_ > kMaxDepth) return Error("nested deeper than ", kMaxDepth);
    const absl::Cleanup leave = [this] { --depth_; };
    auto unary = New(Kind::kUnary);
    unary->name = Peek().text;
    Next();
    ASSIGN_OR_RETURN(JinjaExprPtr operand, UnaryWithoutFilters());
    unary->items.push_back(std::move(operand));
    return Done(std::move(unary));
  }
  ASSIGN_OR_RETURN(JinjaExprPtr expr, Primary());
  return Postfix(std::move(expr));
}

Result JinjaExpressionParser::Primary() {
  const JinjaToken& token = Peek();
  auto literal = New(Kind::kLiteral);
  switch (token.type) {
    case Type::kString: {
      std::string text;
      for (; Peek().type == Type::kString; Next()) text += Peek().text;  // "a" "b" is "ab"
      literal->literal = JinjaValue::String(std::move(text));
      return Done(std::move(literal));
    }
    case Type::kInt: {
      int64_t value = 0;
      if (!absl::SimpleAtoi(token.text, &value)) return Error("a number is too large");
      literal->literal = JinjaValue::Int(value);
      break;
    }
    case Type::kFloat: {
      double value = 0;
      if (!absl::SimpleAtod(token.text, &value)) return Error("a bad number");
      literal->literal = JinjaValue::Float(value);
      break;
    }
    case Type::kName:
      if (token.text == "true" || token.text == "True" || token.text == "false" ||
          token.text == "False") {
        literal->literal = JinjaValue::Bool(token.text[0] == 't' || token.text[0] == 'T');
      } else if (token.text == "none" || token.text == "None") {
        literal->literal = JinjaValue::None();
      } else {
        literal->kind = Kind::kName;
        literal->name = token.text;
      }
      break;
    default:
      if (TakeOperator("[")) return ListLiteral();
      if (TakeOperator("{")) return MapLiteral();
      if (TakeOperator("(")) {
        if (TakeOperator(")")) return Done(New(Kind::kList));
        ASSIGN_OR_RETURN(JinjaExprPtr inner, Tuple());
        RETURN_IF_ERROR(Expect(")"));
        return inner;
      }
      return Error("expected an expression, found ", Shown());
  }
  Next();
  return Done(std::move(literal));
}

Result JinjaExpressionParser::ListLiteral() {
  auto list = New(Kind::kList);
  while (!TakeOperator("]")) {
    if (!list->items.empty()) {
      RETURN_IF_ERROR(Expect(","));
      if (TakeOperator("]")) break;
    }
    ASSIGN_OR_RETURN(JinjaExprPtr item, Expression());
    list->items.push_back(std::move(item));
  }
  return Done(std::move(list));
}

Result JinjaExpressionParser::MapLiteral() {
  auto map = New(Kind::kMap);
  while (!TakeOperator("}")) {
    if (!map->items.empty()) {
      RETURN_IF_ERROR(Expect(","));
      if (TakeOperator("}")) break;
    }
    ASSIGN_OR_RETURN(JinjaExprPtr key, Expression());
    RETURN_IF_ERROR(Expect(":"));
    ASSIGN_OR_RETURN(JinjaExprPtr value, Expression());
    map->items.push_back(std::move(key));
    map->items.push_back(std::move(value));
  }
  return Done(std::move(map));
}

Result JinjaExpressionParser::Postfix(JinjaExprPtr expr) {
  while (true) {
    if (TakeOperator(".")) {
      auto attribute = New(Kind::kAttribute);
      ASSIGN_OR_RETURN(attribute->name, Name());
      attribute->items.push_back(std::move(expr));
      ASSIGN_OR_RETURN(expr, Done(std::move(attribute)));
    } else if (TakeOperator("[")) {
      ASSIGN_OR_RETURN(expr, Subscript(std::move(expr)));
    } else if (IsOperator("(")) {
      auto call = New(Kind::kCall);
      RETURN_IF_ERROR(CheckJinjaCall(*expr));
      RETURN_IF_ERROR(Arguments(&call->arguments));
      call->items.push_back(std::move(expr));
      ASSIGN_OR_RETURN(expr, Done(std::move(call)));
    } else {
      return expr;
    }
  }
}

Result JinjaExpressionParser::Subscript(JinjaExprPtr expr) {
  auto slice = New(Kind::kSlice);
  slice->items.push_back(std::move(expr));
  bool sliced = false;
  for (int part = 0; part < 3; ++part) {
    JinjaExprPtr bound;
    if (!IsOperator(":") && !IsOperator("]")) {
      ASSIGN_OR_RETURN(bound, Expression());
    }
    slice->items.push_back(std::move(bound));
    if (!TakeOperator(":")) break;
    sliced = true;
  }
  RETURN_IF_ERROR(Expect("]"));
  if (!sliced) {
    slice->kind = Kind::kSubscript;
    if (slice->items[1] == nullptr) return Error("empty []");
  }
  slice->items.resize(sliced ? 4 : 2);
  return Done(std::move(slice));
}

absl::Status JinjaExpressionParser::Arguments(std::vector<JinjaArgument>* arguments) {
  RETURN_IF_ERROR(Expect("("));
  while (!TakeOperator(")")) {
    if (!arguments->empty()) {
      RETURN_IF_ERROR(Expect(","));
      if (TakeOperator(")")) break;
    }
    JinjaArgument argument;
    const bool named = Peek().type == Type::kName && at_ + 1 < tokens_.size() &&
                       tokens_[at_ + 1].type == Type::kOperator && tokens_[at_ + 1].text == "=";
    if (named) {
      argument.name = Peek().text;
      Next();
      Next();
    } else if (!arguments->empty() && !arguments->back().name.empty()) {
      return Error("an argument without a name behind one with a name");
    }
    ASSIGN_OR_RETURN(argument.value, Expression());
    arguments->push_back(std::move(argument));
  }
  return absl::OkStatus();
}

Result JinjaExpressionParser::Filters(JinjaExprPtr expr) {
  while (true) {
    if (TakeOperator("|")) {
      auto filter = New(Kind::kFilter);
      ASSIGN_OR_RETURN(filter->name, Name());
      RETURN_IF_ERROR(CheckJinjaFilter(filter->name, filter->line));
      if (IsOperator("(")) RETURN_IF_ERROR(Arguments(&filter->arguments));
      filter->items.push_back(std::move(expr));
      ASSIGN_OR_RETURN(expr, Done(std::move(filter)));
    } else if (TakeKeyword("is")) {
      ASSIGN_OR_RETURN(expr, Test(std::move(expr)));
    } else if (IsOperator("(")) {
      return Error("a call behind a filter or test");
    } else {
      return expr;
    }
  }
}

Result JinjaExpressionParser::Test(JinjaExprPtr expr) {
  const bool negated = TakeKeyword("not");
  auto test = New(Kind::kTest);
  ASSIGN_OR_RETURN(test->name, Name());
  RETURN_IF_ERROR(CheckJinjaTest(test->name, test->line));
  test->items.push_back(std::move(expr));
  const bool bare_argument =
      Peek().type == Type::kString || Peek().type == Type::kInt || Peek().type == Type::kFloat ||
      IsOperator("[") || IsOperator("{") ||
      (Peek().type == Type::kName && !IsKeyword("else") && !IsKeyword("or") && !IsKeyword("and") &&
       !IsKeyword("is") && !IsKeyword("if") && !IsKeyword("not") && !IsKeyword("in"));
  if (IsOperator("(")) {
    RETURN_IF_ERROR(Arguments(&test->arguments));
  } else if (bare_argument) {
    ASSIGN_OR_RETURN(JinjaExprPtr primary, Primary());
    ASSIGN_OR_RETURN(JinjaExprPtr argument, Postfix(std::move(primary)));
    test->arguments.push_back({"", std::move(argument)});
  }
  ASSIGN_OR_RETURN(JinjaExprPtr tested, Done(std::move(test)));
  if (!negated) return tested;
  auto unary = New(Kind::kUnary);
  unary->name = "not";
  unary->items.push_back(std::move(tested));
  return Done(std::move(unary));
}

}  // namespace featurescope
