#include "server/text/chat_template.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigFileBytes = 16u << 20;
constexpr size_t kMaxMessages = 10'000;
constexpr uint64_t kMaxConversationBytes = 16u << 20;
constexpr absl::string_view kKnownFamilies =
    "templates of Llama 2 and 3, Mistral, ChatML (Qwen), Gemma and DeepSeek are known to render";

// The first family whose mark is in the template.
absl::string_view FamilyOf(absl::string_view text) {
  static constexpr std::pair<absl::string_view, absl::string_view> kMarks[] = {
      {"<|start_header_id|>", "llama-3"},
      {"<<SYS>>", "llama-2"},
      {"[INST]", "mistral"},
      {"<|im_start|>", "chatml"},
      {"<start_of_turn>", "gemma"},
      {"<\uff5cAssistant\uff5c>", "deepseek"},
  };
  for (const auto& [mark, family] : kMarks) {
    if (absl::StrContains(text, mark)) return family;
  }
  return "other";
}

// "chat_template" is a text or a list of {"name", "template"}; nullopt where there is none.
absl::StatusOr<std::optional<std::string>> TemplateOf(const Json& json, const std::string& where) {
  const Json* value = JsonFind(json, "chat_template");
  if (value == nullptr) return std::optional<std::string>();
  if (value->is_string()) return std::optional<std::string>(value->get<std::string>());
  if (!value->is_array()) {
    return InvalidArgument(where, ": chat_template is neither a text nor a list of templates");
  }
  for (const Json& entry : *value) {
    ASSIGN_OR_RETURN(const std::string name, JsonString(entry, "name", where));
    ASSIGN_OR_RETURN(std::string text, JsonString(entry, "template", where));
    if (name == "default") return std::optional<std::string>(std::move(text));
  }
  return InvalidArgument(where, ": no chat_template has the name \"default\"");
}

JinjaMap Variables(const SpecialTokens& special) {
  JinjaMap variables;
  if (special.bos_token)
    variables.emplace_back("bos_token", JinjaValue::String(*special.bos_token));
  if (special.eos_token)
    variables.emplace_back("eos_token", JinjaValue::String(*special.eos_token));
  for (const auto& [name, text] : special.others) {
    variables.emplace_back(name, JinjaValue::String(text));
  }
  if (!special.additional.empty()) {
    JinjaList list;
    for (const std::string& text : special.additional) list.push_back(JinjaValue::String(text));
    variables.emplace_back("additional_special_tokens", JinjaValue::List(std::move(list)));
  }
  variables.emplace_back("tools", JinjaValue::None());
  variables.emplace_back("documents", JinjaValue::None());
  return variables;
}

absl::Status CheckMessages(absl::Span<const ChatMessage> messages) {
  if (messages.empty() || messages.size() > kMaxMessages) {
    return InvalidArgument("a conversation of ", messages.size(), " messages, must have 1 to ",
                           kMaxMessages);
  }
  uint64_t bytes = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    for (const std::string& text : {messages[i].role, messages[i].content}) {
      bytes += text.size();
      if (ValidUtf8Prefix(text) < text.size()) {
        return InvalidArgument("message ", i, " is no valid UTF-8");
      }
    }
  }
  if (bytes > kMaxConversationBytes) {
    return InvalidArgument("a conversation of ", bytes, " bytes, at most ", kMaxConversationBytes,
                           " are allowed");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Load(
    absl::string_view dir, const SpecialTokens& special) {
  const std::string jinja_path = JoinPath(dir, "chat_template.jinja");
  if (FileExists(jinja_path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(jinja_path, kMaxConfigFileBytes));
    return FromText(text, special, jinja_path);
  }
  for (absl::string_view name : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = JoinPath(dir, name);
    if (!FileExists(path)) continue;
    ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxConfigFileBytes));
    ASSIGN_OR_RETURN(const std::optional<std::string> text, TemplateOf(json, path));
    if (text) return FromText(*text, special, absl::StrCat(path, ": chat_template"));
  }
  return FailedPrecondition(
      dir, ": the model has no chat template: it was not trained on conversations, or they are ",
      "told of in another file than chat_template.jinja and tokenizer_config.json");
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::FromText(
    absl::string_view text, const SpecialTokens& special, const std::string& where) {
  absl::StatusOr<JinjaTemplate> parsed = JinjaTemplate::Parse(text);
  if (!parsed.ok()) {
    const absl::Status status = Annotate(parsed.status(), where);
    if (!absl::IsUnimplemented(status)) return status;
    return Unimplemented(std::string(status.message()), " (", kKnownFamilies, ")");
  }
  std::shared_ptr<ChatTemplate> chat(new ChatTemplate(*std::move(parsed)));
  chat->tokens_ = Variables(special);
  chat->where_ = where;
  chat->family_ = FamilyOf(text);
  return chat;
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages,
                                                 const ChatOptions& options) const {
  RETURN_IF_ERROR(CheckMessages(messages));
  JinjaMap variables = tokens_;
  JinjaList list;
  for (const ChatMessage& message : messages) {
    list.push_back(JinjaValue::Map({{"role", JinjaValue::String(message.role)},
                                    {"content", JinjaValue::String(message.content)}}));
  }
  variables.emplace_back("messages", JinjaValue::List(std::move(list)));
  variables.emplace_back("add_generation_prompt", JinjaValue::Bool(options.add_generation_prompt));
  for (const auto& [name, value] : options.flags) {
    variables.emplace_back(name, JinjaValue::Bool(value));
  }
  absl::StatusOr<std::string> text =
      template_.Render(variables, options.now ? *options.now : absl::Now());
  if (!text.ok()) return Annotate(text.status(), where_);
  return text;
}

absl::StatusOr<ChatPrompt> ApplyChatTemplate(const Tokenizer& tokenizer,
                                             absl::Span<const ChatMessage> messages,
                                             const ChatOptions& options) {
  RETURN_IF_ERROR(tokenizer.chat_template().status());
  ChatPrompt prompt;
  ASSIGN_OR_RETURN(prompt.text, (*tokenizer.chat_template())->Render(messages, options));
  ASSIGN_OR_RETURN(prompt.ids, tokenizer.Encode(prompt.text, /*parse_special=*/true));
  return prompt;
}

}  // namespace featurescope
