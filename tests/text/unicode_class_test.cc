#include "server/text/unicode_class.h"

#include "gtest/gtest.h"

namespace featurescope {
namespace {

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

TEST(UnicodeClassTest, KnowsMarksPunctuationAndSymbols) {
  for (char32_t c : {U'\u0301', U'\u093f', U'\u20dd'}) EXPECT_TRUE(IsMark(c));
  for (char32_t c : {U'.', U'_', U'-', U'(', U'\u00ab', U'\u3002'}) EXPECT_TRUE(IsPunctuation(c));
  for (char32_t c : {U'+', U'$', U'^', U'\u2103', U'\U0001f999'}) EXPECT_TRUE(IsSymbol(c));
  for (char32_t c : {U'a', U'1', U' ', char32_t{0x10ffff}, char32_t{0xffffffff}}) {
    EXPECT_FALSE(IsMark(c) || IsPunctuation(c) || IsSymbol(c));
  }
}

TEST(UnicodeClassTest, WordCharactersAreLettersMarksDecimalsAndConnectors) {
  for (char32_t c :
       {U'a', U'Z', U'_', U'7', U'\u0301', U'\u2160', U'\u24d0', U'\u200d', U'\u203f'}) {
    EXPECT_TRUE(IsWordCharacter(c)) << static_cast<uint32_t>(c);
  }
  for (char32_t c : {U'-', U' ', U'\u00b2', U'\u00bd', U'$', U'\U0001f999'}) {
    EXPECT_FALSE(IsWordCharacter(c)) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace featurescope
