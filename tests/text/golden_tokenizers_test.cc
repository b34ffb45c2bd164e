// Tokenizers of every kind against huggingface/tokenizers; tests/golden/tokenizers/generate.mjs
// says how the expected ids were made.

#include <filesystem>
#include <map>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/sentencepiece_model.h"
#include "server/text/tokenizer_json.h"
#include "tests/formats/test_files.h"
#include "tests/text/round_trip.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

Json Golden(const std::string& name) {
  return Json::parse(ReadBytes(SourcePath("tests/golden/tokenizers/" + name + ".json")));
}

Json TokenizerOf(const Json& golden) {
  if (!golden.contains("shares")) return golden["tokenizer"];
  Json json = Golden(golden["shares"].get<std::string>())["tokenizer"];
  json["pre_tokenizer"] = golden["pre_tokenizer"];
  return json;
}

void ExpectCases(const Tokenizer& tokenizer, const Json& cases) {
  ASSERT_GT(cases.size(), 30u);
  for (const Json& one : cases) {
    const std::string text = one["text"].get<std::string>();
    const Ids expected = one["ids"].get<Ids>();
    const auto ids = tokenizer.Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    ASSERT_EQ(*ids, expected) << Json(text).dump();
    if (!one.contains("decoded")) continue;
    EXPECT_EQ(tokenizer.Decode(expected), one["decoded"].get<std::string>()) << Json(text).dump();
  }
}

class GoldenTokenizersTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const Json golden = Golden(GetParam());
    cases_ = golden["cases"];
    auto tokenizer = TokenizerFromJson(TokenizerOf(golden).dump(), GetParam(), {});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }

  Json cases_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(GoldenTokenizersTest, GivesTheExpectedIdsAndTexts) { ExpectCases(*tokenizer_, cases_); }

TEST_P(GoldenTokenizersTest, EncodesAnyBytesAndKeepsThemWhereItSaysSo) {
  std::mt19937 random(23);
  for (int round = 0; round < 1500; ++round) {
    const std::string text = HardText(&random);
    for (bool parse_special : {true, false}) {
      const auto ids = tokenizer_->Encode(text, parse_special);
      ASSERT_TRUE(ids.ok()) << ids.status();
      for (uint32_t id : *ids) ASSERT_LT(id, tokenizer_->vocab_size());
      const std::string decoded = tokenizer_->Decode(*ids);
      if (tokenizer_->keeps_text()) ASSERT_EQ(decoded, text);
    }
  }
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& file :
       std::filesystem::directory_iterator(SourcePath("tests/golden/tokenizers"))) {
    const std::string name = file.path().stem().string();
    if (file.path().extension() == ".json" && name != "neox_vectors") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}
INSTANTIATE_TEST_SUITE_P(Files, GoldenTokenizersTest, ::testing::ValuesIn(GoldenNames()),
                         [](const auto& name) { return name.param; });

TEST(GoldenTokenizersTest, AllKindsAreThere) { EXPECT_GE(GoldenNames().size(), 37u); }

TEST(NeoxTokenizerTest, AllExpectedIds) {
  const std::string dir = SharedPath("data/tokenizers/neox");
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not here";
  auto tokenizer = Tokenizer::Load(dir);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectCases(**tokenizer, Golden("neox_vectors")["cases"]);
  EXPECT_EQ((*tokenizer)->bos_id(), 0u);
  EXPECT_EQ((*tokenizer)->vocab_size(), 50277u);
  EXPECT_EQ(*(*tokenizer)->Encode("Hello world"), (Ids{12092, 1533}));
}

// Llama 2's tokenizer.json, made of its tokenizer.model the way transformers converts it.
Json LlamaJson(const SentencePieceModel& model) {
  Json vocab = Json::object();
  std::map<std::string, uint32_t> ids;
  for (uint32_t id = 0; id < model.pieces.size(); ++id) {
    vocab[model.pieces[id].text] = id;
    ids[model.pieces[id].text] = id;
  }
  // Merges in the order of their results' scores; of one result, in the order of its parts' ids.
  std::vector<uint32_t> order;
  for (uint32_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].is_text()) order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(), [&model](uint32_t a, uint32_t b) {
    return model.pieces[a].score > model.pieces[b].score;
  });
  Json merges = Json::array();
  for (uint32_t id : order) {
    const std::string& text = model.pieces[id].text;
    std::vector<std::pair<std::pair<uint32_t, uint32_t>, Json>> ways;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = ids.find(text.substr(0, cut));
      const auto right = ids.find(text.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      ways.push_back({{left->second, right->second}, {left->first, right->first}});
    }
    std::sort(ways.begin(), ways.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& way : ways) merges.push_back(way.second);
  }
  Json json = Golden("llama2")["tokenizer"];
  json["model"]["vocab"] = vocab;
  json["model"]["merges"] = merges;
  return json;
}

TEST(LlamaTokenizerTest, ItsJsonFormGivesTheExpectedIds) {
  const std::string dir = SharedPath("data/tokenizers/llama2");
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not here";
  const auto model = ReadSentencePieceModel(ReadBytes(dir + "/tokenizer.model"), dir);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = TokenizerFromJson(LlamaJson(*model).dump(), "tokenizer.json", {});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Json vectors = Json::parse(ReadBytes(dir + "/vectors.json"));
  ASSERT_GT(vectors.size(), 30u);
  for (const Json& vector : vectors) {
    const std::string text = vector["text"].get<std::string>();
    EXPECT_EQ(*(*tokenizer)->Encode(text), vector["ids"].get<Ids>()) << text;
    EXPECT_EQ((*tokenizer)->Decode(vector["ids"].get<Ids>()), text);
  }
  EXPECT_EQ((*tokenizer)->bos_id(), 1u);
  EXPECT_TRUE((*tokenizer)->adds_bos());
}

}  // namespace
}  // namespace featurescope
