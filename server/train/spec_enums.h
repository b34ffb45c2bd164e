// The choices in a TrainingSpec, and their names.
//
// Projects that train SAEs disagree on each of these; which one takes which is in presets.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace featurescope {

// Specialised for each choice: `kNames` in the order of the enumerators.
template <typename E>
struct EnumNames;

template <typename E>
absl::string_view EnumName(E value) {
  return EnumNames<E>::kNames[static_cast<size_t>(value)];
}
template <typename E>
std::optional<E> FindEnum(absl::string_view name) {
  size_t i = 0;
  for (const absl::string_view known : EnumNames<E>::kNames) {
    if (known == name) return static_cast<E>(i);
    ++i;
  }
  return std::nullopt;
}

// Where the decoder's bias starts. The first batch is that of the activation stream.
enum class DecoderBiasInit {
  kGeometricMedian,  // of the first batch (OpenAI, dictionary_learning's TopK family)
  kMean,             // of the first batch (sparsify)
  kZeros,            // SAELens, dictionary_learning's others
};
template <>
struct EnumNames<DecoderBiasInit> {
  static constexpr absl::string_view kNames[] = {"geometric_median", "mean", "zeros"};
};

// How x is scaled before training. A scale of the whole data set is measured on the first block of
// the stream and folded into the result, which takes x as it is; a scale per token stays part of
// the SAE (normalize_activations in its cfg.json).
enum class InputScaling {
  kAuto,            // none where scale_inputs is false; else unit_mean_square for jumprelu, and
                    // sqrt_width for the others
  kNone,            // sparsify, OpenAI's train.py
  kSqrtWidth,       // E|x| = sqrt(d_in): SAELens' expected_average_only_in, OpenMOSS
  kUnitMeanSquare,  // E|x|^2 = 1: dictionary_learning, Gemma Scope
  kLayerNorm,       // per token (x - mean) / (std + 1e-5): OpenAI's released SAEs, BatchTopK's repo
  kConstantNorm,    // per token x sqrt(d_in) / |x|
};
template <>
struct EnumNames<InputScaling> {
  static constexpr absl::string_view kNames[] = {
      "auto", "none", "sqrt_width", "unit_mean_square", "layer_norm", "constant_norm"};
};

// What |x - x_hat|^2 is multiplied by in the loss.
enum class ReconstructionScale {
  kSum,       // 1: summed over d, mean over tokens (SAELens, dictionary_learning, OpenMOSS)
  kMean,      // 1 / d: mean over both (BatchTopK's repo, notebooks)
  kVariance,  // 1 / the batch's total variance: the FVU (sparsify)
};
template <>
struct EnumNames<ReconstructionScale> {
  static constexpr absl::string_view kNames[] = {"sum", "mean", "variance"};
};

// What is penalised besides the error; f is a feature's activation, n its decoder row's norm, or 1
// where the penalty is not weighted.
enum class SparsityPenalty {
  kAuto,  // l0 for jumprelu, none for the topk family, l1 for the others
  kNone,
  kL1,    // f n
  kTanh,  // tanh(tanh_scale f n): Anthropic, January 2025
  kL0,    // jumprelu: how many features fire, by a straight-through estimator
};
template <>
struct EnumNames<SparsityPenalty> {
  static constexpr absl::string_view kNames[] = {"auto", "none", "l1", "tanh", "l0"};
};

// How the penalty is added up.
enum class SparsityScale {
  kSumFeatures,  // summed over features, mean over tokens (SAELens, dictionary_learning)
  kMeanAll,      // mean over features and tokens (notebooks)
  kSumAll,       // summed over features and tokens (Nanda 2023)
};
template <>
struct EnumNames<SparsityScale> {
  static constexpr absl::string_view kNames[] = {"sum_features", "mean_all", "sum_all"};
};

// What happens to the norms of the decoder's rows.
enum class DecoderNorm {
  kAuto,            // free for standard and transcoders, unit for the others
  kFree,            // nothing (SAELens, OpenMOSS)
  kUnit,            // 1 after every step (dictionary_learning; sparsify, but at the next step)
  kUnitBeforeStep,  // 1 before every step, so the result's are not quite 1 (OpenAI, BatchTopK)
};
template <>
struct EnumNames<DecoderNorm> {
  static constexpr absl::string_view kNames[] = {"auto", "free", "unit", "unit_before_step"};
};

