// What a training run is asked to do, and what it needs to do it.
//
// A TrainingSpec as it comes from a user has zeros and unset fields for "the default". Resolve()
// fills them in and checks everything against the model and the corpus, so that the trainer itself
// meets no surprises. Presets for published recipes are in presets.h.
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
#include "server/train/spec_enums.h"

namespace featurescope {

// geometric_median, mean, zeros.
absl::string_view DecoderBiasInitName(DecoderBiasInit init);

// Units are those of the scaled input. "The topk family" is topk, batchtopk and
// matryoshka_batchtopk; of an architecture's name, `_transcoder` and `_skip_transcoder` say only
// that the target is another hook point's activation, y instead of x.
struct TrainingSpec {
  // standard, topk, batchtopk, matryoshka_batchtopk, jumprelu, gated, transcoder, skip_transcoder,
  // topk_transcoder, topk_skip_transcoder, jumprelu_transcoder, jumprelu_skip_transcoder
  std::string architecture = "topk";
  int64_t d_sae = 0;       // features, 1 to 2^24
  double expansion = 0;    // d_sae / d_in, instead of d_sae; 0: none
  int64_t k = 0;           // topk family: active features per token (on average), 1 to d_sae
  uint64_t tokens = 0;     // to train on; the corpus is repeated, reshuffled, as needed
  double epochs = 0;       // passes over the corpus instead of `tokens`; 0: none
  int64_t batch_size = 0;  // tokens per step; 0: 4096; -1: all of one epoch, at most 2^20
  uint64_t seed = 0;

  // ---- optimiser
  // 0: 2e-4 / sqrt(d_sae / 2^14) (topk family), 7e-5 (jumprelu), 3e-4 (others)
  double learning_rate = 0;
  std::optional<int64_t> lr_warmup_steps;  // unset: 5 % of the steps, at most 1000
  // Linear at the end. Unset: the last 20 % (constant), none (cosine, sawtooth).
  std::optional<int64_t> lr_decay_steps;
  // The same, and l1_warmup_steps, as fractions of the steps, where those are unset; [0, 1].
  std::optional<double> lr_warmup_fraction;
  std::optional<double> lr_decay_fraction;
  std::optional<double> l1_warmup_fraction;
  double lr_start_fraction = 0;     // of the rate, where the warm-up begins; [0, 1]
  double adam_beta1 = 0.9;          // [0, 1); signum: the momentum
  double adam_beta2 = 0.999;        // [0, 1)
  double adam_epsilon = 1e-8;       // > 0
  std::optional<double> clip_norm;  // of the gradient's global L2 norm; unset: 1; 0: none
  Optimizer optimizer = Optimizer::kAdam;
  std::optional<double> weight_decay;  // adamw, signum; unset: 0.01 (adamw), 0 (signum)
  LrSchedule lr_schedule = LrSchedule::kConstant;
  double lr_end_fraction = 0;  // of the rate, where cosine and decay end; [0, 1]
  // Step s of n warm-up steps (learning rate and sparsity) has the factor s / n, which begins with
  // 0 (dictionary_learning), instead of (s + 1) / n (SAELens).
  bool warmup_from_zero = false;
  ComputeDtype compute_dtype = ComputeDtype::kFloat32;

  // ---- loss
  ReconstructionScale reconstruction_scale = ReconstructionScale::kSum;
  SparsityPenalty sparsity_penalty = SparsityPenalty::kAuto;
  SparsityScale sparsity_scale = SparsityScale::kSumFeatures;  // l1, tanh
  double l1_coefficient = 0;                                   // of l1, tanh; 0: 5
  std::optional<int64_t> l1_warmup_steps;  // of any penalty, linear from 0; unset: 5 % of the steps
  // Unset: where the decoder's norm is free, as it would else be a way around the penalty.
  std::optional<bool> l1_weighted_by_decoder_norm;
  double tanh_scale = 4;  // > 0

