// Adding a corpus: text files, tokenised into the data directory.
#include <algorithm>
#include <utility>

#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/reservation.h"
#include "server/catalog/staging.h"

namespace featurescope {
namespace {

constexpr uint32_t kDefaultContextSize = 128;

CorpusRow Describe(const TokenFile& tokens) {
  CorpusRow row;
  row.context_size = tokens.context_size();
  row.n_tokens = tokens.n_tokens();
  row.n_documents = tokens.n_documents();
  row.n_contexts = tokens.n_contexts();
  row.prepend_bos = tokens.prepend_bos();
  row.hash = tokens.hash();
  row.tokenizer_hash = tokens.spec().tokenizer_hash;
  return row;
}

}  // namespace

absl::StatusOr<CorpusRow> Catalog::AddCorpus(absl::string_view id, const AddCorpusOptions& options,
                                             const CorpusProgress& progress,
                                             const CancelToken& cancel) {
  RETURN_IF_ERROR(CheckId(id, "corpus id"));
  ASSIGN_OR_RETURN(const ModelRow model, GetModel(options.model_id));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer,
                   LoadedTokenizer(options.model_id));
  CorpusSpec spec;
  for (const std::string& path : options.paths) {
    ASSIGN_OR_RETURN(std::string resolved, ResolveWithin(options_.allowed_roots, path));
    spec.paths.push_back(std::move(resolved));
  }
  if (spec.paths.empty()) return InvalidArgument("no text files are given");
  if (!options.text_field.empty()) spec.text_field = options.text_field;
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
  RETURN_IF_ERROR(BuildCorpus(spec, *tokenizer, staging.path(), progress, cancel).status());
  CorpusRow row;
  {
    ASSIGN_OR_RETURN(const std::shared_ptr<const TokenFile> tokens,
                     TokenFile::Open(staging.path()));
    row = Describe(*tokens);
  }
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
