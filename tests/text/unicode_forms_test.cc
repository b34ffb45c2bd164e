#include "server/text/unicode_forms.h"

#include <utf8proc.h>

#include <cstdlib>
#include <random>

#include "gtest/gtest.h"
#include "tests/text/unicode_text.h"

namespace featurescope {
namespace {

std::string Form(UnicodeForm form, absl::string_view text) {
  std::string out = "untouched";
  if (ToUnicodeForm(form, text, &out)) return out;
  EXPECT_EQ(out, "untouched");
  return std::string(text);
}

// The whole text at once, by the library.
std::string ByLibrary(UnicodeForm form, const std::string& text) {
  const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const int options = UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                      (compatible ? UTF8PROC_COMPAT : 0);
  utf8proc_uint8_t* bytes = nullptr;
  const utf8proc_ssize_t n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                          static_cast<utf8proc_ssize_t>(text.size()), &bytes,
                                          static_cast<utf8proc_option_t>(options));
  EXPECT_GE(n, 0);
  const std::string formed(reinterpret_cast<char*>(bytes), static_cast<size_t>(n));
  free(bytes);
  return formed;
}

TEST(UnicodeFormsTest, KnownTextsGetTheirForms) {
  EXPECT_EQ(Form(UnicodeForm::kNfc, "e\u0301"), "\u00e9");
  EXPECT_EQ(Form(UnicodeForm::kNfc, "a\u0323\u0307"), "\u1ea1\u0307");
  EXPECT_EQ(Form(UnicodeForm::kNfc, "\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(Form(UnicodeForm::kNfc, "\u212b\ufb01"), "\u00c5\ufb01");
  EXPECT_EQ(Form(UnicodeForm::kNfc, "\u0958"), "\u0915\u093c");  // is not composed again
  EXPECT_EQ(Form(UnicodeForm::kNfd, "\u00e9\ud55c"), "e\u0301\u1112\u1161\u11ab");
  EXPECT_EQ(Form(UnicodeForm::kNfkc, "\ufb01\uff21\u00b2\u1e9b\u0323"), "fiA2\u1e69");
  EXPECT_EQ(Form(UnicodeForm::kNfkd, "\u1e9b\u0323"), "s\u0323\u0307");
  EXPECT_EQ(Form(UnicodeForm::kNfc, std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(Form(UnicodeForm::kNfc, "plain \u00e9"), "plain \u00e9");
  EXPECT_EQ(Form(UnicodeForm::kNfc, ""), "");
}

TEST(UnicodeFormsTest, EveryFormEqualsThatOfTheWholeText) {
  std::mt19937 random(29);
  const char32_t hard[] = {U'e',      U'\u0301', U'\u0323', U'\u0307', U'\u00e9', U'\u0344',
                           U'\u1112', U'\u1161', U'\u11ab', U'\uac00', U'\ud55c', U'\u212b',
                           U'\u0958', U'\u093c', U'\ufdfa', U'\u1e9b', U'\u0f43', U'\U0001d15e',
                           U'\u3099', U'\u304b', U'\u09c7', U'\u09be', U'\ufb2c', U'\U0002f800'};
  for (int round = 0; round < 8000; ++round) {
    std::string text;
    if (round % 3 == 0) {
      text = UnicodeText(&random);
    } else {
      for (size_t n = random() % 12; n > 0; --n) {
        AppendUtf8(random() % 8 == 0 ? U'a' : hard[random() % std::size(hard)], &text);
      }
    }
    for (UnicodeForm form :
         {UnicodeForm::kNfc, UnicodeForm::kNfd, UnicodeForm::kNfkc, UnicodeForm::kNfkd}) {
      const std::string formed = Form(form, text);
      ASSERT_EQ(formed, ByLibrary(form, text)) << text;
      ASSERT_EQ(Form(form, formed), formed);
    }
  }
}

TEST(UnicodeFormsTest, RunsOfMarksAreSortedInReasonableTime) {
  std::string text = "a";
  for (int i = 0; i < 300'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string formed = Form(UnicodeForm::kNfc, text);  // hours, where neighbours are swapped
  EXPECT_EQ(formed.substr(0, 3), "\u1ea1");
  EXPECT_EQ(formed.size(), 3 + 299'999u * 2);
}

}  // namespace
}  // namespace featurescope
