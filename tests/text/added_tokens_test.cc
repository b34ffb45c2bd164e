#include "server/text/added_tokens.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

std::string Cut(const AddedTokens& tokens, absl::string_view text, bool with_special = true) {
  std::string parts;
  tokens.Split(
      text, with_special,
      [&](absl::string_view part, size_t offset) {
        EXPECT_EQ(text.substr(offset, part.size()), part);
        absl::StrAppend(&parts, "[", part, "]");
      },
      [&](uint32_t id) { absl::StrAppend(&parts, "<", id, ">"); });
  return parts;
}

TEST(AddedTokensTest, LeftmostThenLongestWins) {
  AddedTokens tokens;
  tokens.Add("ab", 1);
  tokens.Add("abcd", 2);
  tokens.Add("bcdef", 3);
  tokens.Add("  ", 4);
  EXPECT_EQ(Cut(tokens, "xabcdefab"), "[x]<2>[ef]<1>");
  EXPECT_EQ(Cut(tokens, "abcx"), "<1>[cx]");
  EXPECT_EQ(Cut(tokens, "a bcde"), "[a bcde]");
  EXPECT_EQ(Cut(tokens, "     "), "<4><4>[ ]");
  EXPECT_EQ(Cut(tokens, "abab"), "<1><1>");
  EXPECT_EQ(Cut(tokens, ""), "");
}

TEST(AddedTokensTest, WithoutTokensTheTextStaysWhole) {
  EXPECT_EQ(Cut(AddedTokens(), "any text"), "[any text]");
}

TEST(AddedTokensTest, BytesAreMatchedNotCharacters) {
  AddedTokens tokens;
  tokens.Add("\xff\x80", 7);
  EXPECT_EQ(Cut(tokens, "a\xff\x80\xff"), "[a]<7>[\xff]");
}

// Expectations by tokenizers/src/tokenizer/added_vocabulary.rs of huggingface/tokenizers.
TEST(AddedTokensTest, WhiteSpaceBesideATokenGoesWithItWhereItSaysSo) {
  AddedTokens tokens;
  tokens.Add("<l>", 1, {.lstrip = true});
  tokens.Add("<r>", 2, {.rstrip = true});
  tokens.Add("<b>", 3, {.lstrip = true, .rstrip = true});
  EXPECT_EQ(Cut(tokens, "a \n<l> b"), "[a]<1>[ b]");
  EXPECT_EQ(Cut(tokens, "a <r>\u3000 b"), "[a ]<2>[b]");
  EXPECT_EQ(Cut(tokens, " <b> <b> <l>x"), "<3><3><1>[x]");
  EXPECT_EQ(Cut(tokens, "<r>  "), "<2>");
  EXPECT_EQ(Cut(tokens, "\x80 <b> \x80"), "[\x80]<3>[\x80]");
}

TEST(AddedTokensTest, SingleWordsAreNotFoundWithinWords) {
  AddedTokens tokens;
  tokens.Add("fox", 1, {.single_word = true});
  EXPECT_EQ(Cut(tokens, "fox foxes _fox fox-fox \u00e9fox\u00e9"),
            "<1>[ foxes _fox ]<1>[-]<1>[ \u00e9fox\u00e9]");
  EXPECT_EQ(Cut(tokens,
                "\xff"
                "fox\xc3"),
            "[\xff]<1>[\xc3]");
}

TEST(AddedTokensTest, SpecialOnesStayTextWholeWhereTheyAreLeftOut) {
  AddedTokens tokens;
  tokens.Add("<s>", 1, {.special = true});
  tokens.Add("s", 2);
  EXPECT_EQ(Cut(tokens, "s<s>s"), "<2><1><2>");
  EXPECT_EQ(Cut(tokens, "s<s>s", false), "<2>[<s>]<2>");
}

TEST(AddedTokensTest, SpacesThatAreTokensThatStripTakeTimeThatGrowsWithTheirNumberOnly) {
  AddedTokens tokens;
  tokens.Add(" ", 1, {.lstrip = true, .rstrip = true});
  size_t n = 0;
  tokens.Split(
      std::string(1 << 20, ' '), true, [](absl::string_view, size_t) {}, [&](uint32_t) { ++n; });
  EXPECT_EQ(n, size_t{1} << 20);
}

}  // namespace
}  // namespace featurescope
