#include "server/text/tokenizer_json.h"

#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/formats/test_files.h"
#include "tests/text/round_trip.h"
#include "tests/text/small_tokenizer.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

absl::StatusOr<std::shared_ptr<Tokenizer>> FromJson(const Json& json,
                                                    const SpecialTokens& special = {}) {
  return TokenizerFromJson(json.dump(), "dir/tokenizer.json", special);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Demo() {
  return Tokenizer::Load(SourcePath("deploy/demo"));
}

TEST(TokenizerJsonTest, MergesBytesAndKeepsAddedTokens) {
  auto tokenizer = FromJson(SmallTokenizer());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("he he<|end|>h<tool>"), ElementsAre(256, 257, 258, 'h', 259));
  EXPECT_THAT(*(*tokenizer)->Encode("<|end|><tool>", false),
              ElementsAre('<', '|', 'e', 'n', 'd', '|', '>', 259));
  EXPECT_EQ((*tokenizer)->vocab_size(), 260u);
  EXPECT_EQ((*tokenizer)->TokenBytes(257), " he");
  EXPECT_EQ((*tokenizer)->TokenBytes(0xff), "\xff");
  EXPECT_EQ((*tokenizer)->TokenBytes(258), "<|end|>");
  EXPECT_EQ((*tokenizer)->TokenBytes(9999), "");
  EXPECT_TRUE((*tokenizer)->IsSpecial(258));
  EXPECT_FALSE((*tokenizer)->IsSpecial(259));
  EXPECT_FALSE((*tokenizer)->bos_id().has_value());
  EXPECT_FALSE((*tokenizer)->adds_bos());
}

TEST(TokenizerJsonTest, InvalidBytesAreTheirOwnSymbolsBetweenUsualNeighbours) {
  auto tokenizer = FromJson(SmallTokenizer());
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT(*(*tokenizer)->Encode("he\xff\xc3 he\xe2\x82"),
              ElementsAre(256, 0xff, 0xc3, 257, 0xe2, 0x82));
}

TEST(TokenizerJsonTest, MergesMayBePairsOfStrings) {
  Json json = SmallTokenizer();
  json["model"]["merges"] = Json::array({{"h", "e"}, {"\u0120", "he"}});
  EXPECT_THAT(*(*FromJson(json))->Encode(" he"), ElementsAre(257));
}

TEST(TokenizerJsonTest, WithIgnoreMergesAWholeWordIsItsToken) {
  Json json = SmallTokenizer();
  json["model"]["vocab"]["xyz"] = 300;
  EXPECT_THAT(*(*FromJson(json))->Encode("xyz"), ElementsAre('x', 'y', 'z'));
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(*(*FromJson(json))->Encode("xyz xyz"), ElementsAre(300, ' ', 'x', 'y', 'z'));
}

TEST(TokenizerJsonTest, OtherKindsAreRefusedByName) {
  const auto expect = [](const Json& json, const char* name) {
    const absl::Status status = FromJson(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << name << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/tokenizer.json"));
  };
  const auto with = [](const char* section, const Json& value) {
    Json json = SmallTokenizer();
    json[section] = value;
    return json;
  };
  for (const char* type : {"WordPiece", "WordLevel", "Foo"}) {
    Json json = SmallTokenizer();
    json["model"]["type"] = type;
    expect(json, type);
  }
  for (const char* type : {"BertNormalizer", "Nmt", "ByteLevel"}) {
    expect(with("normalizer", {{"type", type}}), type);
    expect(with("normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", type}}}}}), type);
  }
  for (const char* type : {"BertPreTokenizer", "CharDelimiterSplit", "UnicodeScripts"}) {
    expect(with("pre_tokenizer", {{"type", type}}), type);
  }
  for (const char* type : {"WordPiece", "BPEDecoder", "CTC"}) {
    expect(with("decoder", {{"type", type}}), type);
  }
  for (const char* type : {"BertProcessing", "RobertaProcessing"}) {
    expect(with("post_processor", {{"type", type}}), type);
  }
  expect(with("extra", 1), "extra");
  expect(with("normalizer", {{"type", "NFC"}, {"strict", true}}), "strict");
  expect(with("decoder", {{"type", "ByteLevel"}, {"errors", "strict"}}), "errors");
  expect(with("pre_tokenizer", {{"type", "Digits"}, {"individual_digits", true}, {"hex", 1}}),
         "hex");
  const std::pair<const char*, Json> options[] = {{"dropout", 0.1},
                                                  {"end_of_word_suffix", "</w>"},
                                                  {"continuing_subword_prefix", "##"},
                                                  {"cache_capacity", 7}};
  for (const auto& [key, value] : options) {
    Json json = SmallTokenizer();
    json["model"][key] = value;
    expect(json, key);
  }
  Json json = SmallTokenizer();
  json["added_tokens"][0]["fuzzy"] = true;
  expect(json, "fuzzy");
  // Without bytes, what is not in the vocabulary would be dropped.
  json = with("pre_tokenizer", nullptr);
  expect(json, "byte_fallback");
  json["model"]["byte_fallback"] = true;
  expect(json, "byte_fallback");
}

