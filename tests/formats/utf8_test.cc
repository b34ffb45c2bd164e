#include "server/formats/utf8.h"

#include "gtest/gtest.h"

namespace featurescope {
namespace {

std::string Encode(char32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  if (c < 0x10000) {
    return {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
            static_cast<char>(0x80 | (c & 63))};
  }
  return {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
          static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
}

TEST(Utf8Test, AcceptsEveryCodePointButSurrogates) {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    const std::string text = Encode(c);
    const bool surrogate = c >= 0xd800 && c <= 0xdfff;
    ASSERT_EQ(Utf8SequenceLength(text), surrogate ? 0 : static_cast<int>(text.size()))
        << static_cast<uint32_t>(c);
    if (!surrogate) {
      ASSERT_EQ(Utf8CodePoint(text, static_cast<int>(text.size())), c);
    }
  }
}

TEST(Utf8Test, RefusesOverLongTruncatedAndTooLarge) {
  for (const char* text :
       {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\x80", "\xff", "\xc3",
        "\xe2\x82", "\xf0\x9f\x98", "\xe2\x28\xa1", "\xc3("}) {
    EXPECT_EQ(Utf8SequenceLength(text), 0) << PrintableUtf8(text);
  }
  EXPECT_EQ(Utf8SequenceLength(""), 0);
}

TEST(Utf8Test, ValidPrefixStopsAtTheFirstBadByte) {
  EXPECT_EQ(ValidUtf8Prefix("abc\xc3\xa9\xff z"), 5u);
  EXPECT_EQ(ValidUtf8Prefix(""), 0u);
}

TEST(Utf8Test, CutsFallBetweenCharacters) {
  const std::string text = "a\xc3\xa9\xf0\x9f\xa6\x99z";
  const size_t expected[] = {0, 1, 1, 3, 3, 3, 3, 7, 8, 8};
  for (size_t at = 0; at < 10; ++at) EXPECT_EQ(Utf8CutBefore(text, at), expected[at]) << at;
}

TEST(Utf8Test, PrintableTextHasNoControlsAndNoInvalidBytes) {
  EXPECT_EQ(PrintableUtf8(absl::string_view("a\n\0\xff\xc3\xa9", 6)), "a\\x0a\\x00\\xff\xc3\xa9");
  EXPECT_EQ(PrintableUtf8("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace featurescope
