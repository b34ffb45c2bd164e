#include "server/text/sentencepiece_tokenizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/formats/test_files.h"
#include "tests/text/round_trip.h"
#include "tests/text/sentencepiece_model_bytes.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

// A BPE model: <unk>, <s>, </s>, 256 bytes, "\u2581" (259), "h", "e", "he", "\u2581he" (263).
std::string SmallModel(bool with_bytes = true,
                       const std::string& normalizer = BytesField(1, "identity")) {
  const std::string reserved = with_bytes ? ReservedPieces()
                                          : PieceField("<unk>", kUnknown, 0) +
                                                PieceField("<s>", kControl, 0) +
                                                PieceField("</s>", kControl, 0);
  return reserved + PieceField("\u2581", kNormal, -3) + PieceField("h", kNormal, -4) +
         PieceField("e", kNormal, -5) + PieceField("he", kNormal, -1) +
         PieceField("\u2581he", kNormal, -2) + TrainerField(kBpe, with_bytes) +
         BytesField(3, normalizer);
}

absl::StatusOr<std::shared_ptr<Tokenizer>> FromModel(const std::string& model,
                                                     const SpecialTokens& special = {}) {
  return SentencePieceFromModel(model, "dir/tokenizer.model", special);
}

TEST(SentencePieceTest, TextsGetAPrefixSpaceAndLoseItInDecoding) {
  auto tokenizer = FromModel(SmallModel());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("he he"), ElementsAre(263, 263));
  EXPECT_THAT(*(*tokenizer)->Encode(" he"), ElementsAre(259, 263));
  EXPECT_THAT(*(*tokenizer)->Encode(""), ElementsAre());
  EXPECT_EQ((*tokenizer)->Decode({263, 263}), "he he");
  EXPECT_EQ((*tokenizer)->Decode({1, 263}), "<s> he");
  EXPECT_EQ((*tokenizer)->TokenBytes(263), " he");
  EXPECT_EQ((*tokenizer)->TokenBytes(3 + 0x0a), "\n");
  EXPECT_EQ((*tokenizer)->bos_id(), 1u);
  EXPECT_EQ((*tokenizer)->eos_id(), 2u);
  EXPECT_TRUE((*tokenizer)->adds_bos());
  EXPECT_TRUE((*tokenizer)->IsSpecial(2));
  EXPECT_FALSE((*tokenizer)->IsSpecial(3));
  SpecialTokens special;
  special.add_bos_token = false;
  EXPECT_FALSE((*FromModel(SmallModel(), special))->adds_bos());
}

TEST(SentencePieceTest, ModelsWithoutPrefixSpaceGetNone) {
  auto tokenizer = FromModel(
      SmallModel(true, BytesField(1, "identity") + VarintField(3, 0) + VarintField(4, 0)));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("he he"), ElementsAre(262, 263));
  EXPECT_EQ((*tokenizer)->Decode({263}), " he");
}

TEST(SentencePieceTest, SpecialTokensAreFoundInTextOrNot) {
  auto tokenizer = *FromModel(SmallModel());
  EXPECT_THAT(*tokenizer->Encode("he</s>he<s>"), ElementsAre(263, 2, 262, 1));
  const Ids as_text = *tokenizer->Encode("<s>", false);
  EXPECT_THAT(as_text, ElementsAre(259, 3 + '<', 3 + 's', 3 + '>'));
  EXPECT_EQ(tokenizer->Decode(as_text), "<s>");
}

TEST(SentencePieceTest, WhatIsNoTextForTheModelBecomesBytePieces) {
  auto tokenizer = *FromModel(SmallModel());
  EXPECT_THAT(*tokenizer->Encode("he\xffhe"), ElementsAre(263, 3 + 0xff, 262));
  EXPECT_THAT(*tokenizer->Encode("\u2581"), ElementsAre(259, 3 + 0xe2, 3 + 0x96, 3 + 0x81));
}

TEST(SentencePieceTest, ExtraSpacesAreKeptWhateverTheModelSays) {
  auto tokenizer = *FromModel(SmallModel(true, BytesField(1, "identity") + VarintField(4, 1)));
  EXPECT_THAT(*tokenizer->Encode(" he  he "), ElementsAre(259, 263, 259, 263, 259));
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode(" he  he ")), " he  he ");
}

