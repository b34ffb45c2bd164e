#include "server/train/training_member.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/sae_files.h"
#include "server/tensor/gate.h"
#include "server/train/activation_files.h"
#include "server/train/schedule.h"
#include "server/train/spec_fields.h"

namespace featurescope {
namespace {

constexpr char kExportedName[] = "exported.json";
constexpr char kBestName[] = "best.json";

absl::Status Rename(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::rename(from, to, error);
  return error ? ErrnoStatus(error.value(), to) : absl::OkStatus();
}

// Whether `output_dir` is what a run of this fingerprint in `work_dir` wrote.
bool WasExported(const std::string& work_dir, const std::string& fingerprint,
                 const std::string& output_dir) {
  const absl::StatusOr<nlohmann::json> marker = ReadJsonFile(JoinPath(work_dir, kExportedName));
  if (!marker.ok()) return false;
  const absl::StatusOr<std::string> made_by = JsonString(*marker, "fingerprint", work_dir);
  const absl::StatusOr<std::string> where = JsonString(*marker, "output_dir", work_dir);
  return made_by.ok() && where.ok() && *made_by == fingerprint && *where == output_dir;
}

}  // namespace

std::string MemberFingerprint(const TrainingInputs& inputs, const TrainingSpec& spec) {
  std::string text =
      absl::StrCat("3|", inputs.hook.name(), "|", inputs.hook_out ? inputs.hook_out->name() : "",
                   "|", DescribeComputation(spec));
  if (inputs.activations != nullptr) {
    absl::StrAppend(&text, "|", inputs.activations->identity());
    return Sha256Hex(text);
  }
  absl::StrAppend(&text, "|", inputs.model->hash(), "|", inputs.corpus->hash());
  if (!inputs.more_corpora.empty()) {
    absl::StrAppend(&text, "|", nlohmann::json(inputs.corpus_weight).dump());
  }
  for (const CorpusShare& share : inputs.more_corpora) {
    absl::StrAppend(&text, "|", share.corpus->hash(), "|", nlohmann::json(share.weight).dump());
  }
  for (uint32_t token : inputs.special_tokens) absl::StrAppend(&text, "|", token);
  return Sha256Hex(text);
}

TrainingMember::TrainingMember(MemberPlan plan)
    : plan_(std::move(plan)), total_steps_(TotalSteps(plan_.spec)) {
  const absl::StatusOr<nlohmann::json> best = ReadJsonFile(JoinPath(plan_.work_dir, kBestName));
  if (!best.ok()) return;
  const absl::StatusOr<std::string> made_by = JsonString(*best, "fingerprint", kBestName);
  const absl::StatusOr<double> fvu = JsonFloat(*best, "fvu", kBestName);
  if (made_by.ok() && fvu.ok() && *made_by == plan_.fingerprint) best_fvu_ = *fvu;
}

absl::StatusOr<bool> TrainingMember::IsFinished() const {
  std::error_code error;
  if (!std::filesystem::exists(plan_.output_dir, error)) return false;
  if (WasExported(plan_.work_dir, plan_.fingerprint, plan_.output_dir)) return true;
  return AlreadyExists(plan_.output_dir, " exists already");
}

std::vector<int64_t> TrainingMember::CheckpointSteps() const {
  return featurescope::CheckpointSteps(plan_.work_dir);
}

absl::StatusOr<bool> TrainingMember::Restore(int64_t step, uint64_t* block, int64_t* batch) {
  ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint,
                   LoadCheckpoint(plan_.fingerprint, plan_.work_dir, step, plan_.spec, plan_.widths,
                                  plan_.inputs.device()));
  if (!checkpoint) return false;
  *block = checkpoint->block;
  *batch = checkpoint->batch;
  scales_ = checkpoint->scales;
  saved_step_ = step;
  RETURN_IF_ERROR(TorchGate("allocating the trainer", [&] {
    trainer_ = std::make_unique<SaeTrainer>(plan_.spec, std::move(checkpoint->state));
  }));
  return true;
}

void TrainingMember::Begin(const ActivationStream& stream) {
  const bool transcoder = TraitsOf(plan_.spec).transcoder;
  scales_.input = stream.MeasureScale(plan_.input_channel, plan_.spec.input_scaling);
  scales_.target = transcoder ? stream.MeasureScale(plan_.target_channel, plan_.spec.input_scaling)
                              : scales_.input;
  trainer_ = std::make_unique<SaeTrainer>(
      plan_.spec, InitialState(plan_.spec, plan_.widths, plan_.inputs.device()));
  stream.CopyBatch(0, plan_.input_channel, plan_.spec.input_scaling, scales_.input,
                   trainer_->input());
  if (transcoder) {
    stream.CopyBatch(0, plan_.target_channel, InputScaling::kNone, scales_.target,
                     trainer_->target());
  }
  trainer_->InitializeFromBatch();
}

void TrainingMember::BeginStep(const ActivationStream& stream, int64_t batch) {
  stream.CopyBatch(batch, plan_.input_channel, plan_.spec.input_scaling, scales_.input,
                   trainer_->input());
  if (TraitsOf(plan_.spec).transcoder) {
    stream.CopyBatch(batch, plan_.target_channel, InputScaling::kNone, scales_.target,
                     trainer_->target());
  }
  trainer_->BeginStep(SettingsOfStep(plan_.spec, step(), total_steps_));
}

absl::Status TrainingMember::EndStep() {
  const StepResult& result = trainer_->result();
  if (!result.finite()) {
    return FailedPrecondition(
        plan_.prefix, "the loss is not finite at step ", step(), " (loss ", result.loss,
        ", gradient norm ", result.grad_norm, ", learning rate ",
        SettingsOfStep(plan_.spec, step(), total_steps_).learning_rate,
        "); a lower learning_rate may help. The last good checkpoint is that of step ",
        saved_step_);
  }
  metrics_.Add(result);
  since_saved_.Add(result);
  return absl::OkStatus();
}

