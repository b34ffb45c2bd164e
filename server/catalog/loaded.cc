// Handles of loaded models, SAEs, tokenizers, corpora and indexes.
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/sae_overrides.h"
#include "server/sae/sae_files.h"

namespace featurescope {
namespace {

template <typename T>
std::shared_ptr<const T> As(const LoadCache::Handle& handle) {
  return std::static_pointer_cast<const T>(handle);
}

// Files of an entry that are not those that were added.
absl::Status Changed(absl::string_view kind, absl::string_view id, absl::string_view path) {
  return absl::DataLossError(absl::StrCat("the files of ", kind, " \"", id, "\" in ", path,
                                          " are no longer those that were added: delete it and "
                                          "add it again"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Transformer>> Catalog::LoadedModel(absl::string_view id) {
  ASSIGN_OR_RETURN(const ModelRow row, GetModel(id));
  const auto load = [&]() -> absl::StatusOr<LoadCache::Handle> {
    LoadOptions options;
    options.device = options_.device;
    options.dtype = options_.dtype;
    ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> model,
                     Transformer::Load(row.path, options));
    if (model->hash() != row.hash) return Changed("model", id, row.path);
    return LoadCache::Handle(std::move(model));
  };
  ASSIGN_OR_RETURN(const LoadCache::Handle handle,
                   weights_.Get(absl::StrCat("model:", id), row.memory_bytes, load));
  return As<Transformer>(handle);
}

absl::StatusOr<std::shared_ptr<const Sae>> Catalog::LoadedSae(absl::string_view id) {
  ASSIGN_OR_RETURN(const SaeRow row, GetSae(id));
  const auto load = [&]() -> absl::StatusOr<LoadCache::Handle> {
    ASSIGN_OR_RETURN(const LoadSaeOptions options, SaeOverridesFromJson(row.overrides));
    ASSIGN_OR_RETURN(std::shared_ptr<const Sae> sae,
                     LoadSae(JoinPath(row.path, row.main_file), options_.device, options));
    if (sae->hash() != row.hash) return Changed("SAE", id, row.path);
    return LoadCache::Handle(std::move(sae));
  };
  ASSIGN_OR_RETURN(const LoadCache::Handle handle,
                   weights_.Get(absl::StrCat("sae:", id), row.memory_bytes, load));
  return As<Sae>(handle);
}

absl::StatusOr<CorpusHandle> Catalog::LoadedCorpus(absl::string_view id) {
  ASSIGN_OR_RETURN(CorpusRow row, GetCorpus(id));
  const auto load = [&]() -> absl::StatusOr<LoadCache::Handle> {
    ASSIGN_OR_RETURN(std::shared_ptr<const TokenFile> tokens, TokenFile::Open(row.path));
    if (tokens->hash() != row.hash) return Changed("corpus", id, row.path);
    return LoadCache::Handle(std::move(tokens));
  };
  ASSIGN_OR_RETURN(const LoadCache::Handle handle,
                   small_.Get(absl::StrCat("corpus:", id), 2, load));
  return CorpusHandle{std::move(row), As<TokenFile>(handle)};
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Catalog::LoadedTokenizer(
    absl::string_view model_id) {
  ASSIGN_OR_RETURN(const ModelRow row, GetModel(model_id));
  if (!row.has_tokenizer) {
    return FailedPrecondition("model \"", model_id,
                              "\" has no tokenizer files: it takes token ids only, no text");
  }
  const auto load = [&]() -> absl::StatusOr<LoadCache::Handle> {
    ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::Load(row.path));
    if (tokenizer->hash() != row.tokenizer_hash) return Changed("model", model_id, row.path);
    return LoadCache::Handle(std::move(tokenizer));
  };
  ASSIGN_OR_RETURN(const LoadCache::Handle handle,
                   small_.Get(absl::StrCat("tokenizer:", model_id), 1, load));
  return As<Tokenizer>(handle);
}

bool Catalog::ModelIsLoaded(absl::string_view id) const {
  return weights_.Contains(absl::StrCat("model:", id));
}

absl::Status Catalog::UnloadModel(absl::string_view id) {
  RETURN_IF_ERROR(GetModel(id).status());
  weights_.Drop(absl::StrCat("model:", id));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const IndexReader>> Catalog::OpenIndex(absl::string_view sae_id,
                                                                      absl::string_view corpus_id) {
  RETURN_IF_ERROR(GetSae(sae_id).status());
  std::string path;
  if (corpus_id.empty()) {
    ASSIGN_OR_RETURN(const std::vector<IndexEntry> entries, ListIndexes(sae_id));
    if (entries.empty()) {
      return NotFound("no index for SAE \"", sae_id, "\": run `featurescope index --sae ", sae_id,
                      " --corpus CORPUS`");
    }
    if (entries.size() > 1) {
      const std::string corpora = absl::StrJoin(
          entries, ", ",
          [](std::string* out, const IndexEntry& entry) { out->append(entry.corpus_id); });
      return FailedPrecondition("SAE \"", sae_id,
                                "\" has several indexes; name the corpus: ", corpora);
    }
    path = entries[0].path;
  } else {
    RETURN_IF_ERROR(CheckId(corpus_id, "corpus id"));
    path = IndexPath(sae_id, corpus_id);
  }
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    return NotFound("no index for SAE \"", sae_id, "\" on corpus \"", corpus_id,
                    "\": run `featurescope index --sae ", sae_id, " --corpus ", corpus_id, "`");
  }
  const auto load = [&]() -> absl::StatusOr<LoadCache::Handle> {
    ASSIGN_OR_RETURN(std::shared_ptr<const IndexReader> reader, IndexReader::Open(path));
    return LoadCache::Handle(std::move(reader));
  };
  // A file that took the place of another has another key; the old reader ages away.
  const std::string key = absl::StrCat("index:", path, ":", info.st_ino, ":", info.st_size, ":",
                                       info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec);
  ASSIGN_OR_RETURN(const LoadCache::Handle handle, small_.Get(key, 4, load));
  return As<IndexReader>(handle);
}

}  // namespace featurescope
