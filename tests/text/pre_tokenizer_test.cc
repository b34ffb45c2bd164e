#include "server/text/pre_tokenizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

std::vector<std::string> Words(const Json& json, absl::string_view text, bool continues = false) {
  const auto steps = PreTokenizers::Create(json, "t: pre_tokenizer");
  EXPECT_TRUE(steps.ok()) << steps.status();
  std::vector<std::string> words;
  EXPECT_TRUE(steps
                  ->Split({text, !continues, continues},
                          [&](const TextPart& part) {
                            words.emplace_back(part.text);
                            return absl::OkStatus();
                          })
                  .ok());
  return words;
}

Json Split(const Json& pattern, const char* behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}
const Json kDash = {{"String", "-"}};

// By the table in the documentation of huggingface/tokenizers, of "the-final--countdown".
TEST(PreTokenizerTest, MatchesAreTreatedAsTheBehaviorSays) {
  const char* text = "the-final--countdown";
  EXPECT_THAT(Words(Split(kDash, "Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Words(Split(kDash, "Isolated"), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Words(Split(kDash, "MergedWithPrevious"), text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Words(Split(kDash, "MergedWithNext"), text),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Words(Split(kDash, "Contiguous"), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(Words(Split(kDash, "Removed", true), text), ElementsAre("-", "-", "-"));
  EXPECT_THAT(Words(Split(kDash, "Contiguous", true), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(Words(Split(kDash, "MergedWithPrevious"), "-a-"), ElementsAre("-", "a-"));
  EXPECT_THAT(Words(Split(kDash, "MergedWithNext"), "-a-"), ElementsAre("-a", "-"));
}

TEST(PreTokenizerTest, EachDoesWhatItsNameSays) {
  EXPECT_THAT(Words({{"type", "Digits"}, {"individual_digits", true}}, "a12\u00b2"),
              ElementsAre("a", "1", "2", "\u00b2"));
  EXPECT_THAT(Words({{"type", "Digits"}, {"individual_digits", false}}, "a12b"),
              ElementsAre("a", "12", "b"));
  EXPECT_THAT(Words({{"type", "Punctuation"}}, "a$, \u3002"),
              ElementsAre("a", "$", ",", " ", "\u3002"));
  EXPECT_THAT(Words({{"type", "Whitespace"}}, " a_1 b-- \u3000c"),
              ElementsAre("a_1", "b", "--", "c"));
  EXPECT_THAT(Words({{"type", "WhitespaceSplit"}}, " a-b\n c"), ElementsAre("a-b", "c"));
  EXPECT_THAT(Words({{"type", "WhitespaceSplit"}}, " \n"), IsEmpty());
  EXPECT_THAT(Words({{"type", "ByteLevel"}, {"add_prefix_space", false}}, "a b\u00e9"),
              ElementsAre("a", " b\u00e9"));
  EXPECT_THAT(
      Words({{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}}, "a b"),
      ElementsAre(" a b"));
}

Json Metaspace(const char* scheme, bool split) {
  return {
      {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", scheme}, {"split", split}};
}

TEST(PreTokenizerTest, MetaspaceMarksSpaces) {
  EXPECT_THAT(Words(Metaspace("always", true), "a b  c"), ElementsAre("_a", "_b", "_", "_c"));
  EXPECT_THAT(Words(Metaspace("always", false), " a b"), ElementsAre("_a_b"));
  EXPECT_THAT(Words(Metaspace("never", true), "a b"), ElementsAre("a", "_b"));
  EXPECT_THAT(Words(Metaspace("first", true), "a b"), ElementsAre("_a", "_b"));
  EXPECT_THAT(Words(Metaspace("first", true), "a b", /*continues=*/true), ElementsAre("a", "_b"));
  EXPECT_THAT(Words(Metaspace("always", true), "a b", /*continues=*/true), ElementsAre("a", "_b"));
  const Json old = {{"type", "Metaspace"}, {"replacement", "_"}, {"str_rep", "_"}};
  Json with = old, without = old;
  with["add_prefix_space"] = true;
  without["add_prefix_space"] = false;
  EXPECT_THAT(Words(with, "a"), ElementsAre("_a"));
  EXPECT_THAT(Words(without, "a"), ElementsAre("a"));
}

TEST(PreTokenizerTest, OnlyTheTextsFirstPartIsFirst) {
  const Json sequence = {{"type", "Sequence"},
                         {"pretokenizers", {Split(kDash, "Isolated"), Metaspace("first", false)}}};
  EXPECT_THAT(Words(sequence, "a-b"), ElementsAre("_a", "-", "b"));
  const Json always = {{"type", "Sequence"},
                       {"pretokenizers", {Split(kDash, "Isolated"), Metaspace("always", false)}}};
  EXPECT_THAT(Words(always, "a-b"), ElementsAre("_a", "_-", "_b"));
}

TEST(PreTokenizerTest, StepsBehindByteLevelSeeTheByteAlphabet) {
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  // The second byte of U+00F2 is 0xB2, which the alphabet writes as U+00B2, a number.
  const Json sequence = {
      {"type", "Sequence"},
      {"pretokenizers", {byte_level, {{"type", "Digits"}, {"individual_digits", false}}}}};
  EXPECT_THAT(Words(sequence, "a\u00f2"), ElementsAre("a\xc3", "\xb2"));
  EXPECT_TRUE(PreTokenizers::Create(sequence, "t")->byte_level());
}

TEST(PreTokenizerTest, ErrorsOfAPatternReachTheCaller) {
  const auto steps = PreTokenizers::Create(
      {{"type", "Sequence"},
       {"pretokenizers",
        {Split({{"Regex", "(a+)+(?!a)b|(a+a+)+c"}}, "Isolated"), Metaspace("first", true)}}},
      "t");
  ASSERT_TRUE(steps.ok()) << steps.status();
  const std::string text = std::string(50'000, 'a') + "d";
  EXPECT_TRUE(absl::IsResourceExhausted(
      steps->Split({text, true, false}, [](const TextPart&) { return absl::OkStatus(); })));
}

TEST(PreTokenizerTest, PatternsWithinPatternsDoNotDisturbOneAnother) {
  const Json sequence = {
      {"type", "Sequence"},
      {"pretokenizers",
       {Split({{"Regex", "[a-c]+;"}}, "Isolated"), Split({{"Regex", "[b]"}}, "Isolated"),
        Split({{"Regex", "[;]"}}, "Removed")}}};
  EXPECT_THAT(Words(sequence, "abc;xbx;cba;"),
              ElementsAre("a", "b", "c", "x", "b", "x", "c", "b", "a"));
}

TEST(PreTokenizerTest, OtherKindsAndOptionsAreRefusedByName) {
  const auto expect = [](const Json& json, absl::StatusCode code, const char* name) {
    const absl::Status status = PreTokenizers::Create(json, "t: pre_tokenizer").status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  };
  const auto unsupported = absl::StatusCode::kUnimplemented;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  expect({{"type", "BertPreTokenizer"}}, unsupported, "BertPreTokenizer");
  expect(Split(kDash, "Sideways"), unsupported, "Sideways");
  expect({{"type", "Sequence"}, {"pretokenizers", {byte_level, byte_level}}}, unsupported,
         "behind ByteLevel");
  expect({{"type", "Sequence"}, {"pretokenizers", {byte_level, Metaspace("first", true)}}},
         unsupported, "behind ByteLevel");
  expect(Metaspace("sometimes", true), unsupported, "sometimes");
  Json contrary = Metaspace("always", true);
  contrary["add_prefix_space"] = false;
  expect(contrary, invalid, "add_prefix_space");
  expect({{"type", "Digits"}}, invalid, "individual_digits");
  expect({{"type", "Whitespace"}, {"x", 1}}, unsupported, "option x");
  Json list = Json::array();
  for (int i = 0; i < 100; ++i) list.push_back({{"type", "Whitespace"}});
  expect({{"type", "Sequence"}, {"pretokenizers", list}}, invalid, "64");
}

}  // namespace
}  // namespace featurescope
