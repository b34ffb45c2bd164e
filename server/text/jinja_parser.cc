#include "server/text/jinja_parser.h"

#include <initializer_list>
#include <utility>

#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/jinja_expression_parser.h"
#include "server/text/jinja_lexer.h"

namespace featurescope {
namespace {

using Kind = JinjaNode::Kind;
using Type = JinjaToken::Type;

constexpr int kMaxBlocks = 40;  // within one another
constexpr size_t kMaxTemplateBytes = 1u << 20;

class Parser {
 public:
  explicit Parser(const std::vector<JinjaToken>& tokens) : tokens_(tokens) {}

  absl::StatusOr<JinjaBlock> Run() {
    ASSIGN_OR_RETURN(JinjaBlock block, Block({}));
    return block;
  }

 private:
  std::unique_ptr<JinjaNode> New(Kind kind) const {
    auto node = std::make_unique<JinjaNode>();
    node->kind = kind;
    node->line = tokens_.Peek().line;
    return node;
  }
  absl::Status CloseTag() {
    if (tokens_.Peek().type != Type::kBlockClose) {
      return tokens_.Error("expected the end of the tag, found ", tokens_.Shown());
    }
    tokens_.Next();
    return absl::OkStatus();
  }

  // Nodes up to a tag of one of these names, whose opening and name are taken; with none, up to the
  // end of the template.
  absl::StatusOr<JinjaBlock> Block(std::initializer_list<const char*> ends);
  absl::Status Statement(JinjaBlock* block);
  absl::Status If(JinjaBlock* block);
  absl::Status For(JinjaBlock* block);
  absl::Status Set(JinjaBlock* block);
  absl::Status Macro(JinjaBlock* block);
  absl::Status LoopControl(Kind kind, JinjaBlock* block);
  // The body of a tag that ends with `end`.
  absl::StatusOr<JinjaBlock> Body(const char* end) {
    RETURN_IF_ERROR(CloseTag());
    ASSIGN_OR_RETURN(JinjaBlock body, Block({end}));
    RETURN_IF_ERROR(CloseTag());
    return body;
  }

