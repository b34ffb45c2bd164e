#include "server/train/run_training.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/sae_files.h"
#include "server/tensor/gate.h"
#include "server/train/activation_stream.h"
#include "server/train/checkpoint.h"
#include "server/train/sae_trainer.h"
#include "server/train/schedule.h"
#include "server/train/spec_fields.h"
#include "server/train/step_metrics.h"

namespace featurescope {
namespace {

constexpr absl::Duration kReportInterval = absl::Milliseconds(500);
constexpr char kExportedName[] = "exported.json";

// Over everything that decides what the run computes.
std::string Fingerprint(const TrainingInputs& inputs, const TrainingSpec& spec) {
  std::string text = absl::StrCat(
      "2|", inputs.model->hash(), "|", inputs.corpus->hash(), "|", inputs.hook.name(), "|",
      inputs.hook_out ? inputs.hook_out->name() : "", "|", DescribeComputation(spec));
  for (uint32_t token : inputs.special_tokens) absl::StrAppend(&text, "|", token);
  return Sha256Hex(text);
}

// One run from its start, or its checkpoint, to its end.
class TrainingRun {
 public:
  TrainingRun(const TrainingInputs& inputs, const TrainingSpec& spec, const RunContext& ctx,
              std::string fingerprint)
      : inputs_(inputs),
        spec_(spec),
        ctx_(ctx),
        fingerprint_(std::move(fingerprint)),
        total_steps_(TotalSteps(spec)) {}

  absl::Status Prepare();
  // Trains to the last step.
  absl::Status Train();
  absl::Status Export(const std::string& output_dir) const;

 private:
  enum class Stage { kFillBlock, kBeginStep, kStep };

  bool done() const { return step() >= total_steps_; }
  int64_t step() const { return trainer_ == nullptr ? 0 : trainer_->state().step; }

  // On the device's thread: works until the quantum is over or something is due.
  absl::Status Quantum();
  absl::Status FillBlock();
  // Makes the trainer of a new run, from the first batch.
  void FirstBatch();
  void BeginStep();
  absl::Status EndStep();
  // On the run's thread.
  absl::Status Report(absl::Time now);
  absl::Status SaveIfDue();
  bool CheckpointIsDue() const;

  const TrainingInputs& inputs_;
  const TrainingSpec& spec_;
  const RunContext& ctx_;
  const std::string fingerprint_;
  const int64_t total_steps_;
  std::unique_ptr<ActivationStream> stream_;
  std::unique_ptr<SaeTrainer> trainer_;
  Stage stage_ = Stage::kFillBlock;
  int64_t next_batch_ = 0;  // within the stream's block
  DataScales scales_;

