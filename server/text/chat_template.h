// Conversations written as a chat model was trained to read them.
//
// The template is the model's own: chat_template.jinja, else chat_template of chat_template.json or
// tokenizer_config.json (of several, the one named "default"). It is rendered as transformers does
// it (jinja_template.h), without tools and documents. Templates of these families are known to
// render: Llama 2, Llama 3 to 3.3, Mistral, ChatML (Qwen 1.5 to 3), Gemma 1 to 3, DeepSeek with
// what is distilled from R1. Pythia, GPT-2 and other base models have none.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/text/jinja_template.h"
#include "server/text/special_tokens.h"
#include "server/text/tokenizer.h"

namespace featurescope {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"; what else the template knows
  std::string content;
};

struct ChatOptions {
  bool add_generation_prompt = true;  // ends with what opens the assistant's next turn
  std::map<std::string, bool> flags;  // what else a template asks for, e.g. enable_thinking
  std::optional<absl::Time> now;      // the day that some templates name; none: today
};

// Immutable; const and thread-safe.
class ChatTemplate {
 public:
  // Of the model in `dir`.
  //
  //   FailedPrecondition  the model comes without a template
  //   Unimplemented       the template uses what is not supported, by name
  //   InvalidArgument     malformed
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(absl::string_view dir,
                                                                  const SpecialTokens& special);
  // `where` begins every message.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> FromText(absl::string_view text,
                                                                      const SpecialTokens& special,
                                                                      const std::string& where);

  // By the marks in it: "llama-2", "llama-3", "mistral", "chatml", "gemma", "deepseek"; else
  // "other", which is rendered all the same.
  absl::string_view family() const { return family_; }

  // The conversation as text, special tokens written out.
  //
  //   InvalidArgument    no messages, text that is no UTF-8, or the template refuses them, saying
  //                      why: roles that do not alternate, a system message it has no place for
  //   others             as JinjaTemplate::Render
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages,
                                     const ChatOptions& options) const;

 private:
  explicit ChatTemplate(JinjaTemplate parsed) : template_(std::move(parsed)) {}

  const JinjaTemplate template_;
  JinjaMap tokens_;  // bos_token, eos_token and the like, by these names
  std::string where_;
  absl::string_view family_;
};

struct ChatPrompt {
  std::string text;           // special tokens written out
  std::vector<uint32_t> ids;  // all of the text: BOS is there once, where the template has it
};

// Writes a conversation by the tokenizer's own template, and encodes it. Special tokens that are
// written out in a message's content become special tokens, as in transformers.
// Errors of chat_template(), ChatTemplate::Render and Tokenizer::Encode.
absl::StatusOr<ChatPrompt> ApplyChatTemplate(const Tokenizer& tokenizer,
                                             absl::Span<const ChatMessage> messages,
                                             const ChatOptions& options = {});

}  // namespace featurescope
