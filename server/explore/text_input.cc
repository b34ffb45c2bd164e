#include "server/explore/text_input.h"

#include <algorithm>
#include <utility>

#include "server/base/status.h"
#include "server/text/display.h"

namespace featurescope {

bool IsSpecialToken(const ModelRef& model, uint32_t id) {
  if (model.tokenizer != nullptr) return model.tokenizer->IsSpecial(id);
  const ModelConfig& config = model.model->config();
  return config.bos_id == id ||
         std::find(config.eos_ids.begin(), config.eos_ids.end(), id) != config.eos_ids.end();
}

Token MakeToken(const ModelRef& model, uint32_t id) {
  Token token;
  token.id = id;
  token.special = IsSpecialToken(model, id);
  if (model.tokenizer == nullptr) {
    token.display = absl::StrCat("[", id, "]");
  } else {
    token.bytes = model.tokenizer->TokenBytes(id);
    token.display = DisplayToken(token.bytes);
  }
  return token;
}

std::vector<Token> MakeTokens(const ModelRef& model, absl::Span<const uint32_t> ids) {
  std::vector<Token> tokens;
  tokens.reserve(ids.size());
  for (const uint32_t id : ids) tokens.push_back(MakeToken(model, id));
  return tokens;
}

namespace {

absl::StatusOr<std::vector<uint32_t>> Tokenize(const ModelRef& model, const std::string& text,
                                               bool no_bos, absl::string_view name) {
  if (text.empty()) return InvalidArgument(name, ": the text is empty");
  if (model.tokenizer == nullptr) {
    return FailedPrecondition(name,
                              ": the model has no tokenizer, so it takes token ids, not text");
  }
  std::vector<uint32_t> ids;
  if (model.tokenizer->adds_bos() && !no_bos) ids.push_back(*model.tokenizer->bos_id());
  auto encoded = model.tokenizer->Encode(text);
  if (!encoded.ok()) return Annotate(encoded.status(), name);
  ids.insert(ids.end(), encoded->begin(), encoded->end());
  return ids;
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> TokenIdsOf(const ModelRef& model, const TextInput& input,
                                                 absl::string_view name) {
  std::vector<uint32_t> ids;
  if (const auto* given = std::get_if<std::vector<uint32_t>>(&input.input)) {
    ids = *given;
    if (ids.empty()) return InvalidArgument(name, ": there are no token ids");
  } else {
    ASSIGN_OR_RETURN(ids, Tokenize(model, std::get<std::string>(input.input), input.no_bos, name));
  }
  const ModelConfig& config = model.model->config();
  if (static_cast<int64_t>(ids.size()) > config.n_ctx) {
    return InvalidArgument(name, " has ", ids.size(), " tokens, the model takes at most ",
                           config.n_ctx);
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= config.d_vocab) {
      return InvalidArgument(name, ": token id ", ids[i], " at position ", i,
                             " is out of range [0, ", config.d_vocab, ")");
    }
  }
  return ids;
}

}  // namespace featurescope
