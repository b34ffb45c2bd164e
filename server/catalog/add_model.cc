// Adding a model: files into the data directory, weights loaded once, entry made.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/reservation.h"
#include "server/catalog/staging.h"
#include "server/model/dtype_report.h"

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
  row->tokenizer_kind =
      FileExists(JoinPath(dir, "tokenizer.json")) ? "tokenizer.json" : "tokenizer.model";
  const auto& chat = (*tokenizer)->chat_template();
  row->has_chat_template = chat.ok();
  if (!chat.ok() && !absl::IsFailedPrecondition(chat.status())) {
    row->warnings.push_back(
        absl::StrCat("its chat template cannot be used: ", chat.status().message()));
  }
  return absl::OkStatus();
}

// Says how far computing in another dtype than float32 moves the activations, where both fit into
// `room` bytes.
absl::Status ReportDtype(const std::string& dir, const Transformer& model, uint64_t room,
                         const LoadOptions& options, ModelRow* row) {
  const std::string name = options.dtype == torch::kBFloat16 ? "bfloat16" : "float16";
  if (model.n_parameters() * sizeof(float) > room) {
    row->warnings.push_back(
        absl::StrCat("it computes in ", name,
                     "; how far that moves its activations was not measured: "
                     "in float32 it does not fit beside into the memory budget"));
    return absl::OkStatus();
  }
  LoadOptions full = options;
  full.dtype = torch::kFloat32;
  ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> reference,
                   Transformer::Load(dir, full));
  // Any tokens will do: rounding does not depend on sense.
  std::vector<std::vector<uint32_t>> sequences(1);
  const auto length = static_cast<uint64_t>(std::min<int64_t>(model.config().n_ctx, 64));
  for (uint64_t i = 0; i < length; ++i) {
    sequences[0].push_back(
        static_cast<uint32_t>(Mix64(i) % static_cast<uint64_t>(model.config().d_vocab)));
  }
  ASSIGN_OR_RETURN(const DtypeReport report, CompareDtypes(*reference, model, sequences, {}, {}));
  const auto worst =
      std::max_element(report.hooks.begin(), report.hooks.end(),
                       [](const auto& a, const auto& b) { return a.relative_l2 < b.relative_l2; });
  row->warnings.push_back(absl::StrFormat(
      "it computes in %s, which moves the residual stream by up to %.2g of its length (at %s) and "
      "the predictions by %.2g nats (mean KL) against float32",
      name, worst->relative_l2, worst->hook.name(), report.mean_kl));
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

absl::StatusOr<ModelRow> Catalog::AddModel(absl::string_view id, const std::string& path,
                                           const AddSource& origin) {
  RETURN_IF_ERROR(CheckId(id, "model id"));
  const std::vector<std::string> roots = RootsFor(origin);
  ASSIGN_OR_RETURN(const std::string source, ResolveWithin(roots, path));
  std::error_code error;
  if (!std::filesystem::is_directory(source, error)) {
    return InvalidArgument(path, ": is no directory");
  }
  const Reservation reservation(this, absl::StrCat("model:", id));

  ASSIGN_OR_RETURN(StagingDir staging, StagingDir::Create(JoinPath(data_dir_, "models")));
  RETURN_IF_ERROR(ImportFiles(source, staging.path(), roots, IsModelFile, IsWeightFile));
  ModelRow row;
  row.id = std::string(id);
  row.path = EntryDir("models", id);
  row.source = origin.name.empty() ? source : origin.name;
  RETURN_IF_ERROR(DescribeTokenizer(staging.path(), &row));
  LoadOptions options;
  options.device = options_.device;
  options.dtype = options_.dtype;
  ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> model,
                   Transformer::Load(staging.path(), options));
  Describe(*model, &row);
  if (options.dtype != torch::kFloat32) {
    const uint64_t taken = weights_.used_bytes() + row.memory_bytes;
    const uint64_t room = weights_.budget_bytes() - std::min(weights_.budget_bytes(), taken);
    RETURN_IF_ERROR(ReportDtype(staging.path(), *model, room, options, &row));
  }

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
