// The rules of special_tokens.h, one by one, on tokenizers loaded from directories.

#include "server/text/special_tokens.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/tokenizer.h"
#include "tests/formats/test_files.h"
#include "tests/text/sentencepiece_model_bytes.h"
#include "tests/text/small_tokenizer.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class SpecialTokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    json_ = SmallTokenizer();
    json_["added_tokens"].push_back({{"id", 260}, {"content", "<s>"}, {"special", true}});
    json_["added_tokens"].push_back({{"id", 261}, {"content", "</s>"}, {"special", false}});
  }
  void Write(const char* name, const Json& json) { WriteBytes(dir_ / name, json.dump()); }
  absl::StatusOr<std::shared_ptr<const Tokenizer>> TryLoad() {
    Write("tokenizer.json", json_);
    return Tokenizer::Load(dir_.path());
  }
  std::shared_ptr<const Tokenizer> Load() {
    auto tokenizer = TryLoad();
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *tokenizer;
  }
  static Json Template(const Json& single, const Json& special_tokens) {
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", Json::array()},
            {"special_tokens", special_tokens}};
  }
  static Json Token(const char* id) { return {{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; }
  const Json text_ = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};

  TempDir dir_;
  Json json_;
};

TEST_F(SpecialTokensTest, WithoutAnyWordThereIsNoBos) {
  EXPECT_FALSE(Load()->bos_id().has_value());
  EXPECT_FALSE(Load()->eos_id().has_value());
  EXPECT_FALSE(Load()->adds_bos());
  EXPECT_TRUE(Load()->eos_ids().empty());
}

TEST_F(SpecialTokensTest, WithoutAnyWordEndOfTextIsBoth) {
  json_["added_tokens"].push_back({{"id", 262}, {"content", "<|endoftext|>"}, {"special", true}});
  EXPECT_EQ(Load()->bos_id(), 262u);
  EXPECT_EQ(Load()->eos_id(), 262u);
  EXPECT_TRUE(Load()->adds_bos());
  Write("config.json", {{"eos_token_id", 260}});
  EXPECT_FALSE(Load()->bos_id().has_value());
}

TEST_F(SpecialTokensTest, TheConfigNamesTokensAsTextsOrObjects) {
  Write("tokenizer_config.json", {{"bos_token", {{"__type", "AddedToken"}, {"content", "<s>"}}},
                                  {"eos_token", "</s>"},
                                  {"pad_token", "<tool>"}});
  const auto tokenizer = Load();
  EXPECT_EQ(tokenizer->bos_id(), 260u);
  EXPECT_EQ(tokenizer->eos_id(), 261u);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_TRUE(tokenizer->IsSpecial(261));
  EXPECT_TRUE(tokenizer->IsSpecial(259));
}

TEST_F(SpecialTokensTest, TheMapStandsInForTheConfig) {
  Write("special_tokens_map.json",
        {{"bos_token", "<s>"},
         {"eos_token", {{"content", "</s>"}}},
         {"additional_special_tokens", {"<tool>", {{"content", "he"}}}}});
  EXPECT_EQ(Load()->bos_id(), 260u);
  EXPECT_EQ(Load()->eos_id(), 261u);
  EXPECT_TRUE(Load()->IsSpecial(259));
  EXPECT_TRUE(Load()->IsSpecial(256));
  Write("tokenizer_config.json", {{"bos_token", "</s>"}});
  EXPECT_EQ(Load()->bos_id(), 261u);
}

TEST_F(SpecialTokensTest, IdsOfTheModelsConfigStandInForTexts) {
  Write("config.json", {{"bos_token_id", 260}, {"eos_token_id", 99999}});  // a row of padding
  EXPECT_EQ(Load()->bos_id(), 260u);
  EXPECT_FALSE(Load()->eos_id().has_value());
  EXPECT_TRUE(Load()->adds_bos());
  Write("generation_config.json", {{"bos_token_id", 258}});
  EXPECT_EQ(Load()->bos_id(), 258u);
  Write("tokenizer_config.json", {{"bos_token", "<s>"}});
  EXPECT_EQ(Load()->bos_id(), 260u);
}

