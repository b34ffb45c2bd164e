#include "server/text/normalizer.h"

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string Normalized(const Json& json, absl::string_view text, TextPlace place = {}) {
  const auto normalizer = Normalizer::Create(json, "t: normalizer");
  EXPECT_TRUE(normalizer.ok()) << normalizer.status();
  std::string out;
  const auto changed = (*normalizer)->Apply(text, &place, &out);
  EXPECT_TRUE(changed.ok()) << changed.status();
  return *changed ? out : std::string(text);
}

// Against huggingface/tokenizers: golden_tokenizers_test.cc.

TEST(NormalizerTest, EachDoesWhatItsNameSays) {
  EXPECT_EQ(Normalized({{"type", "NFC"}}, "e\u0301"), "\u00e9");
  EXPECT_EQ(Normalized({{"type", "Lowercase"}}, "\u00c4B\u0130\u01c5\u03a3"),
            "\u00e4bi\u0307\u01c6\u03c3");
  EXPECT_EQ(Normalized({{"type", "StripAccents"}}, "e\u0301\u093fx"), "ex");
  EXPECT_EQ(Normalized({{"type", "Prepend"}, {"prepend", "_"}}, "a"), "_a");
  EXPECT_EQ(Normalized({{"type", "Prepend"}, {"prepend", "_"}}, ""), "");
  EXPECT_EQ(
      Normalized({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "_"}}, "a  b"),
      "a__b");
  EXPECT_EQ(Normalized({{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
                       "a \n\u3000b"),
            "a b");
  EXPECT_EQ(
      Normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, "\u3000 a "),
      "a ");
  EXPECT_EQ(Normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, "  "), "");
  EXPECT_EQ(Normalized({{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Lowercase"}}, {{"type", "Prepend"}, {"prepend", "X"}}}}},
                       "A"),
            "Xa");
  EXPECT_EQ(Normalized({{"type", "Sequence"}, {"normalizers", Json::array()}}, "A"), "A");
}

TEST(NormalizerTest, OnlySectionsGetAPrefixAndLoseTheirEnds) {
  const TextPlace middle = {.opens_section = false, .closes_section = false, .opens_text = false};
  EXPECT_EQ(Normalized({{"type", "Prepend"}, {"prepend", "_"}}, "a", middle), "a");
  EXPECT_EQ(
      Normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, " a ", middle),
      " a ");
}

TEST(NormalizerTest, DroppedBeginningsAreNoted) {
  const auto opens = [](const Json& json, absl::string_view text) {
    TextPlace place;
    std::string out;
    EXPECT_TRUE((*Normalizer::Create(json, "t"))->Apply(text, &place, &out).ok());
    return place.opens_text;
  };
  const Json strip = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}};
  EXPECT_FALSE(opens(strip, " a"));
  EXPECT_TRUE(opens(strip, "a "));
  const Json drop = {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", ""}};
  EXPECT_FALSE(opens(drop, "xa"));
  EXPECT_TRUE(opens(drop, "ax"));
  EXPECT_FALSE(opens({{"type", "StripAccents"}}, "\u0301a"));
}

TEST(NormalizerTest, OtherKindsAndBadOptionsAreRefusedByName) {
  const auto expect = [](const Json& json, absl::StatusCode code, const char* name) {
    const absl::Status status = Normalizer::Create(json, "t: normalizer").status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    EXPECT_THAT(std::string(status.message()), HasSubstr("t: normalizer"));
  };
  const auto unsupported = absl::StatusCode::kUnimplemented;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  expect({{"type", "BertNormalizer"}}, unsupported, "BertNormalizer");
  expect({{"type", "NFC"}, {"x", 1}}, unsupported, "option x");
  expect(Json::array(), invalid, "object");
  expect(Json::object(), invalid, "type");
  expect({{"type", "Prepend"}}, invalid, "prepend");
  expect({{"type", "Strip"}, {"strip_left", 1}, {"strip_right", true}}, invalid, "strip_left");
  expect({{"type", "Replace"}, {"content", ""}}, invalid, "pattern");
  expect({{"type", "Replace"}, {"pattern", {{"Regex", "[["}}}, {"content", ""}}, unsupported, "[[");
  expect({{"type", "Sequence"}, {"normalizers", 1}}, invalid, "normalizers");
  expect({{"type", "Precompiled"}, {"precompiled_charsmap", "###"}}, invalid, "base64");
  Json deep = {{"type", "NFC"}};
  for (int i = 0; i < 5; ++i) deep = {{"type", "Sequence"}, {"normalizers", {deep}}};
  EXPECT_TRUE(Normalizer::Create(deep, "t").ok());
}

