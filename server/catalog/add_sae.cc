// Adding an SAE, from outside or from a training job of our own.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/import_sae_files.h"
#include "server/catalog/known_sae.h"
#include "server/catalog/names.h"
#include "server/catalog/reservation.h"
#include "server/catalog/sae_overrides.h"
#include "server/catalog/staging.h"
#include "server/model/centring.h"

namespace featurescope {
namespace {

// What the SAE itself says.
SaeRow Describe(const Sae& sae) {
  const SaeConfig& config = sae.config();
  const SaeRecognition& found = sae.recognition();
  SaeRow row;
  row.architecture = config.architecture;
  row.d_in = static_cast<uint32_t>(config.d_in);
  row.d_out = static_cast<uint32_t>(config.d_out);
  row.d_sae = static_cast<uint32_t>(config.d_sae);
  row.k = static_cast<uint32_t>(config.k);
  row.apply_b_dec_to_input = config.apply_b_dec_to_input;
  const absl::string_view mode = NormalizeActivationsName(config.normalize_activations);
  row.normalize_activations = std::string(mode);
  row.activation = DescribeActivation(config);
  row.format = found.format;
  row.file_dtype = found.dtype;
  row.trained_on = found.model_name;
  row.context_size = static_cast<uint32_t>(found.context_size);
  row.prepend_bos = found.prepend_bos.value_or(true);
  row.prepend_bos_known = found.prepend_bos.has_value();
  row.folds = found.folds;
  row.notes = found.notes;
  row.warnings = found.warnings;
  row.memory_bytes = sae.memory_bytes();
  row.hash = sae.hash();
  return row;
}

std::string FirstOf(const std::string& a, const std::string& b, const std::string& c) {
  return !a.empty() ? a : !b.empty() ? b : c;
}

// What the release says where the files do not.
void Complete(const KnownOfSae& known, SaeRow* row) {
  if (row->trained_on.empty()) row->trained_on = known.model;
  if (row->context_size == 0) row->context_size = known.context_size;
  if (!row->prepend_bos_known && known.prepend_bos.has_value()) {
    row->prepend_bos = *known.prepend_bos;
    row->prepend_bos_known = true;
  }
  if (!known.note.empty()) row->notes.push_back(known.note);
}

// Things about SAE and model together that a user should look at.
void WarnOfMismatch(const ModelRow& model, SaeRow* row) {
  if (!row->trained_on.empty() && !GoesByName(model, row->trained_on)) {
    row->warnings.push_back(absl::StrCat("the SAE was trained on a model called \"",
                                         row->trained_on, "\"; make sure that \"", model.id,
                                         "\" is the same"));
  }
  if (row->prepend_bos_known && model.has_tokenizer && row->prepend_bos != model.prepend_bos) {
    row->warnings.push_back(
        row->prepend_bos
            ? absl::StrCat("the SAE was trained on contexts that begin with BOS, which model \"",
                           model.id, "\" does not put in front of texts by itself")
            : absl::StrCat("the SAE was trained on contexts without BOS, which model \"", model.id,
                           "\" puts in front of texts"));
  }
}

absl::StatusOr<HookPoint> ParseHook(const std::string& name, absl::string_view field,
                                    absl::string_view flag) {
  if (name.empty()) {
    return InvalidField(field, "the files do not say at which hook point the SAE ",
                        field == "hook_name" ? "reads" : "writes", "; give it with ", flag,
                        ", e.g. ", flag, " blocks.6.hook_resid_post");
  }
  auto hook = HookPoint::Parse(name);
  if (!hook.ok()) return Annotate(hook.status(), flag);
  return hook;
}

}  // namespace

absl::StatusOr<ModelRow> Catalog::ModelOf(const Sae& sae, const AddSaeOptions& options) const {
  if (!options.model_id.empty()) return GetModel(options.model_id);
  ASSIGN_OR_RETURN(const std::vector<ModelRow> models, ListModels());
  const KnownOfSae known = options.known.value_or(KnownOfSae());
  const std::string name = FirstOf(sae.recognition().model_name, known.model, "");
  std::vector<ModelRow> namesakes;
  for (const ModelRow& model : models) {
    if (!name.empty() && GoesByName(model, name)) namesakes.push_back(model);
  }
  if (namesakes.size() == 1) return namesakes.front();
  const std::string there =
      models.empty() ? "there is no model yet: add one with featurescope model add"
                     : absl::StrCat("give it with --model: ",
                                    absl::StrJoin(namesakes.empty() ? models : namesakes, ", ",
                                                  [](std::string* out, const ModelRow& model) {
                                                    out->append(model.id);
                                                  }));
  if (name.empty()) {
    return InvalidField("model_id", "the files do not say which model the SAE was trained on; ",
                        there);
  }
  return InvalidField("model_id", "the SAE was trained on a model called \"", name, "\", and ",
                      namesakes.empty() ? "no model" : "more than one model",
                      " here goes by that name; ", there);
}

absl::Status Catalog::FitToModel(const Sae& sae, const AddSaeOptions& options, SaeRow* row) const {
  ASSIGN_OR_RETURN(const ModelRow model, ModelOf(sae, options));
  ASSIGN_OR_RETURN(const ModelConfig config, Config(model.id));
  const SaeRecognition& found = sae.recognition();
  const KnownOfSae known = options.known.value_or(KnownOfSae());
  row->model_id = model.id;
  row->hook_name = FirstOf(options.hook_name, found.hook_name, known.hook_name);
  row->hook_name_out = row->hook_name;
  if (sae.is_transcoder()) {
    row->hook_name_out = FirstOf(options.hook_name_out, found.hook_name_out, known.hook_name_out);
  }
  Complete(known, row);
  WarnOfMismatch(model, row);

  row->center_writing_weights =
      options.center_writing_weights.value_or(known.center_writing_weights);
  if (row->center_writing_weights) {
    const absl::Status can = CheckCanCenterWriting(config);
    if (!can.ok()) return InvalidField("center_writing_weights", can.message());
  }

  const auto fits = [&]() -> absl::Status {
    const auto check = [&](const HookPoint& hook, absl::string_view what, uint32_t width) {
      const auto expected = config.HookWidth(hook);
      if (!expected.ok()) {
        return InvalidArgument(expected.status().message(), " of model \"", model.id,
                               "\"; give another with ", what == "d_in" ? "--hook" : "--hook-out");
      }
      if (*expected == width) return absl::OkStatus();
      return InvalidArgument("the SAE has ", what, " ", width, ", but ", hook.name(),
                             " of model \"", model.id, "\" is ", *expected,
                             " wide; --any-width accepts it for vectors only");
    };
    ASSIGN_OR_RETURN(const HookPoint hook, ParseHook(row->hook_name, "hook_name", "--hook"));
    RETURN_IF_ERROR(check(hook, "d_in", row->d_in));
    if (!sae.is_transcoder()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const HookPoint out,
                     ParseHook(row->hook_name_out, "hook_name_out", "--hook-out"));
    if (ExecutionOrder(out, config.n_layers) < ExecutionOrder(hook, config.n_layers)) {
      return InvalidField("hook_name_out", "the model reaches ", out.name(), ", which the SAE ",
                          "writes, before ", hook.name(), ", which it reads");
    }
    return check(out, "d_out", row->d_out);
  }();
  if (!fits.ok() && options.any_width) {
    row->vectors_only = true;
    return absl::OkStatus();
  }
  return fits;
}

absl::StatusOr<SaeRow> Catalog::AddSae(absl::string_view id, const std::string& path,
                                       const AddSaeOptions& asked) {
  RETURN_IF_ERROR(CheckId(id, "SAE id"));
  AddSaeOptions options = asked;
  if (!options.known) options.known = KnownOfPath(path);
  if (!options.load.norm_scaling_factor && options.known->norm_scaling_factor > 0) {
    options.load.norm_scaling_factor = options.known->norm_scaling_factor;
  }
  if (!options.model_id.empty()) RETURN_IF_ERROR(GetModel(options.model_id).status());
  const Reservation reservation(this, absl::StrCat("sae:", id));

  std::vector<std::string> roots = RootsFor(options.source);
  roots.push_back(JoinPath(data_dir_, "checkpoints"));
  ASSIGN_OR_RETURN(StagingDir staging, StagingDir::Create(JoinPath(data_dir_, "saes")));
  ASSIGN_OR_RETURN(const std::string main_file,
                   ImportSaeFiles(path, staging.path(), roots));
  ASSIGN_OR_RETURN(std::shared_ptr<const Sae> sae,
                   LoadSae(JoinPath(staging.path(), main_file), options_.device, options.load));
  SaeRow row = Describe(*sae);
  row.id = std::string(id);
  row.path = EntryDir("saes", id);
  row.main_file = main_file;
  row.overrides = ToJson(options.load);
  row.source = options.source.name.empty() ? path : options.source.name;
  RETURN_IF_ERROR(FitToModel(*sae, options, &row));

  if (const auto existing = GetSae(id); existing.ok()) {
    if (existing->hash == row.hash && existing->model_id == row.model_id &&
        existing->hook_name == row.hook_name && existing->hook_name_out == row.hook_name_out &&
        existing->center_writing_weights == row.center_writing_weights) {
      return existing;
    }
    return AlreadyExists("SAE \"", id, "\" exists with other content, model, hook point or ",
                         "settings");
  }
  RETURN_IF_ERROR(staging.MoveTo(row.path, [&] { return db_->AddSae(row); }));
  weights_.Put(absl::StrCat("sae:", id), row.memory_bytes, std::move(sae));
  return GetSae(id);
}

absl::StatusOr<SaeRow> Catalog::AdoptSae(absl::string_view id, const std::string& dir,
                                         absl::string_view model_id, absl::string_view hook_name,
                                         absl::string_view training_job_id,
                                         absl::string_view hook_name_out) {
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
  row.source = absl::StrCat("job ", training_job_id);
  row.training_job_id = std::string(training_job_id);
  AddSaeOptions options;
  options.model_id = std::string(model_id);
  options.hook_name = std::string(hook_name);
  options.hook_name_out = std::string(hook_name_out);
  RETURN_IF_ERROR(FitToModel(*sae, options, &row));
  RETURN_IF_ERROR(StagingDir::Adopt(source).MoveTo(row.path, [&] { return db_->AddSae(row); }));
  weights_.Put(absl::StrCat("sae:", id), row.memory_bytes, std::move(sae));
  return GetSae(id);
}

}  // namespace featurescope
