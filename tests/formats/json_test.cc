#include "server/formats/json.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/formats/file.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST(JsonTest, ReadsWhatTheLibraryReads) {
  const std::string text =
      R"({"a": [1, -2, 2.5, true, false, null, "x\u00e9"], "b": {"c": {}, "d": []}, "e": 1e3})";
  absl::StatusOr<nlohmann::json> json = ParseJson(text, "f.json");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json, nlohmann::json::parse(text));
  EXPECT_EQ(*ParseJson(" 3 ", "f.json"), 3);
}

TEST(JsonTest, RefusesMalformedTextNamingTheFile) {
  for (const char* text :
       {"", " ", "{", "[1,", "{\"a\"}", "{\"a\":1,}", "[1]2", "nul", "NaN", "{'a':1}", "\"\xff\"",
        "\"\\ud800\"", "1e999", "[1] ,", "\"\x01\"", "{\"a\":1 \"b\":2}"}) {
    const absl::Status status = ParseJson(text, "dir/f.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/f.json")) << text;
  }
}

TEST(JsonTest, RefusesDuplicateKeysAtAnyDepth) {
  EXPECT_THAT(std::string(ParseJson(R"({"a":1,"b":2,"a":3})", "f").status().message()),
              HasSubstr("\"a\" occurs twice"));
  EXPECT_FALSE(ParseJson(R"([{"x":{"k":1,"\u006b":2}}])", "f").ok());
  EXPECT_TRUE(ParseJson(R"({"a":{"a":{"a":1}}})", "f").ok());
}

TEST(JsonTest, CapsNesting) {
  EXPECT_TRUE(ParseJson("[[[1]]]", "f", 3).ok());
  EXPECT_THAT(std::string(ParseJson("[[[[1]]]]", "f", 3).status().message()),
              HasSubstr("deeper than 3"));
  EXPECT_FALSE(ParseJson(std::string(1 << 20, '['), "f").ok());
}

TEST(JsonTest, FieldsSayWhatIsWrongWithThem) {
  const nlohmann::json json = *ParseJson(
      R"({"n":12,"f":0.5,"big":18446744073709551615,"s":"x","b":true,"z":null,"three":3.0})", "c");
  EXPECT_EQ(*JsonInt(json, "n", "c"), 12);
  EXPECT_EQ(*JsonFloat(json, "n", "c"), 12.0);
  EXPECT_EQ(*JsonFloat(json, "f", "c", 0, 1), 0.5);
  EXPECT_EQ(*JsonString(json, "s", "c"), "x");
  EXPECT_TRUE(*JsonBool(json, "b", "c"));
  EXPECT_THAT(std::string(JsonInt(json, "n", "c.json", 1, 10).status().message()),
              HasSubstr("c.json: field \"n\" is 12, allowed is [1, 10]"));
  EXPECT_THAT(std::string(JsonInt(json, "none", "c.json").status().message()),
              HasSubstr("field \"none\" is missing"));
  EXPECT_FALSE(JsonInt(json, "three", "c").ok());
  EXPECT_FALSE(JsonInt(json, "big", "c").ok());
  EXPECT_FALSE(JsonInt(json, "z", "c").ok());
  EXPECT_FALSE(JsonInt(json, "b", "c").ok());
  EXPECT_FALSE(JsonString(json, "n", "c").ok());
  EXPECT_FALSE(JsonBool(json, "n", "c").ok());
  EXPECT_FALSE(JsonInt(nlohmann::json(3), "n", "c").ok());
}

TEST(JsonTest, DefaultsStandOnlyForAbsentFields) {
  const nlohmann::json json = *ParseJson(R"({"n":12,"s":"x","z":null})", "c");
  EXPECT_EQ(*JsonIntOr(json, "none", "c", 7), 7);
  EXPECT_EQ(*JsonIntOr(json, "z", "c", 7), 7);
  EXPECT_EQ(*JsonIntOr(json, "n", "c", 7), 12);
  EXPECT_FALSE(JsonIntOr(json, "s", "c", 7).ok());
  EXPECT_FALSE(JsonIntOr(json, "n", "c", 7, 0, 10).ok());
  EXPECT_EQ(*JsonFloatOr(json, "none", "c", 0.5), 0.5);
  EXPECT_EQ(*JsonBoolOr(json, "none", "c", true), true);
  EXPECT_EQ(*JsonStringOr(json, "none", "c", "d"), "d");
  EXPECT_FALSE(JsonStringOr(json, "n", "c", "d").ok());
}

TEST(JsonTest, LargeFilesAreRefusedBeforeReading) {
  TempDir dir;
  WriteBytes(dir / "a.json", "[1, 2, 3]");
  EXPECT_TRUE(ReadJsonFile(dir / "a.json").ok());
  EXPECT_EQ(ReadJsonFile(dir / "a.json", 4).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadJsonFile(dir / "b.json").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace featurescope