  // ---- initialisation and constraints
  DecoderBiasInit b_dec_init = DecoderBiasInit::kGeometricMedian;
  // Whether the encoder sees x - b_dec. Unset: yes, but for jumprelu and transcoders no.
  std::optional<bool> apply_b_dec_to_input;
  DecoderNorm decoder_norm = DecoderNorm::kAuto;
  // Removes the part of the decoder's gradient along its rows. Unset: where norms are kept at 1.
  std::optional<bool> project_decoder_gradient;
  DecoderInit decoder_init = DecoderInit::kNormal;
  std::optional<double> decoder_init_norm;  // of each row; unset: 1 where norms are kept, else 0.1
  EncoderInit encoder_init = EncoderInit::kTransposed;
  bool center_encoder = false;  // b_enc = -mean(x) W_enc, of the first batch (sparsify transcoders)
  // Trains on x s with s = sqrt(d_in) / mean |x| (of the first block), so that coefficients and
  // learning rates mean the same on every model. s is folded into the biases at the end: the
  // result takes x as it is. input_scaling says more.
  bool scale_inputs = true;
  InputScaling input_scaling = InputScaling::kAuto;

  // ---- topk family
  bool select_by_decoder_norm = false;  // by hidden_pre |W_dec row| (SAELens, OpenMOSS)
  int64_t k_anneal_steps = 0;           // from k_initial to k; 0: none
  int64_t k_initial = 0;                // 0: d_in
  AnnealShape k_anneal_shape = AnnealShape::kLinear;
  // The first step has the final k and annealing begins with the second (dictionary_learning).
  bool k_anneal_from_second_step = false;
  std::optional<double> auxk_coefficient;  // weight of AuxK; unset: 1/32; 0: none
  int64_t k_aux = 0;                       // features of AuxK; 0: min(d_in / 2, 512); -1: d_in / 2
  AuxKScale auxk_scale = AuxKScale::kResidualVariance;
  bool auxk_by_dead_share = false;  // times min(dead / k_aux, 1) (SAELens, sparsify)
  bool auxk_relu = true;            // only positive activations (else any: SAELens, sparsify)
  // The running mean of the smallest activation that was kept, by which the result selects
  // (batchtopk): theta := beta theta + (1 - beta) min, after threshold_start_step steps.
  double threshold_beta = 0;  // [0, 1); 0: 0.999, and less where the steps are few: 1 - 20 / steps
  std::optional<int64_t> threshold_start_step;  // unset: 1000, at most half of the steps
  bool threshold_from_zero = false;             // starts at 0 (SAELens), else at the first minimum
  // matryoshka_batchtopk: sizes of the nested groups, which add up to d_sae. Empty: 1/32, 1/16,
  // 1/8, 1/4 of d_sae and the rest.
  std::vector<int64_t> group_sizes;
  // Weights of the errors of the nested prefixes. Empty: 1 / groups each. SAELens: 1;
  // dictionary_learning: 1 / groups^2.
  std::vector<double> group_weights;

  // ---- jumprelu
  double l0_coefficient = 1;           // of the l0 penalty
  std::optional<double> target_l0;     // penalises (L0 / target - 1)^2; 0: L0 itself; unset: 20
  double bandwidth = 0.001;            // > 0
  double initial_threshold = 0.001;    // >= 0
  double threshold_learning_rate = 0;  // 0: learning_rate
  SteKernel ste_kernel = SteKernel::kRectangle;
  L0StepInput l0_step_input = L0StepInput::kPreActivation;
  bool clamp_threshold = true;     // at 0 from below, as inference does
  double pre_act_coefficient = 0;  // of sum relu(threshold - hidden_pre) n over dead features

  // ---- gated
  bool gated_detach_decoder = true;  // the auxiliary error does not train the decoder

  // ---- dead features
  // A feature is dead after that many tokens without firing. 0: a tenth of the tokens, at most
  // 10,000,000.
  uint64_t dead_after_tokens = 0;
  double fired_above = 0;  // activations up to this do not count as firing (OpenAI: 1e-3)
  // Every so many tokens dead features restart from inputs that are badly reconstructed; 0: never.
  uint64_t resample_tokens = 0;
  uint64_t resample_dead_after_tokens = 0;  // without firing; 0: resample_tokens / 2
  int64_t resample_times = 0;               // at most; 0: any
  // Inputs are drawn from this many tokens before; 0: from one batch.
  uint64_t resample_from_tokens = 0;
  double resample_loss_power = 1;  // drawn by |x - x_hat|^power: 1 dictionary_learning, 2 Anthropic
  double resample_encoder_scale = 0.2;  // times the mean norm of living features' encoder rows
  bool resample_unit_inputs = true;     // encoder rows from x / |x| (Anthropic), else from x

