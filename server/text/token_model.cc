#include "server/text/token_model.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {

absl::StatusOr<std::unique_ptr<const TokenModel>> TokenModel::Create(const nlohmann::json& json,
                                                                     const std::string& path,
                                                                     bool byte_level,
                                                                     Vocabulary* vocabulary) {
  const std::string where = absl::StrCat(path, ": model");
  if (!json.is_object()) return InvalidArgument(where, " must be an object");
  // Files of the first versions do not name their model.
  const bool has_merges = JsonFind(json, "merges") != nullptr;
  ASSIGN_OR_RETURN(const std::string type,
                   JsonStringOr(json, "type", where, has_merges ? "BPE" : ""));
  if (type == "BPE") return ReadBpeModel(json, where, byte_level, vocabulary);
  if (type == "Unigram") {
    if (byte_level) return Unimplemented(where, " Unigram behind ByteLevel is not supported");
    return ReadUnigramModel(json, where, vocabulary);
  }
  return Unimplemented(where, " ", Quoted(type), " is not supported; BPE and Unigram are");
}

ByteTokens::ByteTokens(const Vocabulary& vocabulary) {
  for (size_t byte = 0; byte < 256; ++byte) {
    ids_[byte] = vocabulary.Find(absl::StrFormat("<0x%02X>", byte));
    if (ids_[byte]) ++n_found_;
  }
}

bool ByteTokens::Append(absl::string_view bytes, std::vector<uint32_t>* ids) const {
  for (char byte : bytes) {
    if (!ids_[static_cast<uint8_t>(byte)]) return false;
  }
  for (char byte : bytes) ids->push_back(*ids_[static_cast<uint8_t>(byte)]);
  return true;
}

}  // namespace featurescope
