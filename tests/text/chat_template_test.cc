#include "server/text/chat_template.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/tokenizer.h"
#include "tests/formats/test_files.h"
#include "tests/text/small_tokenizer.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

SpecialTokens BosAndEos() {
  SpecialTokens special;
  special.bos_token = "<s>";
  special.eos_token = "</s>";
  return special;
}

std::vector<ChatMessage> Messages(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& one : json) messages.push_back({one["role"], one["content"]});
  return messages;
}

// Against Jinja itself; tests/golden/chat/generate.py says how the expected texts were made.
TEST(ChatTemplateTest, RendersAsJinjaDoes) {
  const Json golden = Json::parse(ReadBytes(SourcePath("tests/golden/chat/templates.json")));
  ASSERT_GT(golden["templates"].size(), 20u);
  for (const Json& one : golden["templates"]) {
    const std::string name = one["name"];
    const auto chat = ChatTemplate::FromText(one["template"].get<std::string>(), BosAndEos(), name);
    ASSERT_TRUE(chat.ok()) << chat.status();
    ASSERT_FALSE(one["cases"].empty());
    for (const Json& example : one["cases"]) {
      ChatOptions options;
      options.add_generation_prompt = example["add_generation_prompt"];
      options.flags = example["flags"].get<std::map<std::string, bool>>();
      options.now = absl::FromUnixSeconds(1709640000);  // 2024-03-05 12:00 UTC
      const auto text = (*chat)->Render(Messages(example["messages"]), options);
      if (example.contains("error")) {
        EXPECT_FALSE(text.ok()) << name << ": " << *text;
        continue;
      }
      ASSERT_TRUE(text.ok()) << name << ": " << text.status();
      EXPECT_EQ(*text, example["expected"].get<std::string>()) << name;
    }
  }
}

std::string RenderOne(const char* name, bool add_generation_prompt = true) {
  const Json golden = Json::parse(ReadBytes(SourcePath("tests/golden/chat/templates.json")));
  for (const Json& one : golden["templates"]) {
    if (one["name"] != name) continue;
    ChatOptions options;
    options.add_generation_prompt = add_generation_prompt;
    options.now = absl::FromUnixSeconds(1709640000);
    const std::vector<ChatMessage> messages = {
        {"user", " Hi "}, {"assistant", "Yes"}, {"user", "Bye"}};
    return *(*ChatTemplate::FromText(one["template"].get<std::string>(), BosAndEos(), name))
                ->Render(messages, options);
  }
  return "no such template";
}