TEST(TokenizerJsonTest, BadFilesAreRefusedSayingWhy) {
  const auto expect = [](const Json& json, const char* message) {
    const absl::Status status = FromJson(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  Json json = SmallTokenizer();
  json["model"]["vocab"].erase("a");
  expect(json, "byte 97");
  json = SmallTokenizer();
  json["model"]["vocab"]["he"] = 97;
  expect(json, "another token");
  json = SmallTokenizer();
  json["model"]["vocab"]["he"] = -1;
  expect(json, "\"he\"");
  json["model"]["vocab"]["he"] = 4000000000u;
  expect(json, "\"he\"");
  json["model"]["vocab"]["he"] = 200000;  // in a vocabulary of 258
  expect(json, "allowed is [0, 67600]");
  json["model"]["vocab"]["he"] = 1.5;
  expect(json, "\"he\"");
  json = SmallTokenizer();
  json["model"]["merges"].push_back("q q");
  expect(json, "merge 2");
  json["model"]["merges"][2] = "qq";
  expect(json, "merge 2");
  json["model"]["merges"][2] = "q q q";
  expect(json, "merge 2");
  json["model"]["merges"][2] = 7;
  expect(json, "merge 2");
  json["model"]["merges"] = "none";
  expect(json, "merges");
  json = SmallTokenizer();
  json["added_tokens"][0]["id"] = 3;
  expect(json, "disagrees");
  json["added_tokens"][0]["id"] = 4000000000u;
  expect(json, "\"id\"");
  json["added_tokens"][0] = {{"id", 258}, {"content", ""}};
  expect(json, "empty");
  json = SmallTokenizer();
  json["model"]["unk_token"] = "<?>";
  json["pre_tokenizer"] = nullptr;
  expect(json, "unk_token");
  json = SmallTokenizer();
  json["pre_tokenizer"] = {{"type", "ByteLevel"}};
  expect(json, "add_prefix_space");
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"String", ""}}}, {"behavior", "Isolated"}};
  expect(json, "empty");
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
  expect(json, "pattern (");
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
  expect(json, "replacement");
  json["pre_tokenizer"] = 7;
  expect(json, "pre_tokenizer");
  json = SmallTokenizer();
  json.erase("model");
  expect(json, "\"model\"");
  expect(Json::array(), "object");
  EXPECT_FALSE(TokenizerFromJson("{\"model\":", "t", {}).ok());
}

TEST(TokenizerJsonTest, AllExpectedIdsOfGpt2) {
  const std::string dir = SharedPath("data/tokenizers/gpt2");
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not here";
  auto tokenizer = Tokenizer::Load(dir);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Json vectors = Json::parse(ReadBytes(dir + "/vectors.json"));
  ASSERT_GT(vectors.size(), 30u);
  for (const Json& vector : vectors) {
    const std::string text = vector["text"].get<std::string>();
    EXPECT_EQ(*(*tokenizer)->Encode(text), vector["ids"].get<Ids>()) << text;
    EXPECT_EQ((*tokenizer)->Decode(vector["ids"].get<Ids>()), text);
  }
  EXPECT_EQ((*tokenizer)->bos_id(), 50256u);
  EXPECT_EQ((*tokenizer)->vocab_size(), 50257u);
  EXPECT_TRUE((*tokenizer)->adds_bos());
  EXPECT_THAT(*(*tokenizer)->Encode("a<|endoftext|>b"), ElementsAre(64, 50256, 65));
}

