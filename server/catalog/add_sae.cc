// Adding an SAE, from outside or from a training job of our own.
#include <utility>

#include "absl/strings/match.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/reservation.h"
#include "server/catalog/staging.h"
#include "server/sae/sae_files.h"

namespace featurescope {
namespace {

bool IsWeightFile(absl::string_view name) { return absl::EndsWith(name, ".safetensors"); }
bool IsSaeFile(absl::string_view name) { return name == "cfg.json" || IsWeightFile(name); }

SaeRow Describe(const Sae& sae) {
  const SaeConfig& config = sae.config();
  SaeRow row;
  row.architecture = config.architecture;
  row.d_in = static_cast<uint32_t>(config.d_in);
  row.d_sae = static_cast<uint32_t>(config.d_sae);
  row.k = static_cast<uint32_t>(config.k);
  row.apply_b_dec_to_input = config.apply_b_dec_to_input;
  const absl::string_view mode = NormalizeActivationsName(config.normalize_activations);
  row.normalize_activations = std::string(mode);
  row.format = config.format;
  row.context_size = static_cast<uint32_t>(config.context_size);
  row.prepend_bos = config.prepend_bos;
  row.memory_bytes = sae.memory_bytes();
  row.hash = sae.hash();
  return row;
}

}  // namespace

absl::Status Catalog::FitToModel(const SaeConfig& config, const AddSaeOptions& options,
                                 SaeRow* row) const {
  ASSIGN_OR_RETURN(const ModelConfig model, Config(options.model_id));
  row->model_id = options.model_id;
  row->hook_name = options.hook_name.empty() ? config.hook_name : options.hook_name;
  const auto width = [&]() -> absl::StatusOr<int64_t> {
    if (row->hook_name.empty()) {
      return InvalidArgument("the SAE's files name no hook point; give one, e.g. with --hook");
    }
    ASSIGN_OR_RETURN(const HookPoint hook, HookPoint::Parse(row->hook_name));
    return model.HookWidth(hook);
  }();
  if (width.ok() && *width == config.d_in) return absl::OkStatus();
  if (options.any_width) {
    row->vectors_only = true;
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(width.status());
  return InvalidArgument("the SAE has d_in ", config.d_in, ", but ", row->hook_name, " of model \"",
                         options.model_id, "\" is ", *width,
                         " wide; --any-width accepts it for vectors only");
}

absl::StatusOr<SaeRow> Catalog::AddSae(absl::string_view id, const std::string& path,
                                       const AddSaeOptions& options) {
  RETURN_IF_ERROR(CheckId(id, "SAE id"));
  RETURN_IF_ERROR(GetModel(options.model_id).status());
  ASSIGN_OR_RETURN(const std::string source, ResolveDirectory(path));
  const Reservation reservation(this, absl::StrCat("sae:", id));

  ASSIGN_OR_RETURN(StagingDir staging, StagingDir::Create(JoinPath(data_dir_, "saes")));
  RETURN_IF_ERROR(
      ImportFiles(source, staging.path(), options_.allowed_roots, IsSaeFile, IsWeightFile));
  ASSIGN_OR_RETURN(std::shared_ptr<const Sae> sae, LoadSae(staging.path(), options_.device));
  SaeRow row = Describe(*sae);
  row.id = std::string(id);
  row.path = EntryDir("saes", id);
  RETURN_IF_ERROR(FitToModel(sae->config(), options, &row));

  if (const auto existing = GetSae(id); existing.ok()) {
    if (existing->hash == row.hash && existing->model_id == row.model_id &&
        existing->hook_name == row.hook_name) {
      return existing;
    }
    return AlreadyExists("SAE \"", id, "\" exists with other content, model or hook point");
  }
  RETURN_IF_ERROR(staging.MoveTo(row.path, [&] { return db_->AddSae(row); }));
  weights_.Put(absl::StrCat("sae:", id), row.memory_bytes, std::move(sae));
  return GetSae(id);
}

absl::StatusOr<SaeRow> Catalog::AdoptSae(absl::string_view id, const std::string& dir,
                                         absl::string_view model_id, absl::string_view hook_name,
                                         absl::string_view training_job_id) {
  RETURN_IF_ERROR(CheckId(id, "SAE id"));
  const Reservation reservation(this, absl::StrCat("sae:", id));
  if (const auto existing = GetSae(id); existing.ok()) {
    if (existing->training_job_id == training_job_id) return existing;
    return AlreadyExists("SAE \"", id, "\" exists already; job ", training_job_id,
                         " cannot take its place");
  }
  const std::vector<std::string> roots = {data_dir_};
  ASSIGN_OR_RETURN(const std::string source, ResolveWithin(roots, dir));
  ASSIGN_OR_RETURN(std::shared_ptr<const Sae> sae, LoadSae(source, options_.device));
  SaeRow row = Describe(*sae);
  row.id = std::string(id);
  row.path = EntryDir("saes", id);
  row.training_job_id = std::string(training_job_id);
  const AddSaeOptions options{std::string(model_id), std::string(hook_name), false};
  RETURN_IF_ERROR(FitToModel(sae->config(), options, &row));
  RETURN_IF_ERROR(StagingDir::Adopt(source).MoveTo(row.path, [&] { return db_->AddSae(row); }));
  weights_.Put(absl::StrCat("sae:", id), row.memory_bytes, std::move(sae));
  return GetSae(id);
}

}  // namespace featurescope
