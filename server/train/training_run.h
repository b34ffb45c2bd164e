// A training run from its start, or its checkpoint, to its end: one stream of activations, one or
// several SAEs that take each of its batches in turn.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/engine/run_context.h"
#include "server/train/activation_stream.h"
#include "server/train/spec.h"
#include "server/train/training_member.h"

namespace featurescope {

// Not thread-safe.
class TrainingRun {
 public:
  //   hooks  the stream's channels;  plans  not empty, agreeing on the stream
  TrainingRun(const TrainingInputs& inputs, const RunContext& ctx, std::vector<HookPoint> hooks,
              std::vector<MemberPlan> plans);

  absl::Status Prepare();
  // Trains to the last step.
  absl::Status Train();
  // Writes the results that are not there yet.
  absl::Status Export() const;

 private:
  enum class Stage { kFillBlock, kBeginStep, kStep, kBeginHeldOut, kHeldOut };

  const TrainingSpec& spec() const { return members_[0].plan().spec; }
  // Steps that all members have done.
  int64_t step() const { return members_.back().step(); }
  bool done() const { return step() >= total_steps_ && stage_ == Stage::kFillBlock; }
  TrainingMember& member() { return members_[member_]; }

  absl::Status Restore();
  absl::Status CollectHeldOut();
  // On the device's thread: works until the quantum is over or something is due.
  absl::Status Quantum();
  // One turn of the current stage, until `end` at most.
  absl::Status Turn(absl::Time end);
  absl::Status FillBlock();
  absl::Status EndStep();
  void EndHeldOut();
  void NextBatch();
  bool HeldOutIsDue() const;
  // On the run's thread.
  void Report(absl::Time now);
  absl::Status SaveIfDue();
  bool CheckpointIsDue() const;
  bool between_steps() const { return stage_ == Stage::kFillBlock || stage_ == Stage::kBeginStep; }

  const TrainingInputs& inputs_;
  const RunContext& ctx_;
  const std::vector<HookPoint> hooks_;
  std::vector<TrainingMember> members_;
  const int64_t total_steps_;
  std::unique_ptr<ActivationStream> stream_;
  std::vector<torch::Tensor> held_out_;  // of each channel, [n, width]; none: undefined
  Stage stage_ = Stage::kFillBlock;
  size_t member_ = 0;           // whose turn it is
  int64_t next_batch_ = 0;      // within the stream's block
  int64_t held_out_batch_ = 0;  // of the current measurement

  absl::Time last_report_;
  absl::Time last_checkpoint_;
  int64_t reported_step_ = 0;
  absl::Time reported_step_time_;
  bool pause_ = false;  // between two steps, because a checkpoint is due
};

}  // namespace featurescope
