#include "server/text/piece_matchers.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/characters.h"
#include "server/text/regex.h"
#include "tests/text/unicode_text.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Pieces(PieceMatcher matcher, absl::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t length = matcher(text);
    EXPECT_GT(length, 0u) << text;
    if (length == 0) break;
    pieces.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}
std::vector<std::string> Pieces(absl::string_view text) { return Pieces(MatchGpt2, text); }

// Expected pieces follow from the pattern in piece_matchers.h, alternative by alternative.
TEST(PieceMatchersTest, Gpt2CutsAsThePatternDoes) {
  EXPECT_THAT(Pieces("Hello, world 42!"), ElementsAre("Hello", ",", " world", " 42", "!"));
  EXPECT_THAT(Pieces("a  b"), ElementsAre("a", " ", " b"));
  EXPECT_THAT(Pieces("a   "), ElementsAre("a", "   "));
  EXPECT_THAT(Pieces("a\n\nb"), ElementsAre("a", "\n", "\n", "b"));
  EXPECT_THAT(Pieces("a\n b"), ElementsAre("a", "\n", " b"));
  EXPECT_THAT(Pieces("a \nb"), ElementsAre("a", " ", "\n", "b"));
  EXPECT_THAT(Pieces(" "), ElementsAre(" "));
  EXPECT_THAT(Pieces("a\xc2\xa0"
                     "b"),
              ElementsAre("a", "\xc2\xa0", "b"));
  EXPECT_THAT(Pieces("1.5x"), ElementsAre("1", ".", "5", "x"));
  EXPECT_THAT(Pieces("\xc2\xbd\xe2\x85\xab"
                     "3"),
              ElementsAre("\xc2\xbd\xe2\x85\xab"
                          "3"));
  EXPECT_THAT(Pieces("\xe4\xb8\xad\xe6\x96\x87 \xd0\xb4\xd0\xb0"),
              ElementsAre("\xe4\xb8\xad\xe6\x96\x87", " \xd0\xb4\xd0\xb0"));
}

TEST(PieceMatchersTest, Gpt2ContractionsAreOwnPieces) {
  EXPECT_THAT(Pieces("I'll don't we've he'd 'tis"),
              ElementsAre("I", "'ll", " don", "'t", " we", "'ve", " he", "'d", " '", "tis"));
  EXPECT_THAT(Pieces("'re"), ElementsAre("'re"));
  EXPECT_THAT(Pieces("'sam"), ElementsAre("'s", "am"));
  EXPECT_THAT(Pieces("'S 'l"), ElementsAre("'", "S", " '", "l"));
  EXPECT_THAT(Pieces("''s"), ElementsAre("''", "s"));
  EXPECT_THAT(Pieces("'"), ElementsAre("'"));
}

TEST(PieceMatchersTest, Llama3KeepsOneSignBeforeAWordAndThreeDigitsTogether) {
  const auto pieces = [](absl::string_view text) { return Pieces(MatchLlama3, text); };
  EXPECT_THAT(pieces("Hello, (world) 12345!\n\n x"),
              ElementsAre("Hello", ",", " (", "world", ")", " ", "123", "45", "!\n\n", " x"));
  EXPECT_THAT(pieces("(a\tb"), ElementsAre("(a", "\tb"));
  EXPECT_THAT(pieces("I'LL we'Ve it'\xc5\xbf"),
              ElementsAre("I", "'LL", " we", "'Ve", " it", "'\xc5\xbf"));
  EXPECT_THAT(pieces("a  \n \n  b"), ElementsAre("a", "  \n \n", " ", " b"));
  EXPECT_THAT(pieces("a \n"), ElementsAre("a", " \n"));
  EXPECT_THAT(pieces("a   "), ElementsAre("a", "   "));
}

TEST(PieceMatchersTest, Qwen2CutsNumbersIntoDigits) {
  EXPECT_THAT(Pieces(MatchQwen2, " 123a"), ElementsAre(" ", "1", "2", "3", "a"));
}

TEST(PieceMatchersTest, DeepSeekLeavesWhatItsPatternLeaves) {
  EXPECT_EQ(MatchDeepSeekWords("12"), 0u);
  EXPECT_EQ(MatchDeepSeekWords("1a"), 2u);  // a digit may stand before a word, as any sign may
  EXPECT_EQ(MatchDeepSeekWords(".abc1"), 4u);
  EXPECT_EQ(MatchDeepSeekWords(" ..\n\nx"), 5u);
  EXPECT_EQ(MatchThreeNumbers("1234"), 3u);
  EXPECT_EQ(MatchThreeNumbers("x"), 0u);
  EXPECT_EQ(MatchHanAndKana("\u4e2d\u30abx"), 6u);
}

struct Published {
  const char* name;
  const char* pattern;  // as tokenizer.json has it
  PieceMatcher matcher;
};
const Published kPublished[] = {
    {"gpt2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     MatchGpt2},
    {"llama3",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
     MatchLlama3},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
     MatchQwen2},
    {"deepseek_numbers", R"(\p{N}{1,3})", MatchThreeNumbers},
    {"deepseek_han", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", MatchHanAndKana},
    {"deepseek_words",
     R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
     R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     MatchDeepSeekWords},
};

class PublishedPatternTest : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedPatternTest, IsFoundByItsPattern) {
  EXPECT_EQ(FindPieceMatcher(GetParam().pattern), GetParam().matcher);
  EXPECT_EQ(FindPieceMatcher(std::string(GetParam().pattern) + "|x"), nullptr);
}

TEST_P(PublishedPatternTest, EqualsPcre2OnRandomText) {
  const auto regex = Regex::Compile(GetParam().pattern);
  ASSERT_TRUE(regex.ok()) << regex.status();
  std::mt19937 random(21);
  for (int round = 0; round < 6000; ++round) {
    const std::string text = UnicodeText(&random);
    std::vector<std::pair<size_t, size_t>> expected, found;
    ASSERT_TRUE((*regex)
                    ->ForEachMatch(text,
                                   [&](size_t begin, size_t end) {
                                     expected.emplace_back(begin, end);
                                     return absl::OkStatus();
                                   })
                    .ok());
    for (size_t at = 0; at < text.size();) {
      const size_t size = GetParam().matcher(absl::string_view(text).substr(at));
      if (size > 0) found.emplace_back(at, at + size);
      at += size > 0 ? size : CharacterAt(text, at).size;
    }
    ASSERT_EQ(found, expected) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Published, PublishedPatternTest, ::testing::ValuesIn(kPublished),
                         [](const auto& published) { return published.param.name; });

}  // namespace
}  // namespace featurescope
