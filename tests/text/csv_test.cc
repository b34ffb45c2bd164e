#include "server/text/csv.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Fields(absl::string_view record, CsvDialect dialect = {}) {
  const auto fields = SplitCsvRecord(record, dialect);
  EXPECT_TRUE(fields.ok()) << fields.status();
  std::vector<std::string> texts;
  for (absl::string_view field : *fields) texts.push_back(CsvFieldText(field, dialect));
  return texts;
}

TEST(CsvTest, FieldsAreSplitAsRfc4180Says) {
  EXPECT_THAT(Fields("a,b,c"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Fields(""), ElementsAre(""));
  EXPECT_THAT(Fields(",,"), ElementsAre("", "", ""));
  EXPECT_THAT(Fields("\"a,b\",\"\",\"c\"\"d\",\"\"\"\""), ElementsAre("a,b", "", "c\"d", "\""));
  EXPECT_THAT(Fields("\"a\r\nb\",c"), ElementsAre("a\r\nb", "c"));
  EXPECT_THAT(Fields(" \"a\" ,b\"c"), ElementsAre(" \"a\" ", "b\"c"));
  EXPECT_THAT(Fields("a,b\tc", {'\t', true}), ElementsAre("a,b", "c"));
  EXPECT_THAT(Fields("\"a\tb\"", {'\t', false}), ElementsAre("\"a", "b\""));
}

TEST(CsvTest, BadQuotesAreNamedByField) {
  for (const auto& [record, message] : std::vector<std::pair<const char*, const char*>>{
           {"a,\"b", "field 2: its quotes are never closed"},
           {"\"", "field 1: its quotes are never closed"},
           {"\"\"\"", "field 1: its quotes are never closed"},
           {"a,b,\"c\"d", "field 3: something follows"},
           {"\"a\" ,b", "field 1: something follows"}}) {
    EXPECT_THAT(std::string(SplitCsvRecord(record, {}).status().message()), HasSubstr(message));
  }
}

TEST(CsvTest, AFieldStaysOpenOnlyInQuotes) {
  EXPECT_FALSE(CsvFieldStaysOpen("a,b", {}, false));
  EXPECT_TRUE(CsvFieldStaysOpen("a,\"b", {}, false));
  EXPECT_FALSE(CsvFieldStaysOpen("a,b\"c", {}, false));
  EXPECT_FALSE(CsvFieldStaysOpen("\"a\"\"\"", {}, false));
  EXPECT_TRUE(CsvFieldStaysOpen("\"a\"\"", {}, false));
  EXPECT_TRUE(CsvFieldStaysOpen("", {}, true));
  EXPECT_TRUE(CsvFieldStaysOpen("a,b", {}, true));
  EXPECT_FALSE(CsvFieldStaysOpen("a\",b", {}, true));
  EXPECT_TRUE(CsvFieldStaysOpen("a\",\"b", {}, true));
  EXPECT_FALSE(CsvFieldStaysOpen("\"a", {',', false}, false));
}

// What is written with quotes is read back, whole or line by line.
TEST(CsvTest, AnyFieldsSurviveARoundTrip) {
  std::mt19937 random(3);
  const std::string alphabet = "\"\",\n\r\tab";
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> fields(1 + random() % 4);
    std::string record;
    for (size_t i = 0; i < fields.size(); ++i) {
      for (size_t n = random() % 6; n > 0; --n) fields[i] += alphabet[random() % alphabet.size()];
      const bool quoted =
          fields[i].find_first_of("\"\n,") != std::string::npos || random() % 2 == 0;
      absl::StrAppend(
          &record, i == 0 ? "" : ",",
          quoted ? absl::StrCat("\"", absl::StrReplaceAll(fields[i], {{"\"", "\"\""}}), "\"")
                 : fields[i]);
    }
    ASSERT_EQ(Fields(record), fields) << record;
    bool open = false;
    const std::vector<std::string> lines = absl::StrSplit(record, '\n');
    for (size_t i = 0; i < lines.size(); ++i) {
      open = CsvFieldStaysOpen(lines[i], {}, open);
      ASSERT_EQ(open, i + 1 < lines.size()) << record;
    }
  }
}

}  // namespace
}  // namespace featurescope