  JinjaExpressionParser tokens_;
  std::string end_;  // the name of the tag that has ended the latest block
  int depth_ = 0;
  int loops_ = 0;
};

absl::StatusOr<JinjaBlock> Parser::Block(std::initializer_list<const char*> ends) {
  if (++depth_ > kMaxBlocks) return tokens_.Error("nested deeper than ", kMaxBlocks);
  JinjaBlock block;
  while (true) {
    const JinjaToken& token = tokens_.Peek();
    if (token.type == Type::kEnd) {
      if (ends.size() > 0) return tokens_.Error("{% ", *ends.begin(), " %} is missing");
      --depth_;
      return block;
    }
    if (token.type == Type::kText) {
      auto node = New(Kind::kText);
      node->text = token.text;
      block.push_back(std::move(node));
      tokens_.Next();
      continue;
    }
    tokens_.Next();
    if (token.type == Type::kOpen) {
      auto node = New(Kind::kPrint);
      ASSIGN_OR_RETURN(node->expr, tokens_.Tuple());
      if (tokens_.Peek().type != Type::kClose) {
        return tokens_.Error("expected \"}}\", found ", tokens_.Shown());
      }
      tokens_.Next();
      block.push_back(std::move(node));
      continue;
    }
    for (const char* end : ends) {
      if (!tokens_.TakeKeyword(end)) continue;
      end_ = end;
      --depth_;
      return block;
    }
    RETURN_IF_ERROR(Statement(&block));
  }
}

absl::Status Parser::Statement(JinjaBlock* block) {
  if (tokens_.TakeKeyword("if")) return If(block);
  if (tokens_.TakeKeyword("for")) return For(block);
  if (tokens_.TakeKeyword("set")) return Set(block);
  if (tokens_.TakeKeyword("macro")) return Macro(block);
  if (tokens_.TakeKeyword("break")) return LoopControl(Kind::kBreak, block);
  if (tokens_.TakeKeyword("continue")) return LoopControl(Kind::kContinue, block);
  if (tokens_.TakeKeyword("generation")) {
    auto node = New(Kind::kBlock);
    ASSIGN_OR_RETURN(node->body, Body("endgeneration"));
    block->push_back(std::move(node));
    return absl::OkStatus();
  }
  const int line = tokens_.Peek().line;
  ASSIGN_OR_RETURN(const std::string name, tokens_.Name());
  if (absl::StartsWith(name, "end") || name == "else" || name == "elif") {
    return InvalidArgument("line ", line, ": {% ", PrintableUtf8(name, 40), " %} ends nothing");
  }
  return Unimplemented("line ", line, ": the tag {% ", PrintableUtf8(name, 40),
                       " %} is not supported");
}

absl::Status Parser::LoopControl(Kind kind, JinjaBlock* block) {
  if (loops_ == 0) return tokens_.Error("break and continue need a loop");
  block->push_back(New(kind));
  return CloseTag();
}

absl::Status Parser::If(JinjaBlock* block) {
  auto node = New(Kind::kIf);
  end_ = "elif";
  while (end_ == "elif") {
    ASSIGN_OR_RETURN(JinjaExprPtr condition, tokens_.Expression());
    RETURN_IF_ERROR(CloseTag());
    ASSIGN_OR_RETURN(JinjaBlock body, Block({"endif", "elif", "else"}));
    node->branches.emplace_back(std::move(condition), std::move(body));
  }
  if (end_ == "else") {
    RETURN_IF_ERROR(CloseTag());
    ASSIGN_OR_RETURN(node->otherwise, Block({"endif"}));
  }
  block->push_back(std::move(node));
  return CloseTag();
}

absl::Status Parser::For(JinjaBlock* block) {
  auto node = New(Kind::kFor);
  const bool parentheses = tokens_.TakeOperator("(");
  do {
    ASSIGN_OR_RETURN(std::string name, tokens_.Name());
    node->names.push_back(std::move(name));
  } while (tokens_.TakeOperator(","));
  if (parentheses) RETURN_IF_ERROR(tokens_.Expect(")"));
  if (!tokens_.TakeKeyword("in")) return tokens_.Error("expected \"in\", found ", tokens_.Shown());
  ASSIGN_OR_RETURN(node->expr, tokens_.Expression(/*with_condition=*/false));
  if (tokens_.TakeKeyword("if")) {
    ASSIGN_OR_RETURN(node->condition, tokens_.Expression());
  }
  if (tokens_.IsKeyword("recursive")) {
    return Unimplemented("line ", node->line, ": recursive loops are not supported");
  }
  RETURN_IF_ERROR(CloseTag());
  ++loops_;
  ASSIGN_OR_RETURN(node->body, Block({"endfor", "else"}));
  --loops_;
  if (end_ == "else") {
    RETURN_IF_ERROR(CloseTag());
    ASSIGN_OR_RETURN(node->otherwise, Block({"endfor"}));
  }
  block->push_back(std::move(node));
  return CloseTag();
}

absl::Status Parser::Set(JinjaBlock* block) {
  auto node = New(Kind::kSet);
  do {
    ASSIGN_OR_RETURN(std::string name, tokens_.Name());
    node->names.push_back(std::move(name));
  } while (tokens_.TakeOperator(","));
  if (node->names.size() == 1 && tokens_.TakeOperator(".")) {
    ASSIGN_OR_RETURN(node->attribute, tokens_.Name());
  }
  if (tokens_.TakeOperator("=")) {
    ASSIGN_OR_RETURN(node->expr, tokens_.Tuple());
    block->push_back(std::move(node));
    return CloseTag();
  }
  if (node->names.size() > 1 || !node->attribute.empty() || tokens_.IsOperator("|")) {
    return tokens_.Error("expected \"=\", found ", tokens_.Shown());
  }
  ASSIGN_OR_RETURN(node->body, Body("endset"));
  block->push_back(std::move(node));
  return absl::OkStatus();
}

absl::Status Parser::Macro(JinjaBlock* block) {
  auto node = New(Kind::kMacro);
  auto macro = std::make_unique<JinjaMacro>();
  ASSIGN_OR_RETURN(macro->name, tokens_.Name());
  RETURN_IF_ERROR(tokens_.Expect("("));
  while (!tokens_.TakeOperator(")")) {
    if (!macro->parameters.empty()) RETURN_IF_ERROR(tokens_.Expect(","));
    ASSIGN_OR_RETURN(std::string name, tokens_.Name());
    JinjaExprPtr otherwise;
    if (tokens_.TakeOperator("=")) {
      ASSIGN_OR_RETURN(otherwise, tokens_.Expression());
    }
    macro->parameters.emplace_back(std::move(name), std::move(otherwise));
  }
  const int loops = std::exchange(loops_, 0);
  ASSIGN_OR_RETURN(macro->body, Body("endmacro"));
  loops_ = loops;
  node->macro = std::move(macro);
  block->push_back(std::move(node));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JinjaBlock> ParseJinja(absl::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return InvalidArgument("has ", source.size(), " bytes, at most ", kMaxTemplateBytes,
                           " are allowed");
  }
  ASSIGN_OR_RETURN(const std::vector<JinjaToken> tokens, LexJinja(source));
  return Parser(tokens).Run();
}

}  // namespace featurescope
