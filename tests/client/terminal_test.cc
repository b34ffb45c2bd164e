#include "client/cli/terminal.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST(TerminalTest, TablesAlignTextLeftAndNumbersRight) {
  EXPECT_EQ(FormatTable(Terminal(), {"name", "n"}, {{"ü", "1"}, {"long", "200"}}),
            "name    n\nü       1\nlong  200\n");
}

TEST(TerminalTest, WithoutColourStrongTokensAreBracketed) {
  const Terminal plain;
  EXPECT_EQ(plain.Heat(" the", 0.9), "[ the]");
  EXPECT_EQ(plain.Heat(" the", 0.3), " the");
}

TEST(TerminalTest, WithColourTheTextIsStillThere) {
  Terminal colour;
  colour.out_is_terminal = true;
  EXPECT_THAT(colour.Heat("word", 1), HasSubstr("word"));
  EXPECT_NE(colour.Heat("word", 1), colour.Heat("word", 0.2));
  EXPECT_EQ(colour.Heat("word", 0), "word");
}

TEST(TerminalTest, NumbersAreShort) {
  EXPECT_EQ(FormatCount(950), "950");
  EXPECT_EQ(FormatCount(12'345), "12.3k");
  EXPECT_EQ(FormatCount(7'000'000), "7.00M");
  EXPECT_EQ(FormatDuration(59.6), "1:00");
  EXPECT_EQ(FormatDuration(3723), "1:02:03");
  EXPECT_EQ(FormatDuration(-5), "0:00");
}

}  // namespace
}  // namespace featurescope
