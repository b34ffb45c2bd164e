#include "server/text/added_tokens.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

std::string Cut(const AddedTokens& tokens, absl::string_view text) {
  std::string parts;
  tokens.Split(
      text,
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

}  // namespace
}  // namespace featurescope