TEST(TokenizerJsonTest, AllExpectedIdsOfTheDemoModel) {
  auto loaded = Demo();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  auto tokenizer = *loaded;
  const Json expected = Json::parse(ReadBytes(SourcePath("deploy/demo/expected.json")));
  ASSERT_GE(expected.size(), 6u);
  for (const Json& prompt : expected) {
    Ids ids = *tokenizer->Encode(prompt["text"].get<std::string>());
    ids.insert(ids.begin(), *tokenizer->bos_id());
    EXPECT_EQ(ids, prompt["ids"].get<Ids>()) << prompt["text"];
    // The greedy text ends within a character where its tokens do.
    EXPECT_EQ(tokenizer->Decode(prompt["greedy_24"].get<Ids>()).substr(0, 60),
              prompt["greedy_text"].get<std::string>().substr(0, 60));
  }
  EXPECT_EQ(tokenizer->bos_id(), 0u);
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(TokenizerJsonTest, TheConfigBesideItDecidesOnThePrefixSpace) {
  SpecialTokens special;
  special.add_prefix_space = true;
  auto tokenizer = *FromJson(SmallTokenizer(), special);
  EXPECT_THAT(*tokenizer->Encode("he"), ElementsAre(257));
  EXPECT_FALSE(tokenizer->keeps_text());
  EXPECT_TRUE((*FromJson(SmallTokenizer()))->keeps_text());
}

TEST(TokenizerJsonTest, AddedTokensOfTheConfigAreFoundToo) {
  SpecialTokens special;
  special.added.push_back({"<pad>", 260, false, {.special = true}});
  special.added.push_back({"he", 256, false, {}});
  auto tokenizer = FromJson(SmallTokenizer(), special);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("a<pad> he"), ElementsAre('a', 260, ' ', 256));
  special.added[0].id = 3;
  EXPECT_FALSE(FromJson(SmallTokenizer(), special).ok());
}

TEST(TokenizerJsonTest, EveryTextSurvivesARoundTrip) {
  const auto demo = Demo();
  ASSERT_TRUE(demo.ok()) << demo.status();
  const auto small = FromJson(SmallTokenizer());
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = HardText(&random);
    for (const std::shared_ptr<const Tokenizer>& tokenizer :
         {*demo, std::shared_ptr<const Tokenizer>(*small)}) {
      ASSERT_TRUE(tokenizer->keeps_text());
      for (bool parse_special : {true, false}) {
        const Ids ids = *tokenizer->Encode(text, parse_special);
        ASSERT_EQ(tokenizer->Decode(ids), text);
        std::string bytes;
        for (uint32_t id : ids) bytes += tokenizer->TokenBytes(id);
        ASSERT_EQ(bytes, text);
      }
    }
  }
}

TEST(TokenizerJsonTest, EndlessWordsAreCutNotRefused) {
  auto tokenizer = *FromJson(SmallTokenizer());
  std::string text;
  while (text.size() < (2u << 20) + 100) text += "h\u00e9";
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode(text)), text);
}

TEST(TokenizerJsonTest, ThreadsShareOneTokenizer) {
  auto loaded = Demo();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  auto tokenizer = *loaded;
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  std::mt19937 random(9);
  for (int i = 0; i < 200; ++i) {
    texts.push_back(HardText(&random));
    expected.push_back(*tokenizer->Encode(texts.back()));
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) {
        if (*tokenizer->Encode(texts[i]) != expected[i]) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(TokenizerTest, ADirectoryWithoutTokenizerNamesBothFiles) {
  TempDir dir;
  const absl::Status status = Tokenizer::Load(dir.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json nor tokenizer.model"));
}

}  // namespace
}  // namespace featurescope
