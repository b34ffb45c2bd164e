#include "server/jobs/job_inputs.h"

#include <utility>

#include "server/base/status.h"

namespace featurescope {

absl::StatusOr<std::vector<uint32_t>> SpecialTokensOf(Catalog* catalog, const ModelRow& row,
                                                      const Transformer& model) {
  std::vector<uint32_t> ids;
  if (!row.has_tokenizer) {
    ids = model.config().eos_ids;
    if (model.config().bos_id) ids.push_back(*model.config().bos_id);
    return ids;
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer,
                   catalog->LoadedTokenizer(row.id));
  for (uint32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    if (tokenizer->IsSpecial(id)) ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<TrainingInputs> LoadTrainingInputs(Catalog* catalog, const TrainingJob& job) {
  TrainingInputs inputs;
  ASSIGN_OR_RETURN(inputs.hook, HookPoint::Parse(job.hook_name));
  ASSIGN_OR_RETURN(const ModelRow model, catalog->GetModel(job.model_id));
  ASSIGN_OR_RETURN(inputs.model, catalog->LoadedModel(job.model_id));
  ASSIGN_OR_RETURN(CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  inputs.corpus = std::move(corpus.tokens);
  inputs.model_name = job.model_id;
  ASSIGN_OR_RETURN(inputs.special_tokens, SpecialTokensOf(catalog, model, *inputs.model));
  return inputs;
}

absl::StatusOr<IndexInputs> LoadIndexInputs(Catalog* catalog, const IndexingJob& job) {
  ASSIGN_OR_RETURN(const SaeRow sae, catalog->GetSae(job.sae_id));
  ASSIGN_OR_RETURN(const ModelRow model, catalog->GetModel(sae.model_id));
  IndexInputs inputs;
  inputs.sae_id = sae.id;
  inputs.corpus_id = job.corpus_id;
  inputs.model_id = sae.model_id;
  ASSIGN_OR_RETURN(inputs.hook, HookPoint::Parse(sae.hook_name));
  ASSIGN_OR_RETURN(inputs.hook_out, HookPoint::Parse(sae.hook_name_out));
  inputs.center_writing_weights = sae.center_writing_weights;
  ASSIGN_OR_RETURN(inputs.model, catalog->LoadedModel(sae.model_id));
  ASSIGN_OR_RETURN(inputs.sae, catalog->LoadedSae(sae.id));
  ASSIGN_OR_RETURN(CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  inputs.corpus = std::move(corpus.tokens);
  if (model.has_tokenizer) {
    ASSIGN_OR_RETURN(inputs.tokenizer, catalog->LoadedTokenizer(sae.model_id));
  }
  return inputs;
}

}  // namespace featurescope