  // ---- stream
  bool exclude_special_tokens = true;  // positions of special tokens and BOS
  TokenPositions positions = TokenPositions::kAll;
  uint64_t buffer_tokens = 0;      // activations shuffled together; 0: 64 batches
  int64_t checkpoint_seconds = 0;  // 0: 60
  int64_t checkpoint_steps = 0;    // also after every so many steps; 0: by time only
  // Tokens of the corpus' held-out contexts that the SAE is measured on; 0: 4 batches; ignored
  // where none are held out. Kept in memory.
  uint64_t heldout_tokens = 0;
  int64_t heldout_steps = 0;  // measured after every so many steps; 0: a fiftieth of them
};

class ActivationFiles;

// One corpus of a mixture.
struct CorpusShare {
  std::shared_ptr<const TokenFile> corpus;
  double weight = 1;  // its contexts among all; > 0
};

// What a run trains on: a model's activations on one corpus, or on a mixture; or activations from
// files, and then model and corpus may be null.
struct TrainingInputs {
  std::shared_ptr<const Transformer> model;
  HookPoint hook;
  std::shared_ptr<const TokenFile> corpus;
  // Positions of these tokens, and of the corpus' BOS, are not trained on.
  std::vector<uint32_t> special_tokens;
  std::string model_name;  // for the SAE's metadata, e.g. the model's id
  // Transcoders: where the target comes from, in the same forward pass.
  std::optional<HookPoint> hook_out;
  double corpus_weight = 1;               // of `corpus` in a mixture
  std::vector<CorpusShare> more_corpora;  // a mixture's others
  // Instead of a model on a corpus. Channels are found by their hook names; where they have none,
  // the first has the inputs and the second a transcoder's targets.
  std::shared_ptr<const ActivationFiles> activations;

  torch::Device device() const {
    return model != nullptr ? model->device() : torch::Device(torch::kCPU);
  }
};

// The widths of what a run reads and reconstructs.
struct TrainingWidths {
  int64_t d_in = 0;
  int64_t d_out = 0;  // an SAE's d_in
};

// What an architecture's name says. "topk_skip_transcoder" is {kTopK, true, true}.
enum class ActivationFamily { kRelu, kTopK, kBatchTopK, kMatryoshka, kJumpRelu, kGated };
struct ArchitectureTraits {
  ActivationFamily family = ActivationFamily::kTopK;
  bool transcoder = false;
  bool skip = false;

  bool topk_family() const { return family == ActivationFamily::kTopK || batch_topk(); }
  bool batch_topk() const {
    return family == ActivationFamily::kBatchTopK || family == ActivationFamily::kMatryoshka;
  }
};
// Nothing for one that cannot be trained.
std::optional<ArchitectureTraits> FindArchitectureTraits(absl::string_view architecture);
// REQUIRES: the spec is resolved.
ArchitectureTraits TraitsOf(const TrainingSpec& spec);

// The spec with every default filled in.
//
//   errors  InvalidArgument  a field out of range or that contradicts another, naming it, its value
//                            and the allowed range; a hook that the model does not have; a corpus
//                            whose ids or contexts the model cannot take
//           Unimplemented    an architecture that cannot be trained, by name
absl::StatusOr<TrainingSpec> Resolve(const TrainingSpec& spec, const TrainingInputs& inputs);
// The same without model and corpus, for known widths; `corpus_tokens` are those of one epoch.
absl::StatusOr<TrainingSpec> ResolveForWidths(const TrainingSpec& spec,
                                              const TrainingWidths& widths, uint64_t corpus_tokens);

// The widths at the inputs' hook points.   errors  InvalidArgument  a hook the model does not have
absl::StatusOr<TrainingWidths> WidthsOf(const TrainingInputs& inputs);

// The steps of a resolved spec: tokens / batch_size, rounded up.
int64_t TotalSteps(const TrainingSpec& resolved);

// What a run of a resolved spec holds at its peak beside the model, in bytes: parameters, gradients
// and optimiser moments, the activation block, and one step's buffers.
uint64_t TrainingMemoryBytes(const TrainingSpec& resolved, const TrainingWidths& widths);
// Of that, what is held once however many SAEs the stream feeds; `width` values in a row.
uint64_t StreamMemoryBytes(const TrainingSpec& resolved, int64_t width);
// InvalidArgument naming a d_sae or buffer_tokens that would do, when that is more than
// `available`.
absl::Status CheckTrainingMemory(const TrainingSpec& resolved, const TrainingWidths& widths,
                                 uint64_t available);
uint64_t TrainingMemoryBytes(const TrainingSpec& resolved, int64_t d_in);

}  // namespace featurescope
