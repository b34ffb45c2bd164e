#include "server/text/byte_level_bpe.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/formats/test_files.h"
#include "tests/text/round_trip.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

// A tokenizer.json with the byte alphabet as ids 0 to 255 and two merges behind it.
Json SmallTokenizer() {
  Json vocab = Json::object();
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const uint32_t code = printable ? byte : next++;
    std::string entry;
    if (code < 0x80) {
      entry = std::string(1, static_cast<char>(code));
    } else {
      entry = {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    }
    vocab[entry] = byte;
  }
  vocab["he"] = 256;
  vocab["\u0120he"] = 257;
  Json json;
  json["added_tokens"] = Json::array({{{"id", 258}, {"content", "<|end|>"}, {"special", true}},
                                      {{"id", 259}, {"content", "<tool>"}, {"special", false}}});
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  json["post_processor"] = nullptr;
  json["decoder"] = {{"type", "ByteLevel"}};
  json["model"] = {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e", "\u0120 he"}}};
  return json;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(const Json& json,
                                                          const SpecialTokens& special = {}) {
  return ByteLevelBpeFromJson(json.dump(), "dir/tokenizer.json", special);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Demo() {
  return Tokenizer::Load(SourcePath("deploy/demo"));
}

TEST(ByteLevelBpeTest, MergesBytesAndKeepsAddedTokens) {
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

TEST(ByteLevelBpeTest, InvalidBytesAreTheirOwnSymbolsBetweenUsualNeighbours) {
  auto tokenizer = FromJson(SmallTokenizer());
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT(*(*tokenizer)->Encode("he\xff\xc3 he\xe2\x82"),
              ElementsAre(256, 0xff, 0xc3, 257, 0xe2, 0x82));
}

TEST(ByteLevelBpeTest, MergesMayBePairsOfStrings) {
  Json json = SmallTokenizer();
  json["model"]["merges"] = Json::array({{"h", "e"}, {"\u0120", "he"}});
  EXPECT_THAT(*(*FromJson(json))->Encode(" he"), ElementsAre(257));
}

TEST(ByteLevelBpeTest, WithIgnoreMergesAWholeWordIsItsToken) {
  Json json = SmallTokenizer();
  json["model"]["vocab"]["xyz"] = 300;
  EXPECT_THAT(*(*FromJson(json))->Encode("xyz"), ElementsAre('x', 'y', 'z'));
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(*(*FromJson(json))->Encode("xyz xyz"), ElementsAre(300, ' ', 'x', 'y', 'z'));
}

TEST(ByteLevelBpeTest, BosComesFromTheFilesBesideIt) {
  SpecialTokens special;
  special.bos_token = "<|end|>";
  auto tokenizer = *FromJson(SmallTokenizer(), special);
  EXPECT_EQ(tokenizer->bos_id(), 258u);
  EXPECT_TRUE(tokenizer->adds_bos());
  special.add_bos_token = false;
  EXPECT_FALSE((*FromJson(SmallTokenizer(), special))->adds_bos());
  special.add_bos_token.reset();
  special.tokenizer_class = "GPTNeoXTokenizer";
  EXPECT_FALSE((*FromJson(SmallTokenizer(), special))->adds_bos());

  SpecialTokens by_id;
  by_id.bos_token_id = 258;
  by_id.eos_token_id = 99999;  // of a model with padding rows
  EXPECT_EQ((*FromJson(SmallTokenizer(), by_id))->bos_id(), 258u);
  EXPECT_FALSE((*FromJson(SmallTokenizer(), by_id))->eos_id().has_value());

  Json json = SmallTokenizer();
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", Json::array({{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})}};
  EXPECT_EQ((*FromJson(json))->bos_id(), 258u);
  EXPECT_TRUE((*FromJson(json))->adds_bos());
}

TEST(ByteLevelBpeTest, OtherKindsAreRefusedByName) {
  const auto expect = [](const Json& json, const char* name) {
    const absl::Status status = FromJson(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << name << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/tokenizer.json"));
  };
  Json json = SmallTokenizer();
  json["model"]["type"] = "WordPiece";
  expect(json, "WordPiece");
  json = SmallTokenizer();
  json["normalizer"] = {{"type", "NFC"}};
  expect(json, "NFC");
  json = SmallTokenizer();
  json["pre_tokenizer"] = {{"type", "Metaspace"}};
  expect(json, "Metaspace");
  json["pre_tokenizer"] = nullptr;
  expect(json, "pre_tokenizer");
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  expect(json, "add_prefix_space");
  json["pre_tokenizer"] = {{"type", "ByteLevel"}};
  expect(json, "add_prefix_space");
  json["pre_tokenizer"] = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  expect(json, "use_regex");
  json = SmallTokenizer();
  json["decoder"] = {{"type", "WordPiece"}};
  expect(json, "decoder");
  json = SmallTokenizer();
  json["model"]["byte_fallback"] = true;
  expect(json, "byte_fallback");
  json = SmallTokenizer();
  json["model"]["dropout"] = 0.1;
  expect(json, "dropout");
  json = SmallTokenizer();
  json["model"]["end_of_word_suffix"] = "</w>";
  expect(json, "end_of_word_suffix");
  json = SmallTokenizer();
  json["added_tokens"][0]["lstrip"] = true;
  expect(json, "lstrip");
  json = SmallTokenizer();
  json["post_processor"] = {{"type", "BertProcessing"}};
  expect(json, "BertProcessing");
}

TEST(ByteLevelBpeTest, BadFilesAreRefusedSayingWhy) {
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
  json.erase("model");
  expect(json, "\"model\"");
  expect(Json::array(), "object");
  EXPECT_FALSE(ByteLevelBpeFromJson("{\"model\":", "t", {}).ok());
}

TEST(ByteLevelBpeTest, AllExpectedIdsOfGpt2) {
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

TEST(ByteLevelBpeTest, AllExpectedIdsOfTheDemoModel) {
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

TEST(ByteLevelBpeTest, EveryTextSurvivesARoundTrip) {
  const auto demo = Demo();
  ASSERT_TRUE(demo.ok()) << demo.status();
  const auto small = FromJson(SmallTokenizer());
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = HardText(&random);
    for (const auto& tokenizer : {*demo, *small}) {
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

TEST(ByteLevelBpeTest, EndlessWordsAreCutNotRefused) {
  auto tokenizer = *FromJson(SmallTokenizer());
  std::string text;
  while (text.size() < (2u << 20) + 100) text += "h\u00e9";
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode(text)), text);
}

TEST(ByteLevelBpeTest, ThreadsShareOneTokenizer) {
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

TEST(TokenizerTest, ReadsTheFilesBesideTheTokenizer) {
  TempDir dir;
  WriteBytes(dir / "tokenizer.json", SmallTokenizer().dump());
  WriteBytes(dir / "tokenizer_config.json",
             R"({"bos_token": {"content": "<|end|>"}, "tokenizer_class": "GPT2TokenizerFast"})");
  WriteBytes(dir / "config.json", R"({"eos_token_id": [259, 3]})");
  auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 258u);
  EXPECT_EQ((*tokenizer)->eos_id(), 259u);
  EXPECT_TRUE((*tokenizer)->IsSpecial(259));
  EXPECT_TRUE((*tokenizer)->adds_bos());
  EXPECT_EQ((*tokenizer)->hash().size(), 64u);
  WriteBytes(dir / "tokenizer_config.json", R"({"add_bos_token": "yes"})");
  EXPECT_THAT(std::string(Tokenizer::Load(dir.path()).status().message()),
              HasSubstr("add_bos_token"));
  WriteBytes(dir / "tokenizer_config.json", "{");
  EXPECT_FALSE(Tokenizer::Load(dir.path()).ok());
}

}  // namespace
}  // namespace featurescope
