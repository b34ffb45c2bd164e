#include "server/jobs/job_inputs.h"

#include <utility>

#include "server/base/status.h"
#include "server/train/activation_files.h"

namespace featurescope {
namespace {

constexpr size_t kMaxChannels = 2;

absl::StatusOr<HookPoint> ParseHook(absl::string_view field, const std::string& name) {
  absl::StatusOr<HookPoint> hook = HookPoint::Parse(name);
  if (!hook.ok()) return InvalidField(field, field, ": ", hook.status().message());
  return hook;
}

absl::StatusOr<DType> ParseActivationDtype(const std::string& name) {
  if (name.empty() || name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float32") return DType::kF32;
  return InvalidField("dtype", "dtype is \"", name, "\", it may be float16, bfloat16 or float32");
}

// The first channel has the inputs, the second a transcoder's targets.
absl::StatusOr<std::shared_ptr<const ActivationFiles>> OpenRawFiles(Catalog* catalog,
                                                                    const TrainingJob& job,
                                                                    const TrainingInputs& inputs) {
  const std::vector<RawChannel>& files = job.activation_files;
  if (files.size() > kMaxChannels) {
    return InvalidField("channels", "there are ", files.size(), " channels of activations, ",
                        "at most ", kMaxChannels, " are possible: inputs and targets");
  }
  ASSIGN_OR_RETURN(const ModelConfig config, catalog->Config(job.model_id));
  std::vector<ActivationFiles::Channel> channels;
  for (const RawChannel& raw : files) {
    ActivationFiles::Channel channel;
    const HookPoint& hook = channels.empty() || !inputs.hook_out ? inputs.hook : *inputs.hook_out;
    ASSIGN_OR_RETURN(channel.dtype, ParseActivationDtype(raw.dtype));
    channel.width = raw.width;
    if (raw.width == 0) {
      ASSIGN_OR_RETURN(channel.width, config.HookWidth(hook));
    }
    if (raw.paths.empty() || raw.paths.size() > static_cast<size_t>(kMaxActivationShards)) {
      return InvalidField("paths", "a channel of activations has ", raw.paths.size(),
                          " files, 1 to ", kMaxActivationShards, " are possible");
    }
    for (const std::string& path : raw.paths) {
      ASSIGN_OR_RETURN(channel.paths.emplace_back(), catalog->ResolveAllowed(path));
    }
    channels.push_back(std::move(channel));
  }
  return ActivationFiles::OpenRaw(channels);
}

absl::StatusOr<std::shared_ptr<const ActivationFiles>> OpenCache(const Catalog& catalog,
                                                                 const std::string& id) {
  ASSIGN_OR_RETURN(const std::string dir, catalog.ActivationCacheDir(id));
  absl::StatusOr<std::shared_ptr<const ActivationFiles>> cache = ActivationFiles::OpenCache(dir);
  if (absl::IsNotFound(cache.status())) return NotFound("no activation cache \"", id, "\"");
  return cache;
}

absl::Status OpenActivations(Catalog* catalog, const TrainingJob& job, TrainingInputs* inputs) {
  if (!job.activation_cache.empty() && !job.activation_files.empty()) {
    return InvalidField("activations",
                        "activations name both a cache and files; a run reads one of them");
  }
  if (!job.corpus_id.empty() || !job.more_corpora.empty()) {
    return InvalidField("corpus_id", "activations come from files, so there can be no corpus");
  }
  if (job.activation_cache.empty()) {
    ASSIGN_OR_RETURN(inputs->activations, OpenRawFiles(catalog, job, *inputs));
  } else {
    ASSIGN_OR_RETURN(inputs->activations, OpenCache(*catalog, job.activation_cache));
  }
  // A run computes where its model is; on the CPU that is so without one.
  if (catalog->device().is_cpu()) return absl::OkStatus();
  ASSIGN_OR_RETURN(inputs->model, catalog->LoadedModel(job.model_id));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTokenizer(const CorpusRow& corpus, const ModelRow& model) {
  if (corpus.model_id == model.id || corpus.tokenizer_hash == model.tokenizer_hash) {
    return absl::OkStatus();
  }
  return FailedPrecondition("corpus \"", corpus.id, "\" was tokenised for model \"",
                            corpus.model_id, "\", whose tokenizer is not that of model \"",
                            model.id, "\"");
}

absl::Status SetHooks(const TrainingJob& job, TrainingInputs* inputs) {
  ASSIGN_OR_RETURN(inputs->hook, ParseHook("hook_name", job.hook_name));
  inputs->hook_out.reset();
  if (job.hook_name_out.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(inputs->hook_out, ParseHook("hook_name_out", job.hook_name_out));
  return absl::OkStatus();
}

absl::StatusOr<TrainingInputs> LoadTrainingInputs(Catalog* catalog, const TrainingJob& job) {
  TrainingInputs inputs;
  RETURN_IF_ERROR(SetHooks(job, &inputs));
  ASSIGN_OR_RETURN(const ModelRow model, catalog->GetModel(job.model_id));
  inputs.model_name = job.model_id;
  if (job.from_files()) {
    RETURN_IF_ERROR(OpenActivations(catalog, job, &inputs));
    return inputs;
  }
  ASSIGN_OR_RETURN(CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  inputs.corpus = std::move(corpus.tokens);
  inputs.corpus_weight = job.corpus_weight;
  for (const MixedCorpus& mixed : job.more_corpora) {
    ASSIGN_OR_RETURN(CorpusHandle more, catalog->LoadedCorpus(mixed.corpus_id));
    inputs.more_corpora.push_back({std::move(more.tokens), mixed.weight});
  }
  ASSIGN_OR_RETURN(inputs.model, catalog->LoadedModel(job.model_id));
  ASSIGN_OR_RETURN(inputs.special_tokens, SpecialTokensOf(catalog, model, *inputs.model));
  return inputs;
}

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
