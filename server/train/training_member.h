// One SAE of a training run: its trainer, its checkpoints, its metrics, its result.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/train/activation_stream.h"
#include "server/train/checkpoint.h"
#include "server/train/sae_trainer.h"
#include "server/train/step_metrics.h"

namespace featurescope {

// What a member is, resolved.
struct MemberPlan {
  std::string prefix;     // of its metrics' names; empty, or "name/"
  TrainingInputs inputs;  // with its own hook points
  TrainingSpec spec;
  TrainingWidths widths;
  size_t input_channel = 0;  // of the stream
  size_t target_channel = 0;
  std::string fingerprint;
  std::string work_dir;
  std::string output_dir;
};

// Over everything that decides what a member's run computes.
std::string MemberFingerprint(const TrainingInputs& inputs, const TrainingSpec& spec);

// Not thread-safe; what computes is called on the device's thread.
class TrainingMember {
 public:
  explicit TrainingMember(MemberPlan plan);

  // Whether output_dir is what a run of this plan has written; AlreadyExists for anything else
  // that is there.
  absl::StatusOr<bool> IsFinished() const;

  // The steps of its checkpoints, newest first; continuing from one of them. False: it is damaged
  // or of another run.
  std::vector<int64_t> CheckpointSteps() const;
  absl::StatusOr<bool> Restore(int64_t step, uint64_t* block, int64_t* batch);
  // Begins anew, from the first batch of the stream's full first block.
  void Begin(const ActivationStream& stream);
  // As if nothing had been restored.
  void Forget() {
    trainer_.reset();
    saved_step_ = 0;
  }
  bool begun() const { return trainer_ != nullptr; }
  int64_t step() const { return begun() ? trainer_->state().step : 0; }

  void BeginStep(const ActivationStream& stream, int64_t batch);
  bool RunFor(absl::Duration budget) { return trainer_->RunFor(budget); }
  // Takes up the step's result.   errors  FailedPrecondition  it is not finite
  absl::Status EndStep();

  // Measures batch `i` of held-out rows, one tensor [n, width] for each channel of the stream; the
  // rows are repeated where the last batch is not full.
  void BeginHeldOut(const std::vector<torch::Tensor>& rows, int64_t i);
  bool EvaluateFor(absl::Duration budget) { return trainer_->EvaluateFor(budget); }
  void EndHeldOut() { held_out_.Add(trainer_->result()); }
  // After the last batch.
  void FinishHeldOut();

  // Adds its metrics since the last call to `values`.
  void Report(std::map<std::string, double>* values);

  // Writes a checkpoint, `last`, and maybe `best`.   errors  of writing
  absl::Status Save(uint64_t block, int64_t batch);
  int64_t saved_step() const { return saved_step_; }
  // Writes the result.   errors  of writing
  absl::Status Export() const;

  const MemberPlan& plan() const { return plan_; }

 private:
  absl::StatusOr<std::shared_ptr<const Sae>> MakeSae() const;
  // Writes the SAE to `dir`, which appears complete or not at all; what is there is an error or
  // replaced.
  absl::Status WriteSae(const std::string& dir, bool replace) const;
  absl::Status WriteLastAndBest();

  const MemberPlan plan_;
  const int64_t total_steps_;
  std::unique_ptr<SaeTrainer> trainer_;
  DataScales scales_;
  StepMetrics metrics_;
  StepMetrics since_saved_;  // to judge a checkpoint where nothing is held out
  StepMetrics held_out_;
  std::map<std::string, double> held_out_values_;  // not reported yet
  std::optional<double> held_out_fvu_;             // of the last measurement
  std::optional<double> best_fvu_;
  int64_t saved_step_ = 0;
};

}  // namespace featurescope