// A double array with "a" -> "b" and "xy" -> "z": units 0 to 255 and the texts behind them.
std::string SmallCharsmap() {
  std::vector<uint32_t> units(256, 0);
  const auto put = [&](size_t at, uint32_t label, bool leaf, uint32_t offset) {
    units[at] = label | (leaf ? 1u << 8 : 0) | offset << 10;
  };
  put(0, 0, false, 1);                 // children at 1 ^ label
  put(1 ^ 'a', 'a', true, 2);          // value at (1 ^ 'a') ^ 2
  units[(1 ^ 'a') ^ 2] = 0x80000000u;  // text 0
  put(1 ^ 'x', 'x', false, 4);         // child at (1 ^ 'x') ^ 4 ^ 'y'
  const size_t y = (1 ^ 'x') ^ 4 ^ 'y';
  put(y, 'y', true, 8);
  units[y ^ 8] = 0x80000000u | 2;  // text 2
  std::string bytes;
  const auto append = [&bytes](uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(value >> shift));
  };
  append(static_cast<uint32_t>(units.size() * 4));
  for (uint32_t unit : units) append(unit);
  return bytes + std::string("b\0z\0", 4);
}

Json Precompiled(absl::string_view bytes) {
  return {{"type", "Precompiled"}, {"precompiled_charsmap", absl::Base64Escape(bytes)}};
}

TEST(CharsmapTest, MapsCharactersAndSequencesWithinOneCluster) {
  EXPECT_EQ(Normalized(Precompiled(SmallCharsmap()), "cat"), "cbt");
  EXPECT_EQ(Normalized(Precompiled(SmallCharsmap()), "xy"), "xy");      // two clusters
  EXPECT_EQ(Normalized(Precompiled(SmallCharsmap()), "a\u0301"), "b");  // one, by its shortest key
}

TEST(CharsmapTest, DamagedMapsAreRefusedOrStayWithinThemselves) {
  const std::string good = SmallCharsmap();
  uint32_t random = 7;
  const auto next = [&random](size_t n) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % n;
  };
  int n_loaded = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = good;
    for (size_t i = 0; i <= next(20); ++i)
      damaged[next(damaged.size())] = static_cast<char>(next(256));
    if (next(8) == 0) damaged.resize(next(damaged.size()));
    const auto normalizer = Normalizer::Create(Precompiled(damaged), "t");
    if (!normalizer.ok()) continue;
    ++n_loaded;
    TextPlace place;
    std::string out;
    EXPECT_TRUE((*normalizer)->Apply("a xyz \u00e9\u0301\U0001f999 cat", &place, &out).ok());
  }
  EXPECT_GT(n_loaded, 100);
}

TEST(CharsmapTest, MapsToLongOrBrokenTextsAreRefused) {
  EXPECT_FALSE(Normalizer::Create(Precompiled(SmallCharsmap() + std::string(300, 'x')), "t").ok());
  EXPECT_FALSE(Normalizer::Create(Precompiled(SmallCharsmap() + "\xff"), "t").ok());
  EXPECT_FALSE(Normalizer::Create(Precompiled("abc"), "t").ok());
  EXPECT_FALSE(Normalizer::Create(Precompiled(std::string("\xff\xff\xff\xff", 4)), "t").ok());
}

}  // namespace
}  // namespace featurescope
