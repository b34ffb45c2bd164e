// Trains an SAE on a model's activations, from the first step or from the last checkpoint.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/engine/run_context.h"
#include "server/train/spec.h"

namespace featurescope {

// Trains as `spec` says and writes the finished SAE, a SAELens directory, to `output_dir`, which
// appears complete or not at all.
//
// Checkpoints go to ctx.work_dir; a run that finds one of the same spec, model and corpus there
// continues from it, and its result is, on the CPU and with the same number of threads, the same to
// the last bit as without the interruption. Metrics after a restart begin at the checkpoint's step:
// what was reported for later steps is superseded. All computing happens through ctx.device in
// quanta of about ctx.quantum.
//
// Metrics, means since the last report: loss, mse, fvu, explained_variance, l0, l1, dead_share,
// dense_share, cosine, reconstruction_bias, auxk_loss and k (topk family), l1_loss or l0_loss (the
// others), gate_mse (gated), threshold (batchtopk, jumprelu), learning_rate, grad_norm,
// tokens_per_second.
//
//   errors  those of Resolve; of reading the corpus and writing to ctx.work_dir and output_dir
//           AlreadyExists       output_dir exists and is not this run's own result
//           FailedPrecondition  the loss is no longer finite, naming the step; ctx.work_dir keeps
//                               the last good checkpoint
//           Cancelled           ctx.cancel was set
absl::Status RunTraining(const TrainingInputs& inputs, const TrainingSpec& spec,
                         const RunContext& ctx, const std::string& output_dir);

}  // namespace featurescope