void TrainingMember::BeginHeldOut(const std::vector<torch::Tensor>& rows, int64_t i) {
  const auto copy = [&](size_t channel, InputScaling scaling, double scale, torch::Tensor& out) {
    const int64_t n = rows[channel].size(0);
    const torch::Tensor index =
        (torch::arange(out.size(0), torch::kInt64) + i * out.size(0)).remainder(n);
    at::index_select_out(out, rows[channel], 0, index.to(out.device()));
    ScaleTokens(scaling, out);
    if (scale != 1) out.mul_(scale);
  };
  copy(plan_.input_channel, plan_.spec.input_scaling, scales_.input, trainer_->input());
  if (TraitsOf(plan_.spec).transcoder) {
    copy(plan_.target_channel, InputScaling::kNone, scales_.target, trainer_->target());
  }
  const int64_t last = std::min(step(), total_steps_ - 1);
  trainer_->BeginEvaluation(SettingsOfStep(plan_.spec, last, total_steps_));
}

void TrainingMember::FinishHeldOut() {
  held_out_values_ = held_out_.TakeHeldOut();
  held_out_fvu_ = held_out_values_.at("heldout_fvu");
}

void TrainingMember::Report(std::map<std::string, double>* values) {
  if (metrics_.empty()) return;  // of a sweep, others have had their turn since the last report
  std::map<std::string, double> own = metrics_.Take(plan_.spec);
  own["learning_rate"] = SettingsOfStep(plan_.spec, step() - 1, total_steps_).learning_rate;
  own.merge(held_out_values_);
  held_out_values_.clear();
  for (const auto& [name, value] : own) (*values)[absl::StrCat(plan_.prefix, name)] = value;
}

absl::Status TrainingMember::Save(uint64_t block, int64_t batch) {
  Checkpoint checkpoint;
  checkpoint.state = trainer_->state();
  checkpoint.block = block;
  checkpoint.batch = batch;
  checkpoint.scales = scales_;
  RETURN_IF_ERROR(TorchGate("writing a checkpoint", [&] {
    return SaveCheckpoint(checkpoint, plan_.fingerprint, plan_.work_dir);
  }));
  saved_step_ = step();
  return WriteLastAndBest();
}

absl::Status TrainingMember::WriteLastAndBest() {
  const std::string last = JoinPath(plan_.work_dir, "last");
  RETURN_IF_ERROR(WriteSae(last, /*replace=*/true));
  if (since_saved_.empty()) return absl::OkStatus();
  const double training_fvu = since_saved_.Take(plan_.spec).at("fvu");
  const double fvu = held_out_fvu_.value_or(training_fvu);
  if (best_fvu_ && fvu >= *best_fvu_) return absl::OkStatus();
  // The same files under a second name.
  const std::string best = JoinPath(plan_.work_dir, "best");
  const std::string partial = absl::StrCat(best, ".partial");
  std::error_code error;
  std::filesystem::remove_all(partial, error);
  std::filesystem::copy(
      last, partial,
      std::filesystem::copy_options::create_hard_links | std::filesystem::copy_options::recursive,
      error);
  if (error) return ErrnoStatus(error.value(), partial);
  std::filesystem::remove_all(best, error);
  RETURN_IF_ERROR(Rename(partial, best));
  best_fvu_ = fvu;
  const nlohmann::json marker = {
      {"fingerprint", plan_.fingerprint}, {"fvu", fvu}, {"step", step()}};
  return WriteFileAtomically(JoinPath(plan_.work_dir, kBestName), marker.dump());
}

absl::StatusOr<std::shared_ptr<const Sae>> TrainingMember::MakeSae() const {
  SaeConfig config = ExportConfig(plan_.spec, plan_.widths);
  const TrainingInputs& inputs = plan_.inputs;
  if (inputs.model != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> shape,
                     inputs.model->config().HookShape(inputs.hook));
    config.reshape_hook_z = shape.size() > 1;
  }
  config.model_name = inputs.model_name;
  config.hook_name = inputs.hook.name();
  if (inputs.hook_out) config.hook_name_out = inputs.hook_out->name();
  if (inputs.corpus != nullptr) {
    config.context_size = inputs.corpus->context_size();
    config.prepend_bos = inputs.corpus->prepend_bos();
  }
  ASSIGN_OR_RETURN(SaeParameters parameters, TorchGate("exporting the SAE", [&] {
                     return ExportParameters(plan_.spec, trainer_->state(), scales_);
                   }));
  return Sae::Create(std::move(config), std::move(parameters));
}

absl::Status TrainingMember::WriteSae(const std::string& dir, bool replace) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Sae> sae, MakeSae());
  const std::string partial = absl::StrCat(dir, ".partial");
  std::error_code error;
  std::filesystem::remove_all(partial, error);
  RETURN_IF_ERROR(EnsureDir(partial));
  RETURN_IF_ERROR(SaveSae(*sae, partial));
  if (replace) std::filesystem::remove_all(dir, error);
  return Rename(partial, dir);
}

absl::Status TrainingMember::Export() const {
  const nlohmann::json marker = {{"fingerprint", plan_.fingerprint},
                                 {"output_dir", plan_.output_dir}};
  RETURN_IF_ERROR(WriteFileAtomically(JoinPath(plan_.work_dir, kExportedName), marker.dump()));
  return WriteSae(plan_.output_dir, /*replace=*/false);
}

}  // namespace featurescope
