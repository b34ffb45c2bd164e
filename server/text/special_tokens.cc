#include "server/text/special_tokens.h"

#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/text/vocabulary.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxTokenizerConfigBytes = 16u << 20;
constexpr size_t kMaxListedTokens = 4096;
constexpr const char* kOtherTokens[] = {"unk_token", "pad_token", "sep_token", "cls_token",
                                        "mask_token"};

absl::StatusOr<Json> ReadIfThere(absl::string_view dir, absl::string_view name) {
  const std::string path = JoinPath(dir, name);
  if (!FileExists(path)) return Json::object();
  ASSIGN_OR_RETURN(Json json, ReadJsonFile(path, kMaxTokenizerConfigBytes));
  if (!json.is_object()) return InvalidArgument(path, ": must be an object");
  return json;
}

// A token is written as "<s>" or as {"content": "<s>", ...}.
std::optional<std::string> TokenText(const Json& token) {
  const Json* content = token.is_object() ? JsonFind(token, "content") : &token;
  if (content == nullptr || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

std::optional<std::string> TokenText(const Json& first, const Json& second, absl::string_view key) {
  for (const Json* json : {&first, &second}) {
    const Json* token = JsonFind(*json, key);
    if (token == nullptr) continue;
    if (std::optional<std::string> text = TokenText(*token)) return text;
  }
  return std::nullopt;
}

// One id or a list of them; what is neither counts as not given.
std::vector<uint32_t> TokenIds(const Json& json, absl::string_view key) {
  std::vector<uint32_t> ids;
  const auto append = [&ids](const Json& id) {
    if (id.is_number_unsigned() && id.get<uint64_t>() <= kMaxTokenId) {
      ids.push_back(id.get<uint32_t>());
    }
  };
  const Json* value = JsonFind(json, key);
  if (value == nullptr) return ids;
  if (!value->is_array()) {
    append(*value);
  } else if (value->size() <= kMaxListedTokens) {
    for (const Json& id : *value) append(id);
  }
  return ids;
}

absl::StatusOr<std::optional<bool>> OptionalBool(const Json& json, absl::string_view key,
                                                 const std::string& where) {
  if (JsonFind(json, key) == nullptr) return std::optional<bool>();
  ASSIGN_OR_RETURN(const bool value, JsonBool(json, key, where));
  return std::optional<bool>(value);
}

absl::Status ReadAddedTokens(const Json& config, const std::string& config_path, const Json& old,
                             const std::string& old_path, std::vector<AddedToken>* added) {
  const Json* decoder = JsonFind(config, "added_tokens_decoder");
  if (decoder != nullptr && (!decoder->is_object() || decoder->size() > kMaxAddedTokens)) {
    return InvalidArgument(config_path, ": added_tokens_decoder is no object or has more than ",
                           kMaxAddedTokens, " entries");
  }
  if (decoder != nullptr) {
    const std::string where = config_path + ": added_tokens_decoder";
    for (const auto& [key, token] : decoder->items()) {
      uint32_t id = 0;
      if (!absl::SimpleAtoi(key, &id) || id > kMaxTokenId) {
        return InvalidArgument(where, ": ", Quoted(key), " is no id in [0, ", kMaxTokenId, "]");
      }
      ASSIGN_OR_RETURN(AddedToken entry, ReadAddedToken(token, id, where));
      added->push_back(std::move(entry));
    }
    return absl::OkStatus();
  }
  if (old.size() > kMaxAddedTokens) {
    return InvalidArgument(old_path, ": has more than ", kMaxAddedTokens, " entries");
  }
  for (const auto& [content, id] : old.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId || content.empty()) {
      return InvalidArgument(old_path, ": token ", Quoted(content),
                             " is empty or has no id in [0, ", kMaxTokenId, "]");
    }
    added->push_back({content, id.get<uint32_t>(), /*normalized=*/true, {}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SpecialTokens> ReadSpecialTokens(absl::string_view dir) {
  ASSIGN_OR_RETURN(const Json config, ReadIfThere(dir, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(const Json map, ReadIfThere(dir, "special_tokens_map.json"));
  ASSIGN_OR_RETURN(const Json old_added, ReadIfThere(dir, "added_tokens.json"));
  ASSIGN_OR_RETURN(const Json generation, ReadIfThere(dir, "generation_config.json"));
  ASSIGN_OR_RETURN(const Json model, ReadIfThere(dir, "config.json"));
  const std::string where = JoinPath(dir, "tokenizer_config.json");
  SpecialTokens tokens;
  tokens.bos_token = TokenText(config, map, "bos_token");
  tokens.eos_token = TokenText(config, map, "eos_token");
  for (const char* name : kOtherTokens) {
    if (auto text = TokenText(config, map, name)) tokens.others[name] = *std::move(text);
  }
  for (const Json* json : {&config, &map}) {
    const Json* list = JsonFind(*json, "additional_special_tokens");
    if (list == nullptr || !list->is_array() || list->size() > kMaxListedTokens) continue;
    for (const Json& token : *list) {
      if (auto text = TokenText(token)) tokens.additional.push_back(*std::move(text));
    }
  }
  tokens.bos_token_is_null = config.contains("bos_token") && config["bos_token"].is_null();
  ASSIGN_OR_RETURN(tokens.add_bos_token, OptionalBool(config, "add_bos_token", where));
  ASSIGN_OR_RETURN(tokens.add_prefix_space, OptionalBool(config, "add_prefix_space", where));
  ASSIGN_OR_RETURN(const bool add_eos_token, JsonBoolOr(config, "add_eos_token", where, false));
  if (add_eos_token) return Unimplemented(where, ": add_eos_token true is not supported");
  ASSIGN_OR_RETURN(const std::string tokenizer_class,
                   JsonStringOr(config, "tokenizer_class", where, ""));
  tokens.tokenizer_class = std::string(absl::StripSuffix(tokenizer_class, "Fast"));
  RETURN_IF_ERROR(
      ReadAddedTokens(config, where, old_added, JoinPath(dir, "added_tokens.json"), &tokens.added));
  for (const Json* json : {&generation, &model}) {
    const std::vector<uint32_t> bos = TokenIds(*json, "bos_token_id");
    if (!tokens.bos_token_id && !bos.empty()) tokens.bos_token_id = bos[0];
    if (tokens.eos_token_ids.empty()) tokens.eos_token_ids = TokenIds(*json, "eos_token_id");
  }
  return tokens;
}

ChosenSpecialTokens ChooseSpecialTokens(const SpecialTokens& files, const OwnSpecialTokens& own) {
  const auto find = [&own](const std::optional<std::string>& text) {
    return text ? own.find(*text) : std::nullopt;
  };
  ChosenSpecialTokens chosen;
  chosen.bos_id = own.template_bos;
  if (!chosen.bos_id) chosen.bos_id = find(files.bos_token);
  if (!chosen.bos_id) chosen.bos_id = own.bos;
  if (!chosen.bos_id && files.bos_token_id && own.exists(*files.bos_token_id)) {
    chosen.bos_id = files.bos_token_id;
  }
  std::vector<uint32_t> listed = files.eos_token_ids;
  listed.erase(
      std::remove_if(listed.begin(), listed.end(), [&own](uint32_t id) { return !own.exists(id); }),
      listed.end());
  chosen.eos_id = find(files.eos_token);
  if (!chosen.eos_id) chosen.eos_id = own.eos;
  if (!chosen.eos_id && !listed.empty()) chosen.eos_id = listed[0];

  const bool no_word = !files.bos_token && !files.bos_token_id && !files.eos_token &&
                       files.eos_token_ids.empty() && !own.bos && !own.eos;
  if (const auto end_of_text = own.find("<|endoftext|>"); no_word && end_of_text) {
    if (!chosen.bos_id) chosen.bos_id = end_of_text;
    chosen.eos_id = end_of_text;
  }
  const bool without = files.bos_token_is_null || files.tokenizer_class == "GPTNeoXTokenizer" ||
                       files.tokenizer_class == "Qwen2Tokenizer";
  const bool by_rule = own.has_template ? own.template_bos.has_value() : !without;
  chosen.adds_bos = chosen.bos_id.has_value() && files.add_bos_token.value_or(by_rule);

  std::set<uint32_t> ends(listed.begin(), listed.end());
  if (chosen.eos_id) ends.insert(*chosen.eos_id);
  chosen.eos_ids.assign(ends.begin(), ends.end());
  std::set<uint32_t> special = std::move(ends);
  if (chosen.bos_id) special.insert(*chosen.bos_id);
  for (const auto& [name, text] : files.others) {
    if (const auto id = own.find(text)) special.insert(*id);
  }
  for (const std::string& text : files.additional) {
    if (const auto id = own.find(text)) special.insert(*id);
  }
  chosen.special_ids.assign(special.begin(), special.end());
  return chosen;
}

}  // namespace featurescope
