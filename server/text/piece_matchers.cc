#include "server/text/piece_matchers.h"

#include <string>
#include <utility>

#include "absl/strings/str_replace.h"
#include "server/text/characters.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

// End of the run of characters that go on at `at` and for which `belongs` holds.
template <typename Predicate>
size_t RunEnd(absl::string_view text, size_t at, const Predicate& belongs) {
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (!belongs(c.code)) break;
    at += c.size;
  }
  return at;
}

size_t RunEndOfClass(absl::string_view text, size_t at, CharClass char_class) {
  return RunEnd(text, at, [char_class](char32_t c) { return ClassOf(c) == char_class; });
}

bool IsLineBreak(char32_t c) { return c == '\r' || c == '\n'; }

// [\r\n]* behind `at`.
size_t SkipLineBreaks(absl::string_view text, size_t at) {
  while (at < text.size() && IsLineBreak(static_cast<unsigned char>(text[at]))) ++at;
  return at;
}

// 's|'t|'re|'ve|'m|'ll|'d; 0 when there is none.
size_t ContractionLength(absl::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char c = text[1];
  if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
  if (text.size() < 3) return 0;
  const char next = text[2];
  return (c == 'r' && next == 'e') || (c == 'v' && next == 'e') || (c == 'l' && next == 'l') ? 3
                                                                                             : 0;
}

// The same in either case. U+017F is an s, too.
size_t ContractionLengthOfAnyCase(absl::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  if (text.size() >= 3 && text[1] == '\xc5' && text[2] == '\xbf') return 3;
  const auto lower = [&](size_t at) {
    const char c = text[at];
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  };
  const char folded[3] = {'\'', lower(1), text.size() < 3 ? '\0' : lower(2)};
  return ContractionLength({folded, text.size() < 3 ? size_t{2} : size_t{3}});
}

// \s+(?!\S)|\s+ : a run of spaces leaves its last one to the word behind it.
// With `line_breaks`, \s*[\r\n]+ goes before that: up to the last line break of the run.
size_t SpaceRunLength(absl::string_view text, bool line_breaks) {
  size_t at = 0;
  size_t last = 0;         // where the last space begins
  size_t behind_line = 0;  // behind the last line break
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (ClassOf(c.code) != CharClass::kSpace) break;
    last = at;
    at += c.size;
    if (IsLineBreak(c.code)) behind_line = at;
  }
  if (line_breaks && behind_line > 0) return behind_line;
  return at == text.size() || last == 0 ? at : last;
}

size_t MatchLlamaKind(absl::string_view text, int numbers) {
  if (const size_t length = ContractionLengthOfAnyCase(text); length > 0) return length;
  const Character first = CharacterAt(text, 0);
  const CharClass first_class = ClassOf(first.code);
  if (first_class == CharClass::kLetter) return RunEndOfClass(text, first.size, first_class);
  if (first_class == CharClass::kNumber) {
    size_t at = first.size;
    for (int n = 1; n < numbers && at < text.size(); ++n) {
      const Character c = CharacterAt(text, at);
      if (ClassOf(c.code) != CharClass::kNumber) break;
      at += c.size;
    }
    return at;
  }
  const bool has_second = first.size < text.size();
  const Character second = has_second ? CharacterAt(text, first.size) : Character{0, 0};
  const CharClass second_class = has_second ? ClassOf(second.code) : CharClass::kSpace;
  if (second_class == CharClass::kLetter && !IsLineBreak(first.code)) {
    return RunEndOfClass(text, first.size + second.size, CharClass::kLetter);
  }
  if (first_class == CharClass::kOther) {
    return SkipLineBreaks(text, RunEndOfClass(text, first.size, CharClass::kOther));
  }
  if (first.code == ' ' && second_class == CharClass::kOther) {
    return SkipLineBreaks(text, RunEndOfClass(text, 1 + second.size, CharClass::kOther));
  }
  return SpaceRunLength(text, true);
}

bool IsAsciiPunctuation(char32_t c) {
  return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) ||
         (c >= 0x7b && c <= 0x7e);
}
bool IsAsciiLetter(char32_t c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool IsLetterOrMark(char32_t c) { return IsLetter(c) || IsMark(c); }
bool IsPunctuationOrSymbol(char32_t c) { return IsPunctuation(c) || IsSymbol(c); }

}  // namespace

size_t MatchGpt2(absl::string_view text) {
  if (const size_t contraction = ContractionLength(text); contraction > 0) return contraction;
  const Character first = CharacterAt(text, 0);
  const CharClass first_class = ClassOf(first.code);
  if (first_class != CharClass::kSpace) return RunEndOfClass(text, first.size, first_class);
  if (text[0] == ' ' && text.size() > 1) {
    const Character second = CharacterAt(text, 1);
    const CharClass second_class = ClassOf(second.code);
    if (second_class != CharClass::kSpace) {
      return RunEndOfClass(text, 1 + second.size, second_class);
    }
  }
  return SpaceRunLength(text, false);
}

size_t MatchLlama3(absl::string_view text) { return MatchLlamaKind(text, 3); }
size_t MatchQwen2(absl::string_view text) { return MatchLlamaKind(text, 1); }

size_t MatchThreeNumbers(absl::string_view text) {
  size_t at = 0;
  for (int n = 0; n < 3 && at < text.size(); ++n) {
    const Character c = CharacterAt(text, at);
    if (!IsNumber(c.code)) break;
    at += c.size;
  }
  return at;
}

size_t MatchHanAndKana(absl::string_view text) {
  return RunEnd(text, 0, [](char32_t c) {
    return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff);
  });
}

size_t MatchDeepSeekWords(absl::string_view text) {
  const Character first = CharacterAt(text, 0);
  const bool has_second = first.size < text.size();
  const char32_t second = has_second ? CharacterAt(text, first.size).code : 0;
  if (has_second && IsAsciiPunctuation(first.code) && IsAsciiLetter(second)) {
    return RunEnd(text, 1, IsAsciiLetter);
  }
  if (IsLetterOrMark(first.code)) return RunEnd(text, first.size, IsLetterOrMark);
  const bool punctuation = IsPunctuationOrSymbol(first.code);
  if (!punctuation && !IsLineBreak(first.code) && has_second && IsLetterOrMark(second)) {
    return RunEnd(text, first.size, IsLetterOrMark);
  }
  if (punctuation || (first.code == ' ' && has_second && IsPunctuationOrSymbol(second))) {
    return SkipLineBreaks(text, RunEnd(text, first.size, IsPunctuationOrSymbol));
  }
  return IsWhiteSpace(first.code) ? SpaceRunLength(text, true) : 0;
}

PieceMatcher FindPieceMatcher(absl::string_view pattern) {
  static constexpr std::pair<absl::string_view, PieceMatcher> kMatchers[] = {
      {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", MatchGpt2},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
       R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       MatchLlama3},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
       R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       MatchQwen2},
      {R"(\p{N}{1,3})", MatchThreeNumbers},
      {"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", MatchHanAndKana},
      {R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
       R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       MatchDeepSeekWords},
  };
  // Some files write the line breaks themselves instead of their escapes.
  const std::string escaped = absl::StrReplaceAll(pattern, {{"\r", "\\r"}, {"\n", "\\n"}});
  for (const auto& [known, matcher] : kMatchers) {
    if (known == escaped) return matcher;
  }
  return nullptr;
}

}  // namespace featurescope
