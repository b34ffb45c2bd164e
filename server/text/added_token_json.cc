#include "server/text/added_token_json.h"

#include <algorithm>

#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"
#include "server/text/vocabulary.h"

namespace featurescope {

absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& json, absl::string_view where) {
  ASSIGN_OR_RETURN(const int64_t id, JsonInt(json, "id", where, 0, kMaxTokenId));
  return ReadAddedToken(json, static_cast<uint32_t>(id), where);
}

absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& json, uint32_t id,
                                          absl::string_view where) {
  AddedToken token;
  token.id = id;
  ASSIGN_OR_RETURN(token.content, JsonString(json, "content", where));
  if (token.content.empty()) return InvalidArgument(where, ": token ", id, " is empty");
  for (const auto& [key, value] : json.items()) {
    static constexpr absl::string_view kKnown[] = {
        "id", "content", "special", "normalized", "single_word", "lstrip", "rstrip", "__type"};
    if (std::find(std::begin(kKnown), std::end(kKnown), absl::string_view(key)) ==
        std::end(kKnown)) {
      return Unimplemented(where, ": token ", id, ": option ", PrintableUtf8(key, 60),
                           " is not supported");
    }
  }
  ASSIGN_OR_RETURN(token.options.special, JsonBoolOr(json, "special", where, false));
  ASSIGN_OR_RETURN(token.normalized, JsonBoolOr(json, "normalized", where, !token.options.special));
  ASSIGN_OR_RETURN(token.options.single_word, JsonBoolOr(json, "single_word", where, false));
  ASSIGN_OR_RETURN(token.options.lstrip, JsonBoolOr(json, "lstrip", where, false));
  ASSIGN_OR_RETURN(token.options.rstrip, JsonBoolOr(json, "rstrip", where, false));
  return token;
}

}  // namespace featurescope
