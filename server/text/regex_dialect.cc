#include "server/text/regex_dialect.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

// What stands inside of a class for \s, \w and \h. PCRE2's own \s has U+180E, its \w lacks marks;
// Oniguruma 6.9.10's \w is Unicode's without the joiners, and with six numbers of Latin-1.
constexpr absl::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
constexpr absl::string_view kNoSpaces =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}"
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}"
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
constexpr absl::string_view kWord =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}"
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
constexpr absl::string_view kHexDigits = "0-9A-Fa-f";

// General categories by their short names; longer names are taken as scripts.
bool IsCategory(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd",
      "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
      "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cn", "Co"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

class Translation {
 public:
  explicit Translation(absl::string_view pattern) : pattern_(pattern), rest_(pattern) {}

  absl::StatusOr<std::string> Run() {
    if (ValidUtf8Prefix(pattern_) < pattern_.size()) return InvalidArgument("is no valid UTF-8");
    while (!rest_.empty()) RETURN_IF_ERROR(Next());
    return std::move(out_);
  }

 private:
  absl::Status Unsupported(absl::string_view what) const {
    return Unimplemented("\"", PrintableUtf8(what, 60), "\" is not supported");
  }
  static absl::Status Unfinished(absl::string_view what) {
    return InvalidArgument("ends within ", what);
  }

  absl::Status Next() {
    switch (rest_[0]) {
      case '\\':
        return Escape(/*in_class=*/false);
      case '[':
        return Class();
      case '(':
        return Group();
      case '{':
        return Interval();
      default:
        Copy(1);
        return absl::OkStatus();
    }
  }

  void Copy(size_t size) {
    out_.append(rest_.data(), size);
    rest_.remove_prefix(size);
  }
  // Appends members of a class, in brackets of their own outside of one.
  void Members(absl::string_view members, bool in_class, bool negated = false) {
    absl::StrAppend(&out_, in_class ? "" : negated ? "[^" : "[", members, in_class ? "" : "]");
  }

  absl::Status Escape(bool in_class);
  absl::Status ClassEscape(char letter, bool in_class);
  absl::Status CodePoint(bool in_class);
  absl::Status Property(bool in_class);
  absl::Status Class();
  absl::Status Group();
  absl::Status Interval();

  const absl::string_view pattern_;
  absl::string_view rest_;
  std::string out_;
};

absl::Status Translation::Escape(bool in_class) {
  if (rest_.size() < 2) return Unfinished("an escape");
  const char c = rest_[1];
  if (absl::StrContains("dDsSwWhH", c)) {
    rest_.remove_prefix(2);
    RETURN_IF_ERROR(ClassEscape(c, in_class));
    // In a class, a "-" behind it stands for itself; behind our ranges it would not.
    if (in_class && absl::ConsumePrefix(&rest_, "-")) out_ += "\\-";
    return absl::OkStatus();
  }
  if (c == 'p' || c == 'P') return Property(in_class);
  if (c == 'x' || c == 'u') return CodePoint(in_class);
  if (c == 'v') {
    out_ += "\\x{b}";
    rest_.remove_prefix(2);
    return absl::OkStatus();
  }
  if (!in_class && (c == 'b' || c == 'B')) {
    const absl::string_view first = c == 'b' ? "!" : "=";
    const absl::string_view second = c == 'b' ? "=" : "!";
    absl::StrAppend(&out_, "(?:(?<=[", kWord, "])(?", first, "[", kWord, "])|(?<![", kWord, "])(?",
                    second, "[", kWord, "]))");
    rest_.remove_prefix(2);
    return absl::OkStatus();
  }
  const bool same = absl::StrContains("nrtfae", c) || (!in_class && absl::StrContains("AzZ", c));
  if (absl::ascii_isalnum(static_cast<unsigned char>(c)) && !same) {
    return Unsupported(rest_.substr(0, 2));
  }
  if (static_cast<unsigned char>(c) >= 0x80) {
    rest_.remove_prefix(1);  // an escaped character beyond ASCII is itself
  } else {
    Copy(2);
  }
  return absl::OkStatus();
}

absl::Status Translation::ClassEscape(char letter, bool in_class) {
  switch (letter) {
    case 'd':
      out_ += "\\p{Nd}";
      break;
    case 'D':
      out_ += "\\P{Nd}";
      break;
    case 's':
      Members(kSpaces, in_class);
      break;
    case 'S':
      Members(kNoSpaces, in_class);
      break;
    case 'w':
      Members(kWord, in_class);
      break;
    case 'h':
      Members(kHexDigits, in_class);
      break;
    default:  // the complement of a list cannot be listed
      if (in_class) return Unsupported(absl::StrCat("[...\\", absl::string_view(&letter, 1), "]"));
      Members(letter == 'W' ? kWord : kHexDigits, false, /*negated=*/true);
  }
  return absl::OkStatus();
}

// \x41 \x{1F999} \u00e9
absl::Status Translation::CodePoint(bool in_class) {
  const absl::string_view escape = rest_.substr(0, 12);
  const bool braces = rest_[1] == 'x' && rest_.size() > 2 && rest_[2] == '{';
  const size_t begin = braces ? 3 : 2;
  size_t end = begin;
  const size_t longest = braces ? 8 : rest_[1] == 'u' ? 4 : 2;
  uint32_t code = 0;
  while (end < rest_.size() && end < begin + longest &&
         absl::ascii_isxdigit(static_cast<unsigned char>(rest_[end]))) {
    const char c = absl::ascii_tolower(static_cast<unsigned char>(rest_[end++]));
    code = code << 4 | static_cast<uint32_t>(c >= 'a' ? c - 'a' + 10 : c - '0');
  }
  const bool complete = braces            ? end < rest_.size() && rest_[end] == '}' && end > begin
                        : rest_[1] == 'u' ? end == begin + 4
                                          : end == begin + 2 && code < 0x80;  // else a raw byte
  if (!complete || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
    return Unsupported(escape);
  }
  (void)in_class;
  absl::StrAppend(&out_, "\\x{", absl::Hex(code), "}");
  rest_.remove_prefix(end + (braces ? 1 : 0));
  return absl::OkStatus();
}

// \p{L} \p{^L} \P{Han}
absl::Status Translation::Property(bool in_class) {
  const size_t close = rest_.find('}');
  if (rest_.size() < 4 || rest_[2] != '{') return Unsupported(rest_.substr(0, 3));
  if (close == absl::string_view::npos) return Unfinished("a property");
  const absl::string_view whole = rest_.substr(0, close + 1);
  absl::string_view name = rest_.substr(3, close - 3);
  const bool negated = absl::ConsumePrefix(&name, "^") != (rest_[1] == 'P');
  const bool letters = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_';
  });
  if (!letters || name.empty() || (name.size() <= 2 && !IsCategory(name))) {
    return Unsupported(whole);
  }
  absl::StrAppend(&out_, negated ? "\\P{" : "\\p{", name.size() <= 2 ? "" : "sc:", name, "}");
  rest_.remove_prefix(close + 1);
  if (in_class && absl::ConsumePrefix(&rest_, "-")) out_ += "\\-";
  return absl::OkStatus();
}

