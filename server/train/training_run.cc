#include "server/train/training_run.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/tensor/gate.h"
#include "server/train/held_out.h"

namespace featurescope {
namespace {

constexpr absl::Duration kReportInterval = absl::Milliseconds(500);

std::vector<TrainingMember> MakeMembers(std::vector<MemberPlan> plans) {
  std::vector<TrainingMember> members;
  for (MemberPlan& plan : plans) members.emplace_back(std::move(plan));
  return members;
}

}  // namespace

TrainingRun::TrainingRun(const TrainingInputs& inputs, const RunContext& ctx,
                         std::vector<HookPoint> hooks, std::vector<MemberPlan> plans)
    : inputs_(inputs),
      ctx_(ctx),
      hooks_(std::move(hooks)),
      members_(MakeMembers(std::move(plans))),
      total_steps_(TotalSteps(members_[0].plan().spec)) {}

absl::Status TrainingRun::Prepare() {
  ASSIGN_OR_RETURN(stream_, ActivationStream::Create(inputs_, hooks_, spec()));
  for (const TrainingMember& member : members_) {
    const MemberPlan& plan = member.plan();
    LogInfo("training ", plan.spec.architecture, " SAE on ", plan.inputs.hook.name(), ": d_in ",
            plan.widths.d_in, ", d_sae ", plan.spec.d_sae, ", ", total_steps_, " steps of ",
            plan.spec.batch_size, " tokens, at most ",
            TrainingMemoryBytes(plan.spec, plan.widths) >> 20, " MiB beside the model");
  }
  RETURN_IF_ERROR(Restore());
  RETURN_IF_ERROR(CollectHeldOut());
  reported_step_ = step();
  last_report_ = last_checkpoint_ = reported_step_time_ = absl::Now();
  return absl::OkStatus();
}

// Continues from the newest step of which all members have a checkpoint.
absl::Status TrainingRun::Restore() {
  uint64_t block = 0;
  for (const int64_t step : members_[0].CheckpointSteps()) {
    bool restored = true;
    for (TrainingMember& member : members_) {
      ASSIGN_OR_RETURN(const bool one, member.Restore(step, &block, &next_batch_));
      restored = restored && one;
    }
    if (restored) {
      LogInfo("continuing from the checkpoint of step ", step);
      stream_->BeginBlock(block);
      return absl::OkStatus();
    }
  }
  for (TrainingMember& member : members_) member.Forget();
  next_batch_ = 0;
  stream_->BeginBlock(0);
  return absl::OkStatus();
}

absl::Status TrainingRun::CollectHeldOut() {
  if (inputs_.activations != nullptr || inputs_.corpus->heldout_contexts().size() == 0) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(held_out_, CollectHeldOutRows(inputs_, hooks_, spec(), ctx_));
  return absl::OkStatus();
}

absl::Status TrainingRun::Train() {
  while (!done()) {
    RETURN_IF_ERROR(ctx_.device->RunBackground(ctx_.cancel, [this] { return Quantum(); }));
    const absl::Time now = absl::Now();
    if (done() || now - last_report_ >= kReportInterval) Report(now);
    RETURN_IF_ERROR(SaveIfDue());
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::Quantum() {
  const absl::Time end = absl::Now() + ctx_.quantum;
  pause_ = false;
  do {
    RETURN_IF_ERROR(ctx_.cancel.Check());
    RETURN_IF_ERROR(Turn(end));
  } while (!done() && !pause_ && absl::Now() < end);
  return absl::OkStatus();
}

absl::Status TrainingRun::Turn(absl::Time end) {
  switch (stage_) {
    case Stage::kFillBlock:
      return FillBlock();
    case Stage::kBeginStep:
      stage_ = Stage::kStep;
      return TorchGate("beginning a training step",
                       [this] { member().BeginStep(*stream_, next_batch_); });
    case Stage::kStep: {
      ASSIGN_OR_RETURN(const bool complete, TorchGate("a training step", [&] {
                         return member().RunFor(end - absl::Now());
                       }));
      return complete ? EndStep() : absl::OkStatus();
    }
    case Stage::kBeginHeldOut:
      stage_ = Stage::kHeldOut;
      return TorchGate("measuring held-out tokens",
                       [this] { member().BeginHeldOut(held_out_, held_out_batch_); });
    case Stage::kHeldOut: {
      ASSIGN_OR_RETURN(const bool complete, TorchGate("measuring held-out tokens", [&] {
                         return member().EvaluateFor(end - absl::Now());
                       }));
      if (complete) EndHeldOut();
      return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::FillBlock() {
  ASSIGN_OR_RETURN(const bool full, stream_->FillSome(ctx_.cancel));
  if (!full) return absl::OkStatus();
  stage_ = Stage::kBeginStep;
  return TorchGate("preparing training", [this] {
    for (TrainingMember& each : members_) {
      if (!each.begun()) each.Begin(*stream_);
    }
  });
}

absl::Status TrainingRun::EndStep() {
  RETURN_IF_ERROR(member().EndStep());
  stage_ = Stage::kBeginStep;
  if (++member_ < members_.size()) return absl::OkStatus();
  member_ = 0;
  if (HeldOutIsDue()) {
    stage_ = Stage::kBeginHeldOut;
    held_out_batch_ = 0;
    return absl::OkStatus();
  }
  NextBatch();
  return absl::OkStatus();
}

bool TrainingRun::HeldOutIsDue() const {
  if (held_out_.empty()) return false;
  return step() % spec().heldout_steps == 0 || step() == total_steps_;
}

void TrainingRun::EndHeldOut() {
  member().EndHeldOut();
  stage_ = Stage::kBeginHeldOut;
  const int64_t batch = spec().batch_size;
  if (++held_out_batch_ * batch < held_out_[0].size(0)) return;
  member().FinishHeldOut();
  held_out_batch_ = 0;
  if (++member_ < members_.size()) return;
  member_ = 0;
  NextBatch();
}

void TrainingRun::NextBatch() {
  stage_ = Stage::kBeginStep;
  if (++next_batch_ >= stream_->n_batches() || step() >= total_steps_) {
    next_batch_ = 0;
    stage_ = Stage::kFillBlock;
    stream_->BeginBlock(stream_->block() + 1);
  }
  pause_ = CheckpointIsDue();
}

void TrainingRun::Report(absl::Time now) {
  const double seconds = std::max(absl::ToDoubleSeconds(now - reported_step_time_), 1e-9);
  const int64_t steps = step() - reported_step_;
  const double tokens_per_second =
      static_cast<double>(steps) * static_cast<double>(spec().batch_size) / seconds;
  const auto tokens = static_cast<uint64_t>(step()) * static_cast<uint64_t>(spec().batch_size);
  if (steps > 0 && ctx_.on_metrics) {
    RunMetrics point;
    point.step = static_cast<uint64_t>(step());
    point.tokens = tokens;
    for (TrainingMember& each : members_) each.Report(&point.values);
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
}

bool TrainingRun::CheckpointIsDue() const {
  const TrainingSpec& s = spec();
  const int64_t saved = members_.back().saved_step();
  if (step() == saved || step() >= total_steps_) return false;
  if (s.checkpoint_steps > 0 && step() % s.checkpoint_steps == 0) return true;
  return absl::Now() - last_checkpoint_ >= absl::Seconds(s.checkpoint_seconds);
}

absl::Status TrainingRun::SaveIfDue() {
  if (!between_steps() || member_ != 0 || !members_[0].begun() || !CheckpointIsDue()) {
    return absl::OkStatus();
  }
  for (TrainingMember& each : members_) {
    RETURN_IF_ERROR(each.Save(stream_->block(), next_batch_));
  }
  last_checkpoint_ = absl::Now();
  return absl::OkStatus();
}

absl::Status TrainingRun::Export() const {
  for (const TrainingMember& each : members_) {
    ASSIGN_OR_RETURN(const bool finished, each.IsFinished());
    if (!finished) RETURN_IF_ERROR(each.Export());
  }
  return absl::OkStatus();
}

}  // namespace featurescope