TEST_F(SpecialTokensTest, AllTokensThatEndATextAreListed) {
  Write("config.json", {{"eos_token_id", {259, 3, 99999}}});
  EXPECT_EQ(Load()->eos_id(), 259u);
  EXPECT_THAT(Load()->eos_ids(), ElementsAre(3, 259));
  Write("generation_config.json", {{"eos_token_id", {258, 260}}});
  EXPECT_THAT(Load()->eos_ids(), ElementsAre(258, 260));
  Write("tokenizer_config.json", {{"eos_token", "</s>"}});
  EXPECT_EQ(Load()->eos_id(), 261u);
  EXPECT_THAT(Load()->eos_ids(), ElementsAre(258, 260, 261));
}

TEST_F(SpecialTokensTest, TheTemplateSaysWhichBosAndThatTextsGetIt) {
  json_["post_processor"] =
      Template({Token("<s>"), text_}, {{"<s>", {{"id", "<s>"}, {"ids", {260}}}}});
  Write("tokenizer_config.json", {{"bos_token", "</s>"}, {"tokenizer_class", "GPTNeoXTokenizer"}});
  EXPECT_EQ(Load()->bos_id(), 260u);
  EXPECT_TRUE(Load()->adds_bos());
  json_["post_processor"] = {
      {"type", "Sequence"},
      {"processors", {{{"type", "ByteLevel"}, {"trim_offsets", false}}, json_["post_processor"]}}};
  EXPECT_EQ(Load()->bos_id(), 260u);
  json_["post_processor"] = Template(Json::array({text_}), Json::object());
  EXPECT_EQ(Load()->bos_id(), 261u);
  EXPECT_FALSE(Load()->adds_bos());
}

TEST_F(SpecialTokensTest, AddBosTokenGoesBeforeTheTemplate) {
  json_["post_processor"] =
      Template({Token("<s>"), text_}, {{"<s>", {{"id", "<s>"}, {"ids", {260}}}}});
  Write("tokenizer_config.json", {{"add_bos_token", false}});
  EXPECT_FALSE(Load()->adds_bos());
  json_["post_processor"] = nullptr;
  Write("tokenizer_config.json",
        {{"add_bos_token", true}, {"bos_token", "<s>"}, {"tokenizer_class", "Qwen2TokenizerFast"}});
  EXPECT_TRUE(Load()->adds_bos());
}

