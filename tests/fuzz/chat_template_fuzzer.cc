// Any bytes as a chat template: refused, or rendered within its bounds.
//
//   input  the template

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "server/formats/utf8.h"
#include "server/text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  SpecialTokens special;
  special.bos_token = "<s>";
  special.eos_token = "</s>";
  const auto chat = ChatTemplate::FromText(text, special, "template");
  if (!chat.ok()) return 0;
  const std::vector<ChatMessage> messages = {{"system", " Be brief. "},
                                             {"user", "Hi\n"},
                                             {"assistant", "<think>x</think>y"},
                                             {"user", "\u00e9"}};
  for (bool add_generation_prompt : {true, false}) {
    ChatOptions options;
    options.add_generation_prompt = add_generation_prompt;
    const auto rendered = (*chat)->Render(messages, options);
    if (!rendered.ok() && rendered.status().code() == absl::StatusCode::kInternal) abort();
    if (rendered.ok() && ValidUtf8Prefix(*rendered) < rendered->size()) abort();
  }
  return 0;
}
