#include "server/text/regex.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/regex_dialect.h"
#include "server/text/unicode_class.h"
#include "tests/text/unicode_text.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<std::vector<std::string>> Matches(absl::string_view pattern,
                                                 absl::string_view text) {
  const auto regex = Regex::Compile(pattern);
  if (!regex.ok()) return regex.status();
  std::vector<std::string> matches;
  const absl::Status status = (*regex)->ForEachMatch(text, [&](size_t begin, size_t end) {
    matches.emplace_back(text.substr(begin, end - begin));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return matches;
}

TEST(RegexTest, FindsMatchesFromLeftToRight) {
  EXPECT_THAT(*Matches("[a-c]+|\\d", "xabc1y2"), ElementsAre("abc", "1", "2"));
  EXPECT_THAT(*Matches("a(?=b)|(?<=c)d", "ab ad cd"), ElementsAre("a", "d"));
  EXPECT_THAT(*Matches("x", ""), IsEmpty());
  EXPECT_THAT(*Matches("(a|b)(c)", "acbc"), ElementsAre("ac", "bc"));
  EXPECT_THAT(*Matches("a++b|a{2,3}?|[^\\]a-]", "aaab-]z"), ElementsAre("aaab", "z"));
}

TEST(RegexTest, EmptyMatchesCountWhereTheyDoNotTouchTheMatchBefore) {
  EXPECT_THAT(*Matches("x*", "axb\u00e9"), ElementsAre("", "x", "", ""));
  EXPECT_THAT(*Matches("$", "a\nb"), ElementsAre("", ""));
}

// Meanings in which Oniguruma and PCRE2 differ, by kkos/oniguruma's doc/RE and by running it.
TEST(RegexTest, EscapesMeanWhatOnigurumaMeans) {
  EXPECT_THAT(*Matches("\\s", "\u180e\u0085\u00a0\u200b\u3000 \v"),
              ElementsAre("\u0085", "\u00a0", "\u3000", " ", "\v"));
  EXPECT_THAT(*Matches("[^\\s]", " \u180e\u2028"), ElementsAre("\u180e"));
  EXPECT_THAT(*Matches("[\\S]", " \u180e\u2028"), ElementsAre("\u180e"));
  EXPECT_THAT(*Matches("\\S", " \u180e\u2028"), ElementsAre("\u180e"));
  EXPECT_THAT(*Matches("\\w+", "a\u0301_1\u203f\u00b2\u2160\u24d0-\u2460\u200d"),
              ElementsAre("a\u0301_1\u203f\u00b2\u2160\u24d0"));
  EXPECT_THAT(*Matches("\\W", "a-"), ElementsAre("-"));
  EXPECT_THAT(*Matches("[\\w-]", "-\u0301"), ElementsAre("-", "\u0301"));
  EXPECT_THAT(*Matches("[\\s-~]", "-~a "), ElementsAre("-", "~", " "));
  EXPECT_THAT(*Matches("\\ba\\u0301\\b", "a\u0301 ba\u0301"), ElementsAre("a\u0301"));
  EXPECT_THAT(*Matches("\\Ba", "aa"), ElementsAre("a"));
  EXPECT_THAT(*Matches("\\h+", "xFf0g\t"), ElementsAre("Ff0"));
  EXPECT_THAT(*Matches("\\v", "\v\n\u0085"), ElementsAre("\v"));
  EXPECT_THAT(*Matches("\\x41|\\x{1F999}|\\u00e9", "A\u00e9\U0001f999"),
              ElementsAre("A", "\u00e9", "\U0001f999"));
  EXPECT_THAT(*Matches("\\p{^L}|\\P{^N}", "a1."), ElementsAre("1", "."));
  EXPECT_THAT(*Matches("^.", "ab\nc"), ElementsAre("a", "c"));
  EXPECT_THAT(*Matches("(?m:a.)", "a\n"), ElementsAre("a\n"));
  EXPECT_THAT(*Matches("(?i:S)", "sS\u017f"), ElementsAre("s", "S", "\u017f"));
  EXPECT_THAT(*Matches("(?i)k", "K\u212a"), ElementsAre("K", "\u212a"));
  EXPECT_THAT(*Matches("x{,2}y|{z}", "xxy {z}"), ElementsAre("xxy", "{z}"));
  // Script, not Script_Extensions: U+3001 is used with Han.
  EXPECT_THAT(*Matches("\\p{Han}", "\u4e2d\u3001"), ElementsAre("\u4e2d"));
  EXPECT_THAT(*Matches("[\\p{Hiragana}\\p{Katakana}]", "\u3042\u30ab\u30fc"),
              ElementsAre("\u3042", "\u30ab"));
  EXPECT_THAT(*Matches("\\\u4e2d", "\u4e2d"), ElementsAre("\u4e2d"));
}

TEST(RegexTest, ClassesAreThoseOfUnicodeClass) {
  const auto letter = *Regex::Compile("\\p{L}"), number = *Regex::Compile("\\p{N}");
  const auto space = *Regex::Compile("\\s"), mark = *Regex::Compile("\\p{M}");
  const auto punctuation = *Regex::Compile("\\p{P}"), symbol = *Regex::Compile("\\p{S}");
  const auto matches = [](const Regex& regex, const std::string& text) {
    bool found = false;
    EXPECT_TRUE(regex
                    .ForEachMatch(text,
                                  [&](size_t, size_t) {
                                    found = true;
                                    return absl::OkStatus();
                                  })
                    .ok());
    return found;
  };
  for (char32_t c = 0; c < 0x600; ++c) {
    std::string text;
    AppendUtf8(c, &text);
    EXPECT_EQ(matches(*letter, text), IsLetter(c)) << static_cast<uint32_t>(c);
    EXPECT_EQ(matches(*number, text), IsNumber(c)) << static_cast<uint32_t>(c);
    EXPECT_EQ(matches(*space, text), IsWhiteSpace(c)) << static_cast<uint32_t>(c);
    EXPECT_EQ(matches(*mark, text), IsMark(c)) << static_cast<uint32_t>(c);
    EXPECT_EQ(matches(*punctuation, text), IsPunctuation(c)) << static_cast<uint32_t>(c);
    EXPECT_EQ(matches(*symbol, text), IsSymbol(c)) << static_cast<uint32_t>(c);
  }
}

TEST(RegexTest, WhatMayMeanSomethingElseIsRefusedByName) {
  const std::pair<const char*, const char*> refused[] = {
      {"a\\1", "\\1"},         {"\\Kx", "\\K"},     {"\\R", "\\R"},         {"\\X", "\\X"},
      {"\\Gx", "\\G"},         {"(?<n>a)", "(?<n"}, {"(?#c)", "(?#c"},      {"a(?i)b", "(?i)"},
      {"(?x:a)", "(?x:"},      {"(?s:a)", "(?s:"},  {"[[:alpha:]]", "[["},  {"[a[bc]]", "[["},
      {"[a&&b]", "&&"},        {"[\\W]", "\\W"},    {"[\\H]", "\\H"},       {"[]a]", "[]"},
      {"a{2}+", "{2}+"},       {"a{2}?", "{2}?"},   {"a{1,2}+", "{1,2}+"},  {"\\x80", "\\x80"},
      {"\\x{110000}", "\\x{"}, {"\\u12", "\\u12"},  {"\\p{L&}", "\\p{L&}"}, {"\\pL", "\\pL"},
      {"(*ACCEPT)", "(*"},     {"\\Qa\\E", "\\Q"},  {"[\\b]", "\\b"},       {"\\p{Lx}", "\\p{Lx}"}};
  for (const auto& [pattern, name] : refused) {
    const absl::Status status = Regex::Compile(pattern).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << pattern << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name)) << pattern;
    EXPECT_THAT(std::string(status.message()), HasSubstr("pattern ")) << pattern;
  }
}

