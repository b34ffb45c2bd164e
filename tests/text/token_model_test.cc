#include "server/text/token_model.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/token_decoder.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

struct Loaded {
  Vocabulary vocabulary;
  std::unique_ptr<const TokenModel> model;
};

Loaded Load(const Json& json) {
  Loaded loaded;
  auto model = TokenModel::Create(json, "t", /*byte_level=*/false, &loaded.vocabulary);
  EXPECT_TRUE(model.ok()) << model.status();
  if (model.ok()) loaded.model = *std::move(model);
  return loaded;
}
Ids Encode(const Json& json, absl::string_view word) {
  Ids ids;
  Load(json).model->Encode(word, &ids);
  return ids;
}

// Entries get the ids in their order.
Json Bpe(const std::vector<std::string>& entries,
         const std::vector<std::pair<std::string, std::string>>& merge_pairs = {}) {
  Json vocab = Json::object();
  for (size_t i = 0; i < entries.size(); ++i) vocab[entries[i]] = i;
  Json merges = Json::array();
  for (const auto& [left, right] : merge_pairs) merges.push_back(Json::array({left, right}));
  return {{"type", "BPE"}, {"unk_token", "?"}, {"vocab", vocab}, {"merges", merges}};
}
std::vector<std::string> WithBytes(std::vector<std::string> entries) {
  for (int byte = 0; byte < 256; ++byte) entries.push_back(absl::StrFormat("<0x%02X>", byte));
  return entries;
}

// Against huggingface/tokenizers: golden_tokenizers_test.cc.

TEST(BpeModelTest, UnknownCharactersAreOneTokenEachOrFused) {
  Json json = Bpe({"?", "a", "b"});
  EXPECT_THAT(Encode(json, "axyb\u00e9"), ElementsAre(1, 0, 0, 2, 0));
  json["fuse_unk"] = true;
  EXPECT_THAT(Encode(json, "axyb\u00e9"), ElementsAre(1, 0, 2, 0));
}

TEST(BpeModelTest, ByteFallbackGoesBeforeUnknown) {
  Json json = Bpe(WithBytes({"?", "a"}));
  json["byte_fallback"] = true;
  EXPECT_THAT(Encode(json, "a\u00e9"), ElementsAre(1, 2 + 0xc3, 2 + 0xa9));
  json["vocab"].erase("<0xA9>");
  json["vocab"].erase("<0xFF>");
  EXPECT_THAT(Encode(json, "a\u00e9"), ElementsAre(1, 0));
  Ids ids;
  const Loaded loaded = Load(json);
  loaded.model->EncodeByte(0xc3, &ids);
  loaded.model->EncodeByte(0xff, &ids);  // as U+FFFD, whose bytes have tokens
  EXPECT_THAT(ids, ElementsAre(2 + 0xc3, 2 + 0xef, 2 + 0xbf, 2 + 0xbd));
  EXPECT_FALSE(loaded.model->keeps_text());
}

TEST(BpeModelTest, PartsEndOnlyWhereNoTokenGoesOn) {
  const Json json = Bpe({"?", "\u2581", "a", "b", "\u2581a", "b\u2581", "\u2581\u2581"},
                        {{"\u2581", "a"}, {"b", "\u2581"}, {"\u2581", "\u2581"}});
  const Loaded loaded = Load(json);
  EXPECT_EQ(loaded.model->PartLength("a\u2581a"), 1u);  // "a\u2581" is in no token
  EXPECT_EQ(loaded.model->PartLength("b\u2581a"), 5u);  // "b\u2581" is
  EXPECT_EQ(loaded.model->PartLength("a\u2581\u2581a"), 1u);
  EXPECT_EQ(loaded.model->PartLength("\u2581\u2581a"), 7u);  // runs of marks stay together
  EXPECT_EQ(loaded.model->PartLength("?\u2581"), 1u);
  Json whole_words = json;
  whole_words["ignore_merges"] = true;
  EXPECT_EQ(Load(whole_words).model->PartLength("a\u2581a"), 5u);
}

TEST(BpeModelTest, EncodingPartByPartGivesTheSameAsAtOnce) {
  const Json json =
      Bpe({"?", "\u2581", "a", "b", "\u2581a", "b\u2581", "\u2581\u2581", "\u2581ab", "ab"},
          {{"\u2581", "\u2581"}, {"a", "b"}, {"\u2581", "a"}, {"b", "\u2581"}, {"\u2581", "ab"}});
  const Loaded loaded = Load(json);
  uint32_t random = 3;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) {
      random = random * 1664525 + 1013904223;
      text += std::vector<std::string>{"a", "b", "\u2581", "c"}[(random >> 16) % 4];
    }
    Ids at_once, in_parts;
    loaded.model->Encode(text, &at_once);
    for (absl::string_view rest = text; !rest.empty();) {
      const size_t length = loaded.model->PartLength(rest);
      ASSERT_GE(length, 1u);
      loaded.model->Encode(rest.substr(0, length), &in_parts);
      rest.remove_prefix(length);
    }
    ASSERT_EQ(in_parts, at_once) << text;
  }
}

Json Unigram(const std::vector<std::pair<std::string, double>>& entries) {
  Json vocab = Json::array();
  for (const auto& [text, score] : entries) vocab.push_back(Json::array({text, score}));
  return {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}};
}

