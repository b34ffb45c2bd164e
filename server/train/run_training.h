// Trains SAEs on a model's activations, from the first step or from the last checkpoint.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/engine/run_context.h"
#include "server/train/spec.h"

namespace featurescope {

// Trains as `spec` says and writes the finished SAE, a SAELens directory, to `output_dir`, which
// appears complete or not at all.
//
// Checkpoints go to ctx.work_dir; a run that finds one of the same spec, model and corpus there
// continues from it, and its result is, on the CPU and with the same number of threads, the same to
// the last bit as without the interruption. Metrics after a restart begin at the checkpoint's step:
// what was reported for later steps is superseded. With each checkpoint the SAE as it is then goes
// to ctx.work_dir/last, and to ctx.work_dir/best where its fraction of variance unexplained is the
// least so far: SAELens directories, too. All computing happens through ctx.device in quanta of
// about ctx.quantum.
//
// Metrics, means since the last report: loss, mse, fvu, explained_variance, l0, l1, dead_share,
// dense_share, cosine, reconstruction_bias, auxk_loss and k (topk family), l1_loss or l0_loss (the
// others), gate_mse (gated), threshold (batchtopk, jumprelu), resampled, learning_rate, grad_norm,
// tokens_per_second. Of held-out tokens, when they were measured: heldout_mse, heldout_fvu,
// heldout_explained_variance, heldout_explained_variance_legacy, heldout_l0, heldout_cosine,
// heldout_reconstruction_bias.
//
//   errors  those of Resolve; of reading the corpus and writing to ctx.work_dir and output_dir
//           InvalidArgument     the run would hold more memory than is free, with what would fit
//           AlreadyExists       output_dir exists and is not this run's own result
//           FailedPrecondition  the loss is no longer finite, naming the step; ctx.work_dir keeps
//                               the last good checkpoint
//           Cancelled           ctx.cancel was set
absl::Status RunTraining(const TrainingInputs& inputs, const TrainingSpec& spec,
                         const RunContext& ctx, const std::string& output_dir);

// One SAE of a sweep.
struct SweepMember {
  std::string name;  // distinct; letters, digits, '-', '_' and '.'
  TrainingSpec spec;
  std::optional<HookPoint> hook;      // where it belongs; unset: as the inputs say
  std::optional<HookPoint> hook_out;  // transcoders
  std::string output_dir;
};

// Trains several SAEs on one stream of activations: one forward pass feeds them all. Each member's
// result is what RunTraining would have made of it alone, to the last bit. As RunTraining, but
// metrics have names `member/metric`, and checkpoints of a member lie in ctx.work_dir/member.
//
//   errors  those of RunTraining; InvalidArgument  no members, names that are not distinct, or
//           members that differ in tokens, batch_size, buffer_tokens, seed or in the tokens they
//           train on: the stream is one
absl::Status RunSweep(const TrainingInputs& inputs, const std::vector<SweepMember>& members,
                      const RunContext& ctx);

// What RunSweep checks of two resolved members: that one stream can feed both.
//   errors  InvalidArgument  naming the first field in which they differ
absl::Status CheckSameStream(absl::string_view name, const TrainingSpec& spec,
                             absl::string_view other_name, const TrainingSpec& other);

// What runs on the device may hold at most, in bytes: the computer's memory; 0: not known.
uint64_t AvailableTrainingMemory(torch::Device device);
// What a sweep of resolved members holds at its peak beside the model, in bytes; one specification
// and one pair of widths for each, and the values of the stream's rows at all hook points together.
uint64_t SweepMemoryBytes(absl::Span<const TrainingSpec> resolved,
                          absl::Span<const TrainingWidths> widths, int64_t stream_width);
// What both check before they begin: that it fits into `available` bytes (0: not known).
//   errors  those of CheckTrainingMemory for a member that does not fit alone; InvalidArgument
//           naming how many members would fit
absl::Status CheckSweepMemory(absl::Span<const TrainingSpec> resolved,
                              absl::Span<const TrainingWidths> widths, int64_t stream_width,
                              uint64_t available);

}  // namespace featurescope
