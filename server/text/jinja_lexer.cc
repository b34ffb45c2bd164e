#include "server/text/jinja_lexer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/characters.h"

namespace featurescope {
namespace {

using Type = JinjaToken::Type;

bool IsSpace(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsNameChar(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : rest_(source) {}

  absl::StatusOr<std::vector<JinjaToken>> Run() {
    while (!rest_.empty()) RETURN_IF_ERROR(NextPart());
    Emit(Type::kEnd, "");
    return std::move(tokens_);
  }

 private:
  template <typename... Args>
  absl::Status Error(const Args&... args) const {
    return InvalidArgument("line ", line_, ": ", args...);
  }
  void Emit(Type type, absl::string_view text) {
    tokens_.push_back({type, std::string(text), line_});
  }
  void Skip(size_t n) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + n, '\n'));
    rest_.remove_prefix(n);
  }
  void SkipSpace() {
    size_t n = 0;
    while (n < rest_.size() && IsSpace(rest_[n])) ++n;
    Skip(n);
  }

  absl::Status NextPart();
  absl::Status Comment();
  absl::Status Tag(bool block);
  absl::Status ExpressionToken();
  absl::Status String();
  void Number();
  void EndBlock(char sign);

  absl::string_view rest_;
  int line_ = 1;
  bool at_line_start_ = true;  // nothing of the current line has been printed
  std::vector<JinjaToken> tokens_;
};

// Text up to the next tag, and the tag.
absl::Status Lexer::NextPart() {
  size_t at = 0;
  while ((at = rest_.find('{', at)) != absl::string_view::npos) {
    const char next = at + 1 < rest_.size() ? rest_[at + 1] : '\0';
    if (next == '{' || next == '%' || next == '#') break;
    ++at;
  }
  absl::string_view text = rest_.substr(0, at);
  if (at == absl::string_view::npos) {
    if (!text.empty()) Emit(Type::kText, text);
    Skip(rest_.size());
    return absl::OkStatus();
  }
  const char kind = rest_[at + 1];
  const char sign = at + 2 < rest_.size() ? rest_[at + 2] : '\0';
  const bool signed_tag = sign == '-' || (sign == '+' && kind != '{');
  absl::string_view kept = text;
  if (sign == '-') {
    while (!kept.empty() && IsSpace(kept.back())) kept.remove_suffix(1);
  } else if (sign != '+' && kind != '{') {
    const size_t line_begin = text.rfind('\n') + 1;  // 0 where there is none
    const bool blank = std::all_of(text.begin() + line_begin, text.end(), IsSpace);
    if (blank && (line_begin > 0 || at_line_start_)) kept = text.substr(0, line_begin);
  }
  if (!kept.empty()) Emit(Type::kText, kept);
  Skip(at + 2 + (signed_tag ? 1 : 0));
  at_line_start_ = false;
  return kind == '#' ? Comment() : Tag(kind == '%');
}

// Behind %} or #}: "-" takes all white space along, else one line break goes.
void Lexer::EndBlock(char sign) {
  if (sign == '-') {
    const absl::string_view before = rest_;
    SkipSpace();
    const size_t skipped = before.size() - rest_.size();
    at_line_start_ = skipped > 0 && before[skipped - 1] == '\n';
  } else if (sign != '+' && absl::StartsWith(rest_, "\n")) {
    Skip(1);
    at_line_start_ = true;
  }
}

absl::Status Lexer::Comment() {
  const size_t end = rest_.find("#}");
  if (end == absl::string_view::npos) return Error("a comment has no end");
  const char sign = end > 0 ? rest_[end - 1] : '\0';
  Skip(end + 2);
  EndBlock(sign);
  return absl::OkStatus();
}