// The example of huggingface/tokenizers' documentation.
TEST(UnigramModelTest, TheHighestSumOfScoresWins) {
  const Json json = Unigram({{"?", 0},
                             {"a", 0},
                             {"b", 0},
                             {"c", 0},
                             {"d", 0},
                             {"cd", 1},
                             {"ab", 2},
                             {"abc", 5},
                             {"abcd", 10}});
  EXPECT_THAT(Encode(json, "abcdacdxx"), ElementsAre(8, 1, 5, 0));
  EXPECT_THAT(Encode(json, "x?x"), ElementsAre(0));
  EXPECT_THAT(Encode(json, ""), ElementsAre());
}

TEST(UnigramModelTest, ByteFallbackStandsForUnknownCharacters) {
  std::vector<std::pair<std::string, double>> entries = {{"?", 0}, {"a", -1}};
  for (const std::string& entry : WithBytes({})) entries.emplace_back(entry, -5);
  Json json = Unigram(entries);
  json["byte_fallback"] = true;
  EXPECT_THAT(Encode(json, "a\u00e9"), ElementsAre(1, 2 + 0xc3, 2 + 0xa9));
  EXPECT_THAT(Encode(json, "?"), ElementsAre(0));
}

TEST(TokenModelTest, BadModelsAreRefusedSayingWhy) {
  const auto expect = [](const Json& json, absl::StatusCode code, const char* message) {
    Vocabulary vocabulary;
    const absl::Status status = TokenModel::Create(json, "t", false, &vocabulary).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(status.message()), HasSubstr("t: model"));
  };
  const auto unsupported = absl::StatusCode::kUnimplemented;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  expect(Json::array(), invalid, "object");
  expect(Json::object(), unsupported, "BPE and Unigram");
  expect({{"type", 7}}, invalid, "type");
  Json json = Bpe({"?", "a"});
  json["vocab"]["b"] = 1u;
  expect(json, invalid, "another token");
  json = Bpe({"?", "a"});
  json["vocab"]["b"] = uint64_t{kMaxTokenId} + 1;
  expect(json, invalid, "allowed");
  json = Bpe({"?", "a"}, {{"a", "a"}});
  expect(json, invalid, "merge 0");
  json = Unigram({{"?", 0}});
  json["unk_id"] = 1;
  expect(json, invalid, "unk_id");
  json["unk_id"] = nullptr;
  expect(json, unsupported, "unk_id");
  json = Unigram({{"?", 0}, {"?", 1}});
  expect(json, invalid, "the ids 0 and 1");
  json["vocab"][1] = Json::array({"a", "b"});
  expect(json, invalid, "vocab[1]");
  json["vocab"][1] = Json::array({std::string(600, 'a'), 1});
  expect(json, invalid, "600");
  json["vocab"] = Json::array();
  expect(json, invalid, "empty");
  json = Unigram({{"?", 0}});
  json["alpha"] = 0.1;
  expect(json, unsupported, "alpha");
}

// Decoders, by tokenizers/src/decoders of huggingface/tokenizers.
std::string Decoded(const Json& json, const std::vector<std::string>& tokens) {
  const auto decoder = TokenDecoder::Create(json, "t");
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    text += i == 0 ? *decoder->FirstTokenBytes(tokens[i]) : *decoder->TokenBytes(tokens[i]);
  }
  decoder->Finish(&text);
  return text;
}

TEST(TokenDecoderTest, EachDoesWhatItsNameSays) {
  EXPECT_EQ(Decoded({{"type", "ByteLevel"}}, {"\u0120a", "\u00c3", "\u00a9", "\u4e2d"}),
            " a\u00e9\u4e2d");
  EXPECT_EQ(Decoded({{"type", "ByteFallback"}}, {"<0xC3>", "<0xa9>", "<0xG0>", "<0x1>"}),
            "\u00e9<0xG0><0x1>");
  EXPECT_EQ(Decoded({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "always"}},
                    {"__a", "_b"}),
            "a b");
  EXPECT_EQ(Decoded({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "never"}},
                    {"_a", "_b"}),
            " a b");
  EXPECT_EQ(
      Decoded({{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}}, {"_a"}),
      " a");
  const Json strip = {{"type", "Strip"}, {"content", "_"}, {"start", 1}, {"stop", 1}};
  EXPECT_EQ(Decoded(strip, {"__a_", "_b"}), "_ab");
  const Json fused = {{"type", "Sequence"}, {"decoders", {{{"type", "Fuse"}}, strip}}};
  EXPECT_EQ(Decoded(fused, {"__a_", "_b"}), "_a__b");
  EXPECT_EQ(
      Decoded({{"type", "Replace"}, {"pattern", {{"Regex", "[_-]"}}}, {"content", " "}}, {"_a-b"}),
      " a b");
}

TEST(TokenDecoderTest, OtherKindsAndOrdersAreRefusedByName) {
  for (const Json& json : {Json{{"type", "WordPiece"}}, Json{{"type", "Fuse"}, {"x", 1}},
                           Json{{"type", "Sequence"},
                                {"decoders", {{{"type", "Fuse"}}, {{"type", "ByteFallback"}}}}}}) {
    EXPECT_TRUE(absl::IsUnimplemented(TokenDecoder::Create(json, "t").status())) << json;
  }
}

}  // namespace
}  // namespace featurescope
