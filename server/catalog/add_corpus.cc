// Adding a corpus: text files, tokenised into the data directory.
#include <algorithm>
#include <utility>

#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/reservation.h"
#include "server/catalog/staging.h"

namespace featurescope {
namespace {

constexpr uint32_t kDefaultContextSize = 128;  // tokens
constexpr double kMaxHoldout = 0.5;

CorpusRow Describe(const TokenFile& tokens) {
  CorpusRow row;
  row.context_size = tokens.context_size();
  row.n_tokens = tokens.n_tokens();
  row.n_documents = tokens.n_documents();
  row.n_contexts = tokens.n_contexts();
  row.prepend_bos = tokens.prepend_bos();
  row.hash = tokens.hash();
  row.tokenizer_hash = tokens.spec().tokenizer_hash;
  row.n_heldout_contexts = tokens.heldout_contexts().size();
  row.n_heldout_tokens = tokens.n_heldout_tokens();
  const absl::string_view layout = ContextLayoutName(tokens.spec().layout);
  row.layout = std::string(layout);
  return row;
}

}  // namespace

absl::StatusOr<CorpusRow> Catalog::AddCorpus(absl::string_view id, const AddCorpusOptions& options,
                                             const CorpusObserver& observer,
                                             const CancelToken& cancel, CorpusSummary* summary) {
  RETURN_IF_ERROR(CheckId(id, "corpus id"));
  ASSIGN_OR_RETURN(const ModelRow model, GetModel(options.model_id));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer,
                   LoadedTokenizer(options.model_id));
  if (!(options.holdout >= 0 && options.holdout <= kMaxHoldout)) {
    return InvalidField("heldout_fraction", "heldout_fraction is ", options.holdout,
                        ", it must be in [0, ", kMaxHoldout, "]");
  }
  CorpusSpec spec;
  spec.paths = options.paths;
  spec.allowed_roots = options_.allowed_roots;
  if (spec.paths.empty()) return InvalidField("paths", "no text files are given");
  spec.format = options.format;
  if (!options.text_field.empty()) spec.text_field = options.text_field;
  spec.text_separator = options.text_separator;
  spec.csv_quotes = options.csv_quotes;
  spec.layout = options.layout;
  spec.append_eos = options.append_eos;
  spec.holdout = options.holdout;
  spec.context_size =
      options.context_size != 0 ? options.context_size : std::min(model.n_ctx, kDefaultContextSize);
  if (spec.context_size > model.n_ctx) {
    return InvalidArgument("context_size ", spec.context_size, " is out of range [1, ", model.n_ctx,
                           "], what model \"", model.id, "\" takes");
  }
  spec.prepend_bos = tokenizer->adds_bos() && !options.no_bos;
  spec.vocab_size = model.d_vocab;
  spec.model_id = model.id;

  const Reservation reservation(this, absl::StrCat("corpus:", id));
  ASSIGN_OR_RETURN(StagingDir staging, StagingDir::Create(JoinPath(data_dir_, "corpora")));
  ASSIGN_OR_RETURN(const CorpusSummary built,
                   BuildCorpus(spec, *tokenizer, staging.path(), observer, cancel));
  if (summary != nullptr) *summary = built;
  CorpusRow row;
  {
    ASSIGN_OR_RETURN(const std::shared_ptr<const TokenFile> tokens,
                     TokenFile::Open(staging.path()));
    row = Describe(*tokens);
  }
  row.formats = built.formats;
  row.id = std::string(id);
  row.model_id = model.id;
  row.path = EntryDir("corpora", id);
  if (const auto existing = GetCorpus(id); existing.ok()) {
    if (existing->hash == row.hash && existing->model_id == row.model_id) return existing;
    return AlreadyExists("corpus \"", id, "\" exists with other content");
  }
  RETURN_IF_ERROR(staging.MoveTo(row.path, [&] { return db_->AddCorpus(row); }));
  return GetCorpus(id);
}

}  // namespace featurescope