TEST(RegexTest, MalformedAndHugePatternsAreRefused) {
  for (const std::string pattern :
       {"(", "a)", "[a", "*a", "\\", "\\p{L", "\\p{Klingon}", "[z-a]", "a{3,2}", "\xff",
        "((((a{1,9999}){1,9999}){1,9999}){1,9999})"}) {
    EXPECT_EQ(Regex::Compile(pattern).status().code(), absl::StatusCode::kInvalidArgument)
        << pattern;
  }
  EXPECT_THAT(std::string(Regex::Compile(std::string(20000, 'a')).status().message()),
              HasSubstr("20000"));
  EXPECT_FALSE(Regex::Compile(std::string(5000, '(') + std::string(5000, ')')).ok());
}

TEST(RegexTest, CatastrophicPatternsEndInAnError) {
  const std::string text(50'000, 'a');
  for (const char* pattern : {"(a+)+$b", "(a|a)*b", "(a*)*b", "(?=(a+)+b)c"}) {
    const absl::Status status = Matches(pattern, text).status();
    EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << pattern << " " << status;
    if (!status.ok()) EXPECT_THAT(std::string(status.message()), HasSubstr("pattern "));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Matches("(a+)+(?!a)b|(a+a+)+c", text + "d").status()));
}

TEST(RegexTest, PatternsThatLookFarAheadFromEverywhereAreGivenUp) {
  // Each of a million beginnings reads on to the end.
  const std::string text(1 << 20, 'a');
  EXPECT_TRUE(absl::IsResourceExhausted(Matches("(?=[ab]*c)a", text).status()));
}

TEST(RegexTest, LongTextsAreSearchedToTheirEnd) {
  std::string text(1 << 20, ' ');
  text += "\u00e9x";
  EXPECT_THAT(*Matches("\\p{L}x", text), ElementsAre("\u00e9x"));
  const auto spaces = *Matches("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", text);
  EXPECT_THAT(spaces, ElementsAre(text.substr(0, (1 << 20) - 1), " "));
}

TEST(RegexTest, TheFirstErrorOfTheCallbackEndsTheSearch) {
  int n = 0;
  const absl::Status status = (*Regex::Compile("a"))->ForEachMatch("aaa", [&](size_t, size_t) {
    return ++n == 2 ? absl::CancelledError("enough") : absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsCancelled(status));
  EXPECT_EQ(n, 2);
}

TEST(RegexTest, DamagedPatternsAreRefusedOrRun) {
  const std::string pattern =
      R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\w]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\x{41})";
  std::mt19937 random(31);
  int n_compiled = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = pattern;
    for (uint32_t i = 0; i <= random() % 3; ++i) {
      damaged[random() % damaged.size()] = "()[]{}\\|?*+^$.-,:=!<&pPsdw1aA "[random() % 31];
    }
    const auto regex = Regex::Compile(damaged);
    if (!regex.ok()) continue;
    ++n_compiled;
    const std::string text = UnicodeText(&random);
    size_t at = 0;
    const absl::Status status = (*regex)->ForEachMatch(text, [&](size_t begin, size_t end) {
      EXPECT_LE(at, begin);
      EXPECT_LE(begin, end);
      at = end;
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
  }
  EXPECT_GT(n_compiled, 300);
}

}  // namespace
}  // namespace featurescope