  StepMetrics metrics_;
  absl::Time last_report_;
  absl::Time last_checkpoint_;
  int64_t last_checkpoint_step_ = 0;
  int64_t reported_step_ = 0;
  absl::Time reported_step_time_;
  bool pause_ = false;  // between two steps, because a checkpoint is due
};

absl::Status TrainingRun::Prepare() {
  ASSIGN_OR_RETURN(stream_, ActivationStream::Create(inputs_, spec_));
  const TrainingWidths& widths = stream_->widths();
  LogInfo("training ", spec_.architecture, " SAE on ", inputs_.hook.name(), ": d_in ", widths.d_in,
          ", d_sae ", spec_.d_sae, ", ", total_steps_, " steps of ", spec_.batch_size,
          " tokens, at most ", TrainingMemoryBytes(spec_, widths) >> 20, " MiB beside the model");
  const torch::Device device = inputs_.model->device();
  ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint,
                   LoadLatestCheckpoint(fingerprint_, ctx_.work_dir, spec_, widths, device));
  uint64_t block = 0;
  if (checkpoint) {
    LogInfo("continuing from the checkpoint of step ", checkpoint->state.step);
    block = checkpoint->block;
    next_batch_ = checkpoint->batch;
    scales_ = checkpoint->scales;
    RETURN_IF_ERROR(TorchGate("allocating the trainer", [&] {
      trainer_ = std::make_unique<SaeTrainer>(spec_, std::move(checkpoint->state));
    }));
  }
  stream_->BeginBlock(block);
  last_checkpoint_step_ = reported_step_ = step();
  last_report_ = last_checkpoint_ = reported_step_time_ = absl::Now();
  return absl::OkStatus();
}

absl::Status TrainingRun::Train() {
  while (!done()) {
    RETURN_IF_ERROR(ctx_.device->RunBackground(ctx_.cancel, [this] { return Quantum(); }));
    const absl::Time now = absl::Now();
    if (done() || now - last_report_ >= kReportInterval) RETURN_IF_ERROR(Report(now));
    RETURN_IF_ERROR(SaveIfDue());
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::Quantum() {
  const absl::Time end = absl::Now() + ctx_.quantum;
  pause_ = false;
  do {
    RETURN_IF_ERROR(ctx_.cancel.Check());
    switch (stage_) {
      case Stage::kFillBlock:
        RETURN_IF_ERROR(FillBlock());
        break;
      case Stage::kBeginStep:
        RETURN_IF_ERROR(TorchGate("beginning a training step", [this] { BeginStep(); }));
        break;
      case Stage::kStep: {
        ASSIGN_OR_RETURN(const bool complete, TorchGate("a training step", [&] {
                           return trainer_->RunFor(end - absl::Now());
                         }));
        if (complete) RETURN_IF_ERROR(EndStep());
        break;
      }
    }
  } while (!done() && !pause_ && absl::Now() < end);
  return absl::OkStatus();
}

absl::Status TrainingRun::FillBlock() {
  ASSIGN_OR_RETURN(const bool full, stream_->FillSome(ctx_.cancel));
  if (!full) return absl::OkStatus();
  stage_ = Stage::kBeginStep;
  if (trainer_ == nullptr) return TorchGate("preparing training", [this] { FirstBatch(); });
  return absl::OkStatus();
}

void TrainingRun::FirstBatch() {
  scales_ = stream_->MeasureScales();
  TrainState state = InitialState(spec_, stream_->widths(), inputs_.model->device());
  trainer_ = std::make_unique<SaeTrainer>(spec_, std::move(state));
  stream_->CopyBatch(0, scales_, trainer_->input(), trainer_->target());
  trainer_->InitializeFromBatch();
}

void TrainingRun::BeginStep() {
  stream_->CopyBatch(next_batch_, scales_, trainer_->input(), trainer_->target());
  trainer_->BeginStep(SettingsOfStep(spec_, step(), total_steps_));
  stage_ = Stage::kStep;
}

absl::Status TrainingRun::EndStep() {
  const StepResult& result = trainer_->result();
  if (!result.finite()) {
    return FailedPrecondition(
        "the loss is not finite at step ", step(), " (loss ", result.loss, ", gradient norm ",
        result.grad_norm, ", learning rate ",
        SettingsOfStep(spec_, step(), total_steps_).learning_rate,
        "); a lower learning_rate may help. The last good checkpoint is that of step ",
        last_checkpoint_step_);
  }
  metrics_.Add(result);
  pause_ = CheckpointIsDue();
  stage_ = Stage::kBeginStep;
  if (++next_batch_ < stream_->n_batches()) return absl::OkStatus();
  next_batch_ = 0;
  stage_ = Stage::kFillBlock;
  stream_->BeginBlock(stream_->block() + 1);
  return absl::OkStatus();
}

absl::Status TrainingRun::Report(absl::Time now) {
  const double seconds = std::max(absl::ToDoubleSeconds(now - reported_step_time_), 1e-9);
  const int64_t steps = step() - reported_step_;
  const double tokens_per_second =
      static_cast<double>(steps) * static_cast<double>(spec_.batch_size) / seconds;
  const auto tokens = static_cast<uint64_t>(step()) * static_cast<uint64_t>(spec_.batch_size);
  if (steps > 0 && ctx_.on_metrics) {
    RunMetrics point;
    point.step = static_cast<uint64_t>(step());
    point.tokens = tokens;
    point.values = metrics_.Take(spec_);
    point.values["learning_rate"] = SettingsOfStep(spec_, step() - 1, total_steps_).learning_rate;
    point.values["tokens_per_second"] = tokens_per_second;
    ctx_.on_metrics(point);
  }
  if (ctx_.on_progress) {
    RunProgress progress;
    progress.fraction = static_cast<double>(step()) / static_cast<double>(total_steps_);
    progress.phase = stage_ == Stage::kFillBlock ? "collecting activations" : "training";
    progress.tokens_done = tokens;
    progress.tokens_per_second = tokens_per_second;
    ctx_.on_progress(progress);
  }
  last_report_ = now;
  if (steps > 0) {  // while activations are collected no step ends; the rate includes that
    reported_step_ = step();
    reported_step_time_ = now;
  }
  return absl::OkStatus();
}

bool TrainingRun::CheckpointIsDue() const {
  if (step() == last_checkpoint_step_) return false;
  if (spec_.checkpoint_steps > 0 && step() % spec_.checkpoint_steps == 0) return true;
  return absl::Now() - last_checkpoint_ >= absl::Seconds(spec_.checkpoint_seconds);
}

absl::Status TrainingRun::SaveIfDue() {
  const bool between_steps = stage_ != Stage::kStep && trainer_ != nullptr;
  if (!between_steps || done() || !CheckpointIsDue()) return absl::OkStatus();
  Checkpoint checkpoint;
  checkpoint.state = trainer_->state();
  checkpoint.block = stream_->block();
  checkpoint.batch = next_batch_;
  checkpoint.scales = scales_;
  RETURN_IF_ERROR(TorchGate("writing a checkpoint", [&] {
    return SaveCheckpoint(checkpoint, fingerprint_, ctx_.work_dir);
  }));
  last_checkpoint_ = absl::Now();
  last_checkpoint_step_ = step();
  return absl::OkStatus();
}

absl::Status TrainingRun::Export(const std::string& output_dir) const {
  SaeConfig config = ExportConfig(spec_, stream_->widths());
  ASSIGN_OR_RETURN(const std::vector<int64_t> shape,
                   inputs_.model->config().HookShape(inputs_.hook));
  config.reshape_hook_z = shape.size() > 1;
  config.model_name = inputs_.model_name;
  config.hook_name = inputs_.hook.name();
  if (inputs_.hook_out) config.hook_name_out = inputs_.hook_out->name();
  config.context_size = inputs_.corpus->context_size();
  config.prepend_bos = inputs_.corpus->prepend_bos();
  ASSIGN_OR_RETURN(SaeParameters parameters, TorchGate("exporting the SAE", [&] {
                     return ExportParameters(spec_, trainer_->state(), scales_);
                   }));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Sae> sae,
                   Sae::Create(std::move(config), std::move(parameters)));
  const std::string partial = absl::StrCat(output_dir, ".partial");
  std::error_code error;
  std::filesystem::remove_all(partial, error);
  RETURN_IF_ERROR(EnsureDir(partial));
  RETURN_IF_ERROR(SaveSae(*sae, partial));
  const nlohmann::json marker = {{"fingerprint", fingerprint_}, {"output_dir", output_dir}};
  RETURN_IF_ERROR(WriteFileAtomically(JoinPath(ctx_.work_dir, kExportedName), marker.dump()));
  std::filesystem::rename(partial, output_dir, error);
  if (error) return ErrnoStatus(error.value(), output_dir);
  return absl::OkStatus();
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

absl::Status RunTraining(const TrainingInputs& inputs, const TrainingSpec& spec,
                         const RunContext& ctx, const std::string& output_dir) {
  ASSIGN_OR_RETURN(const TrainingSpec resolved, Resolve(spec, inputs));
  const std::string fingerprint = Fingerprint(inputs, resolved);
  RETURN_IF_ERROR(EnsureDir(ctx.work_dir));
  std::error_code error;
  if (std::filesystem::exists(output_dir, error)) {
    if (WasExported(ctx.work_dir, fingerprint, output_dir)) return absl::OkStatus();
    return AlreadyExists(output_dir, " exists already");
  }
  TrainingRun run(inputs, resolved, ctx, fingerprint);
  RETURN_IF_ERROR(run.Prepare());
  RETURN_IF_ERROR(run.Train());
  return run.Export(output_dir);
}

}  // namespace featurescope