absl::Status Translation::Class() {
  Copy(1);
  if (absl::ConsumePrefix(&rest_, "^")) out_ += "^";
  for (bool first = true;; first = false) {
    if (rest_.empty()) return Unfinished("a class");
    if (rest_[0] == ']') {
      if (first) return Unsupported("[]");
      Copy(1);
      return absl::OkStatus();
    }
    if (rest_[0] == '[') return Unsupported("[[");  // a class or a named class within the class
    if (absl::StartsWith(rest_, "&&")) return Unsupported("&&");
    if (rest_[0] == '\\') {
      RETURN_IF_ERROR(Escape(/*in_class=*/true));
    } else {
      Copy(1);
    }
  }
}

absl::Status Translation::Group() {
  if (!absl::StartsWith(rest_, "(?")) {
    if (absl::StartsWith(rest_, "(*")) return Unsupported("(*");
    rest_.remove_prefix(1);
    out_ += "(?:";  // nothing refers to a group
    return absl::OkStatus();
  }
  for (absl::string_view same : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
    if (!absl::StartsWith(rest_, same)) continue;
    Copy(same.size());
    return absl::OkStatus();
  }
  // Options for a group; for the rest of the pattern only where that is all of it.
  for (absl::string_view option : {"(?i", "(?-i", "(?m", "(?-m"}) {
    if (!absl::StartsWith(rest_, option) || rest_.size() == option.size()) continue;
    const char end = rest_[option.size()];
    if (end != ':' && (end != ')' || rest_.size() != pattern_.size())) continue;
    out_.append(option.data(), option.size() - 1);
    out_.push_back(option.back() == 'm' ? 's' : 'i');  // what Oniguruma calls m is s elsewhere
    out_.push_back(end);
    rest_.remove_prefix(option.size() + 1);
    return absl::OkStatus();
  }
  return Unsupported(rest_.substr(0, 4));
}

// {2} {2,} {2,5} {,5}; anything else in braces stands for itself.
absl::Status Translation::Interval() {
  const size_t close = rest_.find('}');
  const absl::string_view whole =
      close == absl::string_view::npos ? absl::string_view() : rest_.substr(0, close + 1);
  const absl::string_view bounds = whole.empty() ? whole : whole.substr(1, close - 1);
  const bool interval = std::count(bounds.begin(), bounds.end(), ',') <= 1 && bounds != "," &&
                        !bounds.empty() && std::all_of(bounds.begin(), bounds.end(), [](char c) {
                          return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == ',';
                        });
  if (!interval) {
    out_ += "\\{";
    rest_.remove_prefix(1);
    return absl::OkStatus();
  }
  absl::StrAppend(&out_, bounds[0] == ',' ? "{0" : "{", bounds, "}");
  rest_.remove_prefix(whole.size());
  // Behind these, + and ? mean other things in the two languages.
  const bool exact = !absl::StrContains(bounds, ",");
  if (absl::StartsWith(rest_, "+") || (exact && absl::StartsWith(rest_, "?"))) {
    return Unsupported(absl::StrCat(whole, rest_.substr(0, 1)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> OnigurumaToPcre2(absl::string_view pattern) {
  return Translation(pattern).Run();
}

}  // namespace featurescope
