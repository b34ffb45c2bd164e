#include "server/text/tokenizer.h"

#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/text/byte_level_bpe.h"
#include "server/text/sentencepiece_tokenizer.h"
#include "server/text/special_tokens.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxTokenizerBytes = 64u << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(absl::string_view dir) {
  const std::string json_path = JoinPath(dir, "tokenizer.json");
  const std::string model_path = JoinPath(dir, "tokenizer.model");
  const bool has_json = FileExists(json_path);
  const bool has_model = FileExists(model_path);
  if (!has_json && !has_model) {
    return NotFound(dir, ": has neither tokenizer.json nor tokenizer.model; only token ids work");
  }
  ASSIGN_OR_RETURN(const SpecialTokens special, ReadSpecialTokens(dir));
  if (has_json) {
    ASSIGN_OR_RETURN(const std::string content, ReadFile(json_path, kMaxTokenizerBytes));
    absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer =
        ByteLevelBpeFromJson(content, json_path, special);
    // Llama directories carry the same tokenizer in both forms.
    if (!has_model || !absl::IsUnimplemented(tokenizer.status())) return tokenizer;
  }
  ASSIGN_OR_RETURN(const std::string content, ReadFile(model_path, kMaxTokenizerBytes));
  return SentencePieceFromModel(content, model_path, special);
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
