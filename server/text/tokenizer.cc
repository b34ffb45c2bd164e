#include "server/text/tokenizer.h"

#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/text/chat_template.h"
#include "server/text/sentencepiece_tokenizer.h"
#include "server/text/special_tokens.h"
#include "server/text/tokenizer_json.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxTokenizerBytes = 64u << 20;

// One that stands in for the other where that is of a kind which is not supported: many directories
// carry the same tokenizer in both forms.
absl::StatusOr<std::shared_ptr<Tokenizer>> LoadWith(absl::string_view dir,
                                                    const SpecialTokens& special) {
  const std::string json_path = JoinPath(dir, "tokenizer.json");
  const std::string model_path = JoinPath(dir, "tokenizer.model");
  const bool has_model = FileExists(model_path);
  if (FileExists(json_path)) {
    ASSIGN_OR_RETURN(const std::string content, ReadFile(json_path, kMaxTokenizerBytes));
    auto tokenizer = TokenizerFromJson(content, json_path, special);
    if (!has_model || !absl::IsUnimplemented(tokenizer.status())) return tokenizer;
  }
  if (!has_model) {
    return NotFound(dir, ": has neither tokenizer.json nor tokenizer.model; only token ids work");
  }
  ASSIGN_OR_RETURN(const std::string content, ReadFile(model_path, kMaxTokenizerBytes));
  return SentencePieceFromModel(content, model_path, special);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(absl::string_view dir) {
  ASSIGN_OR_RETURN(const SpecialTokens special, ReadSpecialTokens(dir));
  ASSIGN_OR_RETURN(std::shared_ptr<Tokenizer> tokenizer, LoadWith(dir, special));
  tokenizer->chat_template_ = ChatTemplate::Load(dir, special);
  return tokenizer;
}

void Tokenizer::SetSpecialTokens(const ChosenSpecialTokens& chosen) {
  bos_id_ = chosen.bos_id;
  eos_id_ = chosen.eos_id;
  eos_ids_ = chosen.eos_ids;
  adds_bos_ = chosen.adds_bos;
}

absl::StatusOr<std::vector<uint32_t>> Tokenizer::Encode(absl::string_view text,
                                                        bool parse_special) const {
  if (text.size() > kMaxTextBytes) {
    return InvalidArgument("text of ", text.size(), " bytes, at most ", kMaxTextBytes,
                           " are allowed");
  }
  return EncodeText(text, parse_special);
}

}  // namespace featurescope