TEST(SentencePieceTest, ModelsThatChangeTextsAreRefused) {
  const auto code = [](const std::string& model) { return FromModel(model).status().code(); };
  EXPECT_EQ(code(SmallModel(false)), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(
      code(SmallModel(true, BytesField(1, "nmt_nfkc") + BytesField(2, "map") + VarintField(4, 0))),
      absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code(SmallModel(true, VarintField(4, 0) + VarintField(5, 0))),
            absl::StatusCode::kUnimplemented);
}

TEST(SentencePieceTest, TruncatedModelsAreRefusedOrIncomplete) {
  const std::string model = SmallModel();
  for (size_t size = 0; size < model.size(); size += 7) {
    EXPECT_FALSE(FromModel(model.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(FromModel("no model at all").ok());
  EXPECT_THAT(std::string(FromModel("\xff\xff\xff").status().message()),
              HasSubstr("dir/tokenizer.model"));
}

TEST(SentencePieceTest, DamagedModelsAreRefusedOrStillKeepTexts) {
  const std::string model = SmallModel();
  std::mt19937 random(19);
  int n_loaded = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string damaged = model;
    for (int i = 0; i <= round % 3; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    auto tokenizer = FromModel(damaged);
    if (!tokenizer.ok()) continue;
    ++n_loaded;
    const std::string text = HardText(&random);
    auto ids = (*tokenizer)->Encode(text);
    if (ids.ok()) (void)(*tokenizer)->Decode(*ids);
  }
  EXPECT_GT(n_loaded, 0);
}

TEST(SentencePieceTest, EndlessWordsAreCutNotRefused) {
  auto tokenizer = *FromModel(SmallModel());
  std::string text;
  while (text.size() < (2u << 20) + 100) text += "h\u00e9";
  const Ids ids = *tokenizer->Encode(text);
  EXPECT_EQ(tokenizer->Decode(ids), text);
}

TEST(SentencePieceTest, TextsOfSpaceMarksTakeTimeThatGrowsWithTheirLengthOnly) {
  auto tokenizer = *FromModel(SmallModel());
  std::string text;
  while (text.size() < 4u << 20) text += "\u2581";  // hours, where the rest is read for each
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode(text)), text);
}

TEST(TokenizerTest, TokenizerModelStandsInForAJsonOfAnotherKind) {
  TempDir dir;
  WriteBytes(dir / "tokenizer.json",
             R"({"model": {"type": "BPE"}, "normalizer": {"type": "Nmt"}})");
  EXPECT_EQ(Tokenizer::Load(dir.path()).status().code(), absl::StatusCode::kUnimplemented);
  WriteBytes(dir / "tokenizer.model", SmallModel());
  auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("he"), ElementsAre(263));
  WriteBytes(dir / "tokenizer.json", "{");
  EXPECT_EQ(Tokenizer::Load(dir.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

class RealModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    dir_ = SharedPath(GetParam());
    if (!std::filesystem::exists(dir_)) GTEST_SKIP() << dir_ << " is not here";
    auto tokenizer = Tokenizer::Load(dir_);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }

  std::string dir_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(RealModelTest, AllExpectedIds) {
  if (std::filesystem::exists(dir_ + "/vectors.json")) {
    const Json vectors = Json::parse(ReadBytes(dir_ + "/vectors.json"));
    ASSERT_GT(vectors.size(), 30u);
    for (const Json& vector : vectors) {
      const std::string text = vector["text"].get<std::string>();
      EXPECT_EQ(*tokenizer_->Encode(text), vector["ids"].get<Ids>()) << text;
      EXPECT_EQ(tokenizer_->Decode(vector["ids"].get<Ids>()), text);
    }
    return;
  }
  // stories260K: the ids of its stories begin with BOS; decoding and encoding gives them again.
  const Json expected = Json::parse(ReadBytes(dir_ + "/expected.json"));
  std::vector<std::string> texts;
  const std::string corpus = ReadBytes(SharedPath("data/corpora/tinystories_1000.jsonl"));
  for (size_t at = 0; at < corpus.size(); at = corpus.find('\n', at) + 1) {
    texts.push_back(Json::parse(corpus.substr(at, corpus.find('\n', at) - at))["text"]);
  }
  ASSERT_GE(expected["stories"].size(), 20u);
  for (const Json& story : expected["stories"]) {
    Ids ids = story["ids"].get<Ids>();
    ASSERT_EQ(ids[0], *tokenizer_->bos_id());
    ids.erase(ids.begin());
    const std::string& text = texts.at(story["text_index"].get<size_t>());
    Ids encoded = *tokenizer_->Encode(text);
    ASSERT_GE(encoded.size(), ids.size());
    encoded.resize(ids.size());
    EXPECT_EQ(encoded, ids);
    EXPECT_EQ(tokenizer_->Decode(ids), text.substr(0, tokenizer_->Decode(ids).size()));
  }
}

TEST_P(RealModelTest, EveryTextSurvivesARoundTrip) {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = HardText(&random);
    for (bool parse_special : {true, false}) {
      const Ids ids = *tokenizer_->Encode(text, parse_special);
      ASSERT_EQ(tokenizer_->Decode(ids), text) << round;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RealModelTest,
                         ::testing::Values("data/tokenizers/llama2", "data/stories260K"),
                         [](const auto& model) { return model.index == 0 ? "llama2" : "stories"; });

TEST(SentencePieceTest, EveryTextSurvivesARoundTrip) {
  auto tokenizer = *FromModel(SmallModel());
  std::mt19937 random(13);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = HardText(&random);
    ASSERT_EQ(tokenizer->Decode(*tokenizer->Encode(text)), text) << round;
    ASSERT_EQ(tokenizer->Decode(*tokenizer->Encode(text, false)), text) << round;
  }
}

}  // namespace
}  // namespace featurescope
