#include "server/text/display.h"

#include <random>

#include "gtest/gtest.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

TEST(DisplayTest, WhatCannotBeSeenIsMadeVisible) {
  EXPECT_EQ(DisplayToken(" the"), " the");
  EXPECT_EQ(DisplayToken("\n\n\t"), "↵↵⇥");
  EXPECT_EQ(DisplayToken("\r\x1b\x7f"), "␍␛␡");
  EXPECT_EQ(DisplayToken(absl::string_view("\0", 1)), "␀");
  EXPECT_EQ(DisplayToken("caf\xc3"), "caf⟨c3⟩");
  EXPECT_EQ(DisplayToken("\x80\xff"), "⟨80⟩⟨ff⟩");
  EXPECT_EQ(DisplayToken("é中🦙"), "é中🦙");
  EXPECT_EQ(DisplayToken("\u200b\u202e\u2028\u0085"), "⟨U+200B⟩⟨U+202E⟩⟨U+2028⟩⟨U+0085⟩");
  EXPECT_EQ(DisplayToken(""), "");
}

TEST(DisplayTest, AnyBytesGiveValidTextWithoutControls) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 12, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string display = DisplayToken(bytes);
    ASSERT_EQ(ValidUtf8Prefix(display), display.size());
    for (char c : display) ASSERT_FALSE(static_cast<unsigned char>(c) < 0x20 || c == 0x7f);
    ASSERT_EQ(display.empty(), bytes.empty());
  }
}

}  // namespace
}  // namespace featurescope