// Directions of the decoder's rows at the start.
enum class DecoderInit {
  kNormal,           // isotropic
  kUniform,          // of independent entries, uniform in (-1, 1) (kaiming_uniform, OpenMOSS)
  kPositiveUniform,  // uniform in (0, 1) (SAELens 3 to 5, decoder_heuristic_init)
  kZeros,            // sparsify's transcoders
};
template <>
struct EnumNames<DecoderInit> {
  static constexpr absl::string_view kNames[] = {"normal", "uniform", "positive_uniform", "zeros"};
};

enum class EncoderInit {
  kTransposed,  // the decoder's rows; a transcoder's, whose widths differ, as kUniform
  kUniform,     // independent, uniform in +-1 / sqrt(d_in): torch.nn.Linear's default
};
template <>
struct EnumNames<EncoderInit> {
  static constexpr absl::string_view kNames[] = {"transposed", "uniform"};
};

enum class Optimizer {
  kAdam,
  kAdamW,   // Adam with decoupled weight_decay
  kSignum,  // sign of the running mean of the gradient; with momentum 0 signSGD
};
template <>
struct EnumNames<Optimizer> {
  static constexpr absl::string_view kNames[] = {"adam", "adamw", "signum"};
};

// Between warm-up and final decay.
enum class LrSchedule {
  kConstant,
  kCosine,    // half a cosine from the rate to lr_end_fraction of it
  kSawtooth,  // constant, with a new warm-up after each resampling
};
template <>
struct EnumNames<LrSchedule> {
  static constexpr absl::string_view kNames[] = {"constant", "cosine", "sawtooth"};
};

enum class AnnealShape { kLinear, kExponential };
template <>
struct EnumNames<AnnealShape> {
  static constexpr absl::string_view kNames[] = {"linear", "exponential"};
};

// What AuxK's squared error, summed over d and tokens, is divided by.
enum class AuxKScale {
  kResidualVariance,  // sum of |e - mean(e)|^2 (OpenAI, dictionary_learning)
  kTotalVariance,     // sum of |x - mean(x)|^2 (sparsify)
  kTokens,            // tokens (SAELens, OpenMOSS)
  kTokensAndWidth,    // tokens times d (BatchTopK's repo)
};
template <>
struct EnumNames<AuxKScale> {
  static constexpr absl::string_view kNames[] = {"residual_variance", "total_variance", "tokens",
                                                 "tokens_and_width"};
};

// Of the estimator of a threshold's gradient: unit area on (-1/2, 1/2), in units of the bandwidth.
enum class SteKernel {
  kRectangle,     // 1 (all published trainers)
  kTriangle,      // 2 - 4 |u|
  kEpanechnikov,  // 1.5 (1 - 4 u^2)
};
template <>
struct EnumNames<SteKernel> {
  static constexpr absl::string_view kNames[] = {"rectangle", "triangle", "epanechnikov"};
};

// What the L0 penalty's step function is applied to.
enum class L0StepInput {
  kPreActivation,  // hidden_pre (the paper, SAELens)
  kActivation,     // the activation, 0 where it does not fire (dictionary_learning)
};
template <>
struct EnumNames<L0StepInput> {
  static constexpr absl::string_view kNames[] = {"pre_activation", "activation"};
};

// Which of a context's tokens are trained on, special ones left out.
enum class TokenPositions { kAll, kMiddle, kLast };
template <>
struct EnumNames<TokenPositions> {
  static constexpr absl::string_view kNames[] = {"all", "middle", "last"};
};

// Of the encoder's product. Parameters, sums and everything else stay float32.
enum class ComputeDtype { kFloat32, kBFloat16 };
template <>
struct EnumNames<ComputeDtype> {
  static constexpr absl::string_view kNames[] = {"float32", "bfloat16"};
};

}  // namespace featurescope
