// Expressions of chat templates, by descent through the levels of precedence.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/status.h"
#include "server/text/jinja_ast.h"
#include "server/text/jinja_lexer.h"

namespace featurescope {

// Reads expressions off a list of tokens, which it borrows. Errors as ParseJinja.
class JinjaExpressionParser {
 public:
  explicit JinjaExpressionParser(const std::vector<JinjaToken>& tokens) : tokens_(tokens) {}

  // A conditional expression; in tuples, "a, b" is a list.
  absl::StatusOr<JinjaExprPtr> Expression(bool with_condition = true);
  absl::StatusOr<JinjaExprPtr> Tuple();

  const JinjaToken& Peek() const { return tokens_[at_]; }
  void Next() { at_ += at_ + 1 < tokens_.size() ? 1 : 0; }
  bool IsOperator(absl::string_view text) const;
  bool IsKeyword(absl::string_view text) const;
  // Takes the token when it is that.
  bool TakeOperator(absl::string_view text);
  bool TakeKeyword(absl::string_view text);
  absl::Status Expect(absl::string_view op);
  absl::StatusOr<std::string> Name();

  template <typename... Args>
  absl::Status Error(const Args&... args) const {
    return InvalidArgument("line ", Peek().line, ": ", args...);
  }
  // The next token, for messages.
  std::string Shown() const;

 private:
  using Level = absl::StatusOr<JinjaExprPtr> (JinjaExpressionParser::*)();
  absl::StatusOr<JinjaExprPtr> Binary(Level operand, std::initializer_list<const char*> operators);
  absl::StatusOr<JinjaExprPtr> Or();
  absl::StatusOr<JinjaExprPtr> And();
  absl::StatusOr<JinjaExprPtr> Not();
  absl::StatusOr<JinjaExprPtr> Comparison();
  absl::StatusOr<JinjaExprPtr> Sum();
  absl::StatusOr<JinjaExprPtr> Concatenation();
  absl::StatusOr<JinjaExprPtr> Product();
  absl::StatusOr<JinjaExprPtr> Power();
  absl::StatusOr<JinjaExprPtr> Unary();
  absl::StatusOr<JinjaExprPtr> UnaryWithoutFilters();
  absl::StatusOr<JinjaExprPtr> Primary();
  absl::StatusOr<JinjaExprPtr> Postfix(JinjaExprPtr expr);
  absl::StatusOr<JinjaExprPtr> Filters(JinjaExprPtr expr);
  absl::StatusOr<JinjaExprPtr> Test(JinjaExprPtr expr);
  absl::StatusOr<JinjaExprPtr> Subscript(JinjaExprPtr expr);
  absl::StatusOr<JinjaExprPtr> ListLiteral();
  absl::StatusOr<JinjaExprPtr> MapLiteral();
  absl::Status Arguments(std::vector<JinjaArgument>* arguments);
  std::unique_ptr<JinjaExpr> New(JinjaExpr::Kind kind) const;
  // The expression with its height; an error where that is too much to evaluate by recursion.
  absl::StatusOr<JinjaExprPtr> Done(std::unique_ptr<JinjaExpr> expr) const;

  const std::vector<JinjaToken>& tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace featurescope
