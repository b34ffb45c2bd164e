#include "server/text/special_tokens.h"

#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxTokenizerConfigBytes = 16u << 20;

absl::StatusOr<Json> ReadIfThere(absl::string_view dir, absl::string_view name) {
  const std::string path = JoinPath(dir, name);
  if (!FileExists(path)) return Json::object();
  ASSIGN_OR_RETURN(Json json, ReadJsonFile(path, kMaxTokenizerConfigBytes));
  if (!json.is_object()) return InvalidArgument(path, ": must be an object");
  return json;
}

// A token is written as "<s>" or as {"content": "<s>", ...}.
std::optional<std::string> TokenText(const Json& json, absl::string_view key) {
  const Json* token = JsonFind(json, key);
  if (token != nullptr && token->is_object()) token = JsonFind(*token, "content");
  if (token == nullptr || !token->is_string()) return std::nullopt;
  return token->get<std::string>();
}

// One id, or the first of a list.
std::optional<uint32_t> TokenId(const Json& json, absl::string_view key) {
  const Json* id = JsonFind(json, key);
  if (id != nullptr && id->is_array() && !id->empty()) id = &id->front();
  if (id == nullptr || !id->is_number_unsigned() || id->get<uint64_t>() > UINT32_MAX) {
    return std::nullopt;
  }
  return id->get<uint32_t>();
}

}  // namespace

absl::StatusOr<SpecialTokens> ReadSpecialTokens(absl::string_view dir) {
  ASSIGN_OR_RETURN(const Json config, ReadIfThere(dir, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(const Json map, ReadIfThere(dir, "special_tokens_map.json"));
  ASSIGN_OR_RETURN(const Json model, ReadIfThere(dir, "config.json"));
  const std::string where = JoinPath(dir, "tokenizer_config.json");
  SpecialTokens tokens;
  tokens.bos_token = TokenText(config, "bos_token");
  if (!tokens.bos_token) tokens.bos_token = TokenText(map, "bos_token");
  tokens.eos_token = TokenText(config, "eos_token");
  if (!tokens.eos_token) tokens.eos_token = TokenText(map, "eos_token");
  if (JsonFind(config, "add_bos_token") != nullptr) {
    ASSIGN_OR_RETURN(tokens.add_bos_token, JsonBool(config, "add_bos_token", where));
  }
  ASSIGN_OR_RETURN(const std::string tokenizer_class,
                   JsonStringOr(config, "tokenizer_class", where, ""));
  tokens.tokenizer_class = std::string(absl::StripSuffix(tokenizer_class, "Fast"));
  tokens.bos_token_id = TokenId(model, "bos_token_id");
  tokens.eos_token_id = TokenId(model, "eos_token_id");
  return tokens;
}

}  // namespace featurescope