// The formats that the families' model cards give.
TEST(ChatTemplateTest, FamiliesAreWrittenAsTheirModelCardsSay) {
  EXPECT_EQ(RenderOne("llama-2"), "<s>[INST] Hi [/INST] Yes </s><s>[INST] Bye [/INST]");
  EXPECT_EQ(RenderOne("llama-3"),
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(RenderOne("mistral"), "<s>[INST]  Hi [/INST] Yes</s>[INST] Bye[/INST]");
  EXPECT_EQ(RenderOne("chatml"),
            "<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
            "<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(RenderOne("gemma"),
            "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYes<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(
      RenderOne("deepseek"),
      "<s><\uff5cUser\uff5c> Hi <\uff5cAssistant\uff5c>Yes<\uff5cend\u2581of\u2581sentence\uff5c>"
      "<\uff5cUser\uff5c>Bye<\uff5cAssistant\uff5c><think>\n");
  EXPECT_EQ(
      RenderOne("deepseek", false),
      "<s><\uff5cUser\uff5c> Hi <\uff5cAssistant\uff5c>Yes<\uff5cend\u2581of\u2581sentence\uff5c>"
      "<\uff5cUser\uff5c>Bye");
}

TEST(ChatTemplateTest, FamiliesAreKnownByTheirMarks) {
  const Json golden = Json::parse(ReadBytes(SourcePath("tests/golden/chat/templates.json")));
  const std::map<std::string, std::string> families = {
      {"llama-2", "llama-2"}, {"llama-3", "llama-3"}, {"llama-3.1", "llama-3"},
      {"mistral", "mistral"}, {"chatml", "chatml"},   {"qwen3", "chatml"},
      {"gemma", "gemma"},     {"gemma-3", "gemma"},   {"deepseek", "deepseek"},
      {"zephyr", "other"}};
  size_t n_found = 0;
  for (const Json& one : golden["templates"]) {
    const auto family = families.find(one["name"].get<std::string>());
    if (family == families.end()) continue;
    ++n_found;
    EXPECT_EQ((*ChatTemplate::FromText(one["template"].get<std::string>(), {}, "t"))->family(),
              family->second);
  }
  EXPECT_EQ(n_found, families.size());
}

TEST(ChatTemplateTest, WhatCannotBeRenderedIsRefusedNamingTheFamiliesThatCan) {
  const absl::Status status =
      ChatTemplate::FromText("{% include 'x' %}", {}, "dir/tokenizer_config.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  for (const char* part :
       {"dir/tokenizer_config.json: line 1", "include", "Llama 2 and 3", "Gemma"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST(ChatTemplateTest, BadConversationsAreRefused) {
  const auto chat = *ChatTemplate::FromText(
      "{% for m in messages %}{{ m.content }}{% endfor %}{{ raise_exception('no room') }}", {},
      "t");
  const auto expect = [&](const std::vector<ChatMessage>& messages, const char* message) {
    const absl::Status status = chat->Render(messages, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  expect({}, "0 messages");
  expect({{"user", "a"}, {"user", "\xff"}}, "message 1 is no valid UTF-8");
  expect({{"user", "a"}}, "t: line 1: refuses the conversation: no room");
}

class ChatDirectoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Json json = SmallTokenizer();
    json["added_tokens"].push_back({{"id", 260}, {"content", "<s>"}, {"special", true}});
    WriteBytes(dir_ / "tokenizer.json", json.dump());
  }
  std::shared_ptr<const Tokenizer> Load() {
    auto tokenizer = Tokenizer::Load(dir_.path());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *tokenizer;
  }
  TempDir dir_;
};

TEST_F(ChatDirectoryTest, ConversationsAreEncodedWithOneBosWhereTheTemplateHasIt) {
  WriteBytes(dir_ / "tokenizer_config.json",
             R"({"bos_token": "<s>", "add_bos_token": true, "chat_template":
                 "{{ bos_token }}{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"})");
  const auto tokenizer = Load();
  EXPECT_TRUE(tokenizer->adds_bos());
  const auto prompt = ApplyChatTemplate(*tokenizer, {{"user", "he"}});
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->text, "<s>he<|end|>");
  EXPECT_THAT(prompt->ids, ElementsAre(260, 256, 258));
}

TEST_F(ChatDirectoryTest, WithoutATemplateTheErrorSaysSo) {
  const absl::Status status = ApplyChatTemplate(*Load(), {{"user", "he"}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no chat template"));
}

TEST_F(ChatDirectoryTest, OfSeveralTemplatesTheDefaultOneCounts) {
  WriteBytes(
      dir_ / "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(ApplyChatTemplate(*Load(), {{"user", "he"}})->text, "d");
  WriteBytes(dir_ / "tokenizer_config.json",
             R"({"chat_template": [{"name": "rag", "template": "r"}]})");
  EXPECT_FALSE(Load()->chat_template().ok());
  WriteBytes(dir_ / "tokenizer_config.json", R"({"chat_template": 7})");
  EXPECT_FALSE(Load()->chat_template().ok());
}

TEST_F(ChatDirectoryTest, ATemplateInAFileOfItsOwnGoesFirst) {
  WriteBytes(dir_ / "tokenizer_config.json", R"({"chat_template": "config"})");
  EXPECT_EQ(ApplyChatTemplate(*Load(), {{"user", "he"}})->text, "config");
  WriteBytes(dir_ / "chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(ApplyChatTemplate(*Load(), {{"user", "he"}})->text, "json");
  WriteBytes(dir_ / "chat_template.jinja", "{{ 'jinja' }}\n");
  EXPECT_EQ(ApplyChatTemplate(*Load(), {{"user", "he"}})->text, "jinja");
  WriteBytes(dir_ / "chat_template.jinja", "{% include 'x' %}");
  EXPECT_TRUE(absl::IsUnimplemented(Load()->chat_template().status()));
}

}  // namespace
}  // namespace featurescope