TEST_F(SpecialTokensTest, WithoutAddBosTokenTheKindOfTokenizerDecides) {
  for (const char* name : {"GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "Qwen2Tokenizer"}) {
    Write("tokenizer_config.json", {{"bos_token", "<s>"}, {"tokenizer_class", name}});
    EXPECT_FALSE(Load()->adds_bos()) << name;
    EXPECT_EQ(Load()->bos_id(), 260u);
  }
  Write("tokenizer_config.json", {{"bos_token", "<s>"}, {"tokenizer_class", "GPT2Tokenizer"}});
  EXPECT_TRUE(Load()->adds_bos());
}

TEST_F(SpecialTokensTest, ABosThatIsNullInTheConfigIsNotAdded) {
  Write("tokenizer_config.json", {{"bos_token", nullptr}});
  Write("config.json", {{"bos_token_id", 260}});
  EXPECT_EQ(Load()->bos_id(), 260u);
  EXPECT_FALSE(Load()->adds_bos());
}

TEST_F(SpecialTokensTest, OtherTemplatesAreRefusedByName) {
  const auto expect = [this](const Json& processor, absl::StatusCode code, const char* message) {
    json_["post_processor"] = processor;
    const absl::Status status = TryLoad().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  const Json ids = {{"<s>", {{"id", "<s>"}, {"ids", {260}}}}};
  expect(Template({text_, Token("<s>")}, ids), absl::StatusCode::kUnimplemented, "in front");
  expect(Template({Token("<s>"), Token("<s>"), text_}, ids), absl::StatusCode::kUnimplemented,
         "in front");
  expect(Template({Token("<s>"), text_}, {{"<s>", {{"ids", {260, 261}}}}}),
         absl::StatusCode::kUnimplemented, "one id");
  expect(Template({Token("<x>"), text_}, Json::object()), absl::StatusCode::kInvalidArgument,
         "<x>");
  expect(Template({Token("<s>"), text_}, {{"<s>", {{"ids", {7000}}}}}),
         absl::StatusCode::kInvalidArgument, "<s>");
  json_["post_processor"] = nullptr;
  Write("tokenizer_config.json", {{"add_eos_token", true}});
  EXPECT_TRUE(absl::IsUnimplemented(TryLoad().status()));
}

TEST_F(SpecialTokensTest, AddedTokensComeFromTheConfigToo) {
  Write("tokenizer_config.json",
        {{"added_tokens_decoder",
          {{"300", {{"content", "<pad>"}, {"special", true}, {"lstrip", true}}}}}});
  EXPECT_THAT(*Load()->Encode("a  <pad>"), ElementsAre('a', 300));
  EXPECT_TRUE(Load()->IsSpecial(300));
  for (const Json& bad :
       {Json{{"x", {{"content", "<pad>"}}}}, Json{{"9999999", {{"content", "<pad>"}}}},
        Json{{"999999", {{"content", "<pad>"}}}}, Json{{"300", {{"content", ""}}}},
        Json::array()}) {
    Write("tokenizer_config.json", {{"added_tokens_decoder", bad}});
    EXPECT_FALSE(TryLoad().ok()) << bad;
  }
}

TEST_F(SpecialTokensTest, MalformedFilesAreRefusedNamingFileAndField) {
  Write("tokenizer_config.json", {{"add_bos_token", "yes"}});
  EXPECT_THAT(std::string(TryLoad().status().message()), HasSubstr("add_bos_token"));
  WriteBytes(dir_ / "tokenizer_config.json", "{");
  EXPECT_THAT(std::string(TryLoad().status().message()), HasSubstr("tokenizer_config.json"));
  Write("tokenizer_config.json", Json::array());
  EXPECT_FALSE(TryLoad().ok());
}

class SentencePieceSpecialTokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteBytes(dir_ / "tokenizer.model", ReservedPieces() + PieceField("\u2581", kNormal, -3) +
                                             PieceField("h", kNormal, -4) + TrainerField(kBpe) +
                                             BytesField(3, BytesField(1, "identity")));
  }
  void Write(const char* name, const Json& json) { WriteBytes(dir_ / name, json.dump()); }
  absl::StatusOr<std::shared_ptr<const Tokenizer>> Load() { return Tokenizer::Load(dir_.path()); }
  TempDir dir_;
};

TEST_F(SentencePieceSpecialTokensTest, TheModelsOwnTokensCountUnlessTheConfigNamesOthers) {
  EXPECT_EQ((*Load())->bos_id(), 1u);
  EXPECT_EQ((*Load())->eos_id(), 2u);
  EXPECT_TRUE((*Load())->adds_bos());
  Write("tokenizer_config.json", {{"bos_token", "</s>"}, {"add_bos_token", false}});
  Write("generation_config.json", {{"eos_token_id", {2, 260}}});
  EXPECT_EQ((*Load())->bos_id(), 2u);
  EXPECT_FALSE((*Load())->adds_bos());
  EXPECT_THAT((*Load())->eos_ids(), ElementsAre(2, 260));
}

TEST_F(SentencePieceSpecialTokensTest, TokensBehindTheModelsOwnAreFound) {
  Write("added_tokens.json", {{"<pad>", 261}});
  auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("h<pad>h"), ElementsAre(259, 260, 261, 260));
  EXPECT_EQ((*tokenizer)->vocab_size(), 262u);
  EXPECT_EQ((*tokenizer)->Decode({260, 261}), "h<pad>");
  Write("added_tokens.json", {{"<pad>", 260}});
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("piece 260"));
}

}  // namespace
}  // namespace featurescope
