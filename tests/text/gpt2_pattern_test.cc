#include "server/text/gpt2_pattern.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Pieces(absl::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t length = Gpt2PieceLength(text);
    pieces.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}

// Expected pieces follow from the pattern in gpt2_pattern.h, alternative by alternative.
TEST(Gpt2PatternTest, CutsAsThePatternDoes) {
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

TEST(Gpt2PatternTest, ContractionsAreOwnPieces) {
  EXPECT_THAT(Pieces("I'll don't we've he'd 'tis"),
              ElementsAre("I", "'ll", " don", "'t", " we", "'ve", " he", "'d", " '", "tis"));
  EXPECT_THAT(Pieces("'re"), ElementsAre("'re"));
  EXPECT_THAT(Pieces("'sam"), ElementsAre("'s", "am"));
  EXPECT_THAT(Pieces("'S 'l"), ElementsAre("'", "S", " '", "l"));
  EXPECT_THAT(Pieces("''s"), ElementsAre("''", "s"));
  EXPECT_THAT(Pieces("'"), ElementsAre("'"));
}

TEST(UnicodeClassTest, KnowsLettersNumbersAndSpaces) {
  for (char32_t c : {U'a', U'Z', U'é', U'中', U'ª', U'ʰ', U'ǅ'}) {
    EXPECT_EQ(ClassOf(c), CharClass::kLetter) << static_cast<uint32_t>(c);
  }
  for (char32_t c : {U'0', U'½', U'Ⅻ', U'٣'}) EXPECT_EQ(ClassOf(c), CharClass::kNumber);
  for (char32_t c : {U' ', U'\t', U'\v', U'\u0085', U'\u00a0', U'\u2003', U'\u2028', U'\u3000'}) {
    EXPECT_EQ(ClassOf(c), CharClass::kSpace) << static_cast<uint32_t>(c);
  }
  // U+180E and U+200B are no White_Space; U+0301 is a mark; U+10FFFF is nothing.
  for (char32_t c : {U'_', U'\u180e', U'\u200b', U'\u0301', U'🦙', U'\x1c', char32_t{0x10ffff},
                     char32_t{0xffffffff}}) {
    EXPECT_EQ(ClassOf(c), CharClass::kOther) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace featurescope
