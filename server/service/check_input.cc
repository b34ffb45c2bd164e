#include "server/service/check_input.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/base/status.h"
#include "server/service/convert.h"

namespace featurescope {
namespace {

constexpr uint32_t kDefaultTokens = 1024;
constexpr uint32_t kMaxTokens = 16384;
constexpr uint32_t kDefaultContext = 128;

// Plain prose of several kinds, so that no one register decides.
constexpr absl::string_view kPassage[] = {
    "The ferry left the island a little after six, when the fog had lifted from the harbour and "
    "the "
    "gulls were quarrelling over what the night boats had thrown away. Maren stood at the rail "
    "with "
    "her collar up and counted the houses until she could no longer tell one roof from the next. "
    "Her "
    "grandfather had built three of them. He used to say that a wall is only a promise that "
    "someone "
    "will come back to mend it, and she had laughed at him then, because she was nine and believed "
    "that walls simply stayed where they were put.",
    "Photosynthesis takes place in two stages. In the first, light is absorbed by chlorophyll and "
    "its "
    "energy is used to split water, which releases oxygen and charges two carrier molecules. In "
    "the "
    "second, these carriers drive a cycle of reactions that fixes carbon dioxide into sugar. The "
    "second stage needs no light of its own, but it stops within minutes of darkness, because the "
    "supply of carriers runs out. Plants of dry regions have found a way around this: they open "
    "their "
    "pores at night, store the carbon dioxide as an acid, and use it the next day.",
    "The committee met again on Tuesday to decide whether the old bridge should be repaired or "
    "replaced. An engineer told the members that repairs would cost about four million and last "
    "perhaps twenty years, while a new bridge would cost eleven million and last a century. \"It "
    "is "
    "not only a question of money,\" said the mayor. \"People here have crossed that bridge for a "
    "hundred and twelve years, and some of them were married on it.\" The vote was put off until "
    "March.",
    "To make the soup, cut two onions and a leek into thin rings and let them soften slowly in "
    "butter. "
    "Add four potatoes, peeled and diced, a bay leaf, salt, and enough stock to cover everything "
    "by "
    "the width of a finger. Simmer for half an hour. Take out the bay leaf, crush the potatoes "
    "against the side of the pot with a wooden spoon, and stir in a cup of milk. It tastes better "
    "on "
    "the second day. Serve it with dark bread and, if there is any, a slice of smoked fish.",
    "When the program starts, it reads its configuration from a file and checks that every value "
    "is in "
    "range. If one is not, it prints the name of the field, the value it found and the values it "
    "would "
    "accept, and ends with status 2. Otherwise it opens a socket, forks one process for each core "
    "and "
    "waits for connections. Each request carries a number; the reply carries the same number, so "
    "that "
    "a client may send many requests before the first answer arrives.",
    "In 1854 cholera broke out in a few streets of London, and within ten days more than five "
    "hundred "
    "people had died. A physician named John Snow marked each death on a map and saw that they lay "
    "around a single public pump. Workers of a brewery nearby, who drank beer, stayed well. Snow "
    "persuaded the parish to take the handle off the pump. The epidemic was already fading by "
    "then, "
    "but his map is remembered as one of the beginnings of epidemiology.",
};

absl::StatusOr<std::vector<uint32_t>> Encode(const ModelRef& model, const std::string& text,
                                             absl::string_view name) {
  if (model.tokenizer == nullptr) {
    return FailedPrecondition(name, ": the model has no tokenizer; give token ids or a corpus");
  }
  return model.tokenizer->Encode(text);
}

// Pieces of at most `length`, until `budget` tokens are taken. A rest too short to say anything is
// left out where something longer is there already.
void Cut(absl::Span<const uint32_t> ids, size_t length, size_t* budget,
         std::vector<std::vector<uint32_t>>* texts) {
  constexpr size_t kShortest = 8;
  for (size_t begin = 0; begin < ids.size() && *budget > 0; begin += length) {
    const auto piece = ids.subspan(begin, std::min(length, *budget));
    if (piece.size() < kShortest && !texts->empty()) break;
    texts->emplace_back(piece.begin(), piece.end());
    *budget -= piece.size();
  }
}

absl::Status FromCorpus(const std::string& corpus_id, const ModelRow& model, Catalog* catalog,
                        size_t length, size_t budget, CheckSaeRequest* question) {
  ASSIGN_OR_RETURN(const CorpusHandle corpus, catalog->LoadedCorpus(corpus_id));
  if (corpus.row.model_id != model.id && corpus.row.tokenizer_hash != model.tokenizer_hash) {
    return FailedPrecondition("corpus \"", corpus_id, "\" was tokenised for model \"",
                              corpus.row.model_id, "\", whose tokenizer is not that of model \"",
                              model.id, "\"");
  }
  const bool has_bos = corpus.tokens->prepend_bos();
  question->with_bos = has_bos;
  if (has_bos) question->bos = corpus.tokens->bos_id();
  std::vector<uint32_t> ids;
  for (uint64_t i = 0; i < corpus.tokens->n_contexts() && budget > 0; ++i) {
    RETURN_IF_ERROR(corpus.tokens->Context(i, &ids));
    absl::Span<const uint32_t> context = ids;
    if (has_bos && !context.empty() && context.front() == corpus.tokens->bos_id()) {
      context.remove_prefix(1);
    }
    Cut(context, length, &budget, &question->texts);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status FillCheckInput(const v1::CheckSaeRequest& request, const ModelRow& model,
                            const SaeRow& sae, Catalog* catalog, CheckSaeRequest* question) {
  if (request.max_tokens() > kMaxTokens) {
    return InvalidField("max_tokens", "max_tokens is ", request.max_tokens(), ", must be at most ",
                        kMaxTokens);
  }
  size_t budget = request.max_tokens() == 0 ? kDefaultTokens : request.max_tokens();
  const uint32_t context = sae.context_size > 1 ? sae.context_size : kDefaultContext;
  // One token is left for BOS.
  const size_t length = std::min(context, model.n_ctx) - 1;

  const ModelRef& ref = question->model;
  question->bos = ref.model->config().bos_id;
  if (ref.tokenizer != nullptr) {
    if (ref.tokenizer->bos_id().has_value()) question->bos = ref.tokenizer->bos_id();
    question->with_bos = ref.tokenizer->adds_bos();
  }
  switch (request.source_case()) {
    case v1::CheckSaeRequest::kCorpusId:
      return FromCorpus(request.corpus_id(), model, catalog, length, budget, question);
    case v1::CheckSaeRequest::kText: {
      const TextInput input = FromProto(request.text());
      if (const auto* ids = std::get_if<std::vector<uint32_t>>(&input.input)) {
        question->with_bos = false;  // they are taken as they are
        Cut(*ids, length, &budget, &question->texts);
        return absl::OkStatus();
      }
      if (input.no_bos) question->with_bos = false;
      ASSIGN_OR_RETURN(const std::vector<uint32_t> ids,
                       Encode(ref, std::get<std::string>(input.input), "text"));
      Cut(ids, length, &budget, &question->texts);
      return absl::OkStatus();
    }
    case v1::CheckSaeRequest::SOURCE_NOT_SET:
      break;
  }
  for (const absl::string_view paragraph : kPassage) {
    ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, Encode(ref, std::string(paragraph), "text"));
    Cut(ids, length, &budget, &question->texts);
  }
  return absl::OkStatus();
}

}  // namespace featurescope
