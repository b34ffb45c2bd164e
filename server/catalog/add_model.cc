// Adding a model: files into the data directory, weights loaded once, entry made.
#include <utility>

#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/reservation.h"
#include "server/catalog/staging.h"

namespace featurescope {
namespace {

bool IsWeightFile(absl::string_view name) { return absl::EndsWith(name, ".safetensors"); }

bool IsModelFile(absl::string_view name) {
  constexpr absl::string_view kNames[] = {"config.json",
                                          "generation_config.json",
                                          "tokenizer.json",
                                          "tokenizer.model",
                                          "tokenizer_config.json",
                                          "special_tokens_map.json",
                                          "added_tokens.json",
                                          "vocab.json",
                                          "merges.txt",
                                          "chat_template.jinja",
                                          "chat_template.json",
                                          "model.safetensors.index.json"};
  for (const absl::string_view known : kNames) {
    if (name == known) return true;
  }
  return IsWeightFile(name);
}

absl::Status DescribeTokenizer(const std::string& dir, ModelRow* row) {
  const auto tokenizer = Tokenizer::Load(dir);
  if (absl::IsNotFound(tokenizer.status())) return absl::OkStatus();
  if (!tokenizer.ok()) {
    return Annotate(tokenizer.status(),
                    "the model's tokenizer (a directory without tokenizer files is fine for token "
                    "ids)");
  }
  row->has_tokenizer = true;
  row->prepend_bos = (*tokenizer)->adds_bos();
  row->tokenizer_hash = (*tokenizer)->hash();
  return absl::OkStatus();
}

void Describe(const Transformer& model, ModelRow* row) {
  const ModelConfig& config = model.config();
  row->architecture = config.model_type;
  row->n_layers = static_cast<uint32_t>(config.n_layers);
  row->d_model = static_cast<uint32_t>(config.d_model);
  row->n_heads = static_cast<uint32_t>(config.n_heads);
  row->d_head = static_cast<uint32_t>(config.d_head);
  row->d_mlp = static_cast<uint32_t>(config.d_mlp);
  row->d_vocab = static_cast<uint32_t>(config.d_vocab);
  row->n_ctx = static_cast<uint32_t>(config.n_ctx);
  row->n_parameters = model.n_parameters();
  row->memory_bytes = model.memory_bytes();
  row->hash = model.hash();
  for (const HookPoint& hook : config.AllHooks()) row->hook_names.push_back(hook.name());
}

}  // namespace

absl::StatusOr<ModelRow> Catalog::AddModel(absl::string_view id, const std::string& path) {
  RETURN_IF_ERROR(CheckId(id, "model id"));
  ASSIGN_OR_RETURN(const std::string source, ResolveDirectory(path));
  const Reservation reservation(this, absl::StrCat("model:", id));

  ASSIGN_OR_RETURN(StagingDir staging, StagingDir::Create(JoinPath(data_dir_, "models")));
  RETURN_IF_ERROR(
      ImportFiles(source, staging.path(), options_.allowed_roots, IsModelFile, IsWeightFile));
  ModelRow row;
  row.id = std::string(id);
  row.path = EntryDir("models", id);
  RETURN_IF_ERROR(DescribeTokenizer(staging.path(), &row));
  LoadOptions options;
  options.device = options_.device;
  options.dtype = options_.dtype;
  ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> model,
                   Transformer::Load(staging.path(), options));
  Describe(*model, &row);

  if (const auto existing = GetModel(id); existing.ok()) {
    if (existing->hash == row.hash && existing->tokenizer_hash == row.tokenizer_hash) {
      return existing;
    }
    return AlreadyExists("model \"", id, "\" exists with other content");
  }
  RETURN_IF_ERROR(staging.MoveTo(row.path, [&] { return db_->AddModel(row); }));
  const uint64_t bytes = row.memory_bytes;
  weights_.Put(absl::StrCat("model:", id), bytes, std::move(model));
  return GetModel(id);
}

}  // namespace featurescope