absl::Status Lexer::Tag(bool block) {
  Emit(block ? Type::kBlockOpen : Type::kOpen, "");
  const absl::string_view close = block ? "%}" : "}}";
  int braces = 0;  // a map may end in }}
  while (true) {
    SkipSpace();
    if (rest_.empty()) return Error("a tag has no end");
    char sign = '\0';
    if ((rest_[0] == '-' || (rest_[0] == '+' && block)) &&
        absl::StartsWith(rest_.substr(1), close)) {
      sign = rest_[0];
      Skip(1);
    }
    if (braces == 0 && absl::StartsWith(rest_, close)) {
      Emit(block ? Type::kBlockClose : Type::kClose, "");
      Skip(2);
      if (block || sign == '-') EndBlock(sign);
      return absl::OkStatus();
    }
    if (rest_[0] == '{') ++braces;
    if (rest_[0] == '}') --braces;
    RETURN_IF_ERROR(ExpressionToken());
  }
}

absl::Status Lexer::ExpressionToken() {
  const char c = rest_[0];
  if (c == '\'' || c == '"') return String();
  if (IsDigit(c)) {
    Number();
    return absl::OkStatus();
  }
  if (IsNameChar(c)) {
    size_t n = 0;
    while (n < rest_.size() && IsNameChar(rest_[n])) ++n;
    Emit(Type::kName, rest_.substr(0, n));
    Skip(n);
    return absl::OkStatus();
  }
  for (absl::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
    if (!absl::StartsWith(rest_, two)) continue;
    Emit(Type::kOperator, two);
    Skip(2);
    return absl::OkStatus();
  }
  if (!absl::StrContains("<>+-*/%~|.,:()[]{}=", c)) {
    return Error("unexpected \"", PrintableUtf8(rest_.substr(0, 8)), "\"");
  }
  Emit(Type::kOperator, rest_.substr(0, 1));
  Skip(1);
  return absl::OkStatus();
}

void Lexer::Number() {
  size_t n = 0;
  while (n < rest_.size() && (IsDigit(rest_[n]) || rest_[n] == '_')) ++n;
  const bool real = n + 1 < rest_.size() && rest_[n] == '.' && IsDigit(rest_[n + 1]);
  if (real) {
    ++n;
    while (n < rest_.size() && IsDigit(rest_[n])) ++n;
  }
  Emit(real ? Type::kFloat : Type::kInt, absl::StrReplaceAll(rest_.substr(0, n), {{"_", ""}}));
  Skip(n);
}

// Escapes as in Python; one that it does not know stays as it is written.
absl::Status Lexer::String() {
  const char quote = rest_[0];
  std::string value;
  size_t at = 1;
  for (; at < rest_.size() && rest_[at] != quote; ++at) {
    if (rest_[at] != '\\' || at + 1 == rest_.size()) {
      value.push_back(rest_[at]);
      continue;
    }
    const char c = rest_[++at];
    constexpr absl::string_view kEscapes = "nrtabfv\\'\"";
    constexpr absl::string_view kValues = "\n\r\t\a\b\f\v\\'\"";
    const size_t known = kEscapes.find(c);
    if (known != absl::string_view::npos) {
      value.push_back(kValues[known]);
    } else if (c == '\n') {  // a line that goes on
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t code = 0;
      for (size_t i = 1; i <= digits; ++i) {
        const char d = at + i < rest_.size() ? rest_[at + i] : '\0';
        if (!absl::ascii_isxdigit(static_cast<unsigned char>(d)))
          return Error("a bad \\", absl::string_view(&c, 1), " escape");
        const int lower = absl::ascii_tolower(static_cast<unsigned char>(d));
        code = code << 4 | static_cast<char32_t>(lower >= 'a' ? lower - 'a' + 10 : lower - '0');
      }
      if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return Error("a bad escape");
      AppendUtf8(code, &value);
      at += digits;
    } else if (IsDigit(c)) {
      return Unimplemented("line ", line_, ": octal escapes are not supported");
    } else {
      value.push_back('\\');
      value.push_back(c);
    }
  }
  if (at >= rest_.size()) return Error("a string has no end");
  Emit(Type::kString, value);
  Skip(at + 1);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source) {
  if (ValidUtf8Prefix(source) < source.size()) return InvalidArgument("is no valid UTF-8");
  const std::string lines = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  absl::string_view text = lines;
  absl::ConsumeSuffix(&text, "\n");  // Jinja drops one line break at the end
  return Lexer(text).Run();
}

}  // namespace featurescope
