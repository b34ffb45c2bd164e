// What a training run is asked to do, and what it needs to do it.
//
// A TrainingSpec as it comes from a user has zeros and unset fields for "the default". Resolve()
// fills them in and checks everything against the model and the corpus, so that the trainer itself
// meets no surprises.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/hook_point.h"
#include "server/formats/token_file.h"
#include "server/model/transformer.h"

namespace featurescope {

// Where the decoder's bias starts. The first batch is that of the activation stream.
enum class DecoderBiasInit {
  kGeometricMedian,  // of the first batch
  kMean,             // of the first batch
  kZeros,
};
// geometric_median, mean, zeros.
absl::string_view DecoderBiasInitName(DecoderBiasInit init);

struct TrainingSpec {
  std::string architecture = "topk";  // topk, standard
  int64_t d_sae = 0;                  // features, 1 to 2^24
  int64_t k = 0;                      // topk: active features per token, 1 to d_sae
  uint64_t tokens = 0;                // to train on; the corpus is repeated, reshuffled, as needed
  int64_t batch_size = 0;             // tokens per step; 0: 4096
  uint64_t seed = 0;

  double learning_rate = 0;                // 0: 3e-4 (standard), 2e-4 / sqrt(d_sae / 2^14) (topk)
  std::optional<int64_t> lr_warmup_steps;  // unset: 5 % of the steps, at most 1000
  std::optional<int64_t> lr_decay_steps;   // linear to 0 at the end; unset: the last 20 %
  double adam_beta1 = 0.9;                 // [0, 1)
  double adam_beta2 = 0.999;               // [0, 1)
  double adam_epsilon = 1e-8;              // > 0
  std::optional<double> clip_norm;         // of the gradient's global L2 norm; unset: 1; 0: none

  double l1_coefficient = 0;               // standard: of sum_f acts_f |W_dec_f|; 0: 5
  std::optional<int64_t> l1_warmup_steps;  // standard: linear from 0; unset: 5 % of the steps

  std::optional<double> auxk_coefficient;  // topk: weight of AuxK; unset: 1/32; 0: none
  int64_t k_aux = 0;                       // topk: features of AuxK; 0: min(d_in / 2, 512)
  // topk: a feature is dead after that many tokens without firing; standard: for the dead share
  // only. 0: a tenth of the tokens, at most 10,000,000.
  uint64_t dead_after_tokens = 0;

  DecoderBiasInit b_dec_init = DecoderBiasInit::kGeometricMedian;
  // Trains on x s with s = sqrt(d_in) / mean |x| (of the first block), so that coefficients and
  // learning rates mean the same on every model. s is folded into the biases at the end: the
  // result takes x as it is.
  bool scale_inputs = true;

  uint64_t buffer_tokens = 0;      // activations shuffled together; 0: 64 batches
  int64_t checkpoint_seconds = 0;  // 0: 60
  int64_t checkpoint_steps = 0;    // also after every so many steps; 0: by time only
};

// What a run trains on.
struct TrainingInputs {
  std::shared_ptr<const Transformer> model;
  HookPoint hook;
  std::shared_ptr<const TokenFile> corpus;
  // Positions of these tokens, and of the corpus' BOS, are not trained on.
  std::vector<uint32_t> special_tokens;
  std::string model_name;  // for the SAE's metadata, e.g. the model's id
};

// The spec with every default filled in.
//
//   errors  InvalidArgument  a field out of range, naming it, its value and the allowed range; a
//                            hook that the model does not have; a corpus whose ids or contexts the
//                            model cannot take
//           Unimplemented    an architecture that cannot be trained, by name
absl::StatusOr<TrainingSpec> Resolve(const TrainingSpec& spec, const TrainingInputs& inputs);

// The steps of a resolved spec: tokens / batch_size, rounded up.
int64_t TotalSteps(const TrainingSpec& resolved);

// What a run of a resolved spec holds at its peak beside the model, in bytes: parameters, gradients
// and Adam moments, the activation block, and one step's buffers.
uint64_t TrainingMemoryBytes(const TrainingSpec& resolved, int64_t d_in);

}  // namespace featurescope
