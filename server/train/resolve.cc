// Defaults and checks of a TrainingSpec.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/base/status.h"
#include "server/train/activation_files.h"
#include "server/train/model_source.h"
#include "server/train/spec.h"

namespace featurescope {
namespace {

constexpr int64_t kMaxFeatures = 1 << 24;
constexpr int64_t kMaxBatch = 1 << 20;
constexpr uint64_t kMaxTokens = uint64_t{1} << 50;
constexpr int64_t kMaxSteps = int64_t{1} << 40;
constexpr uint64_t kDefaultDeadAfter = 10'000'000;
constexpr double kMaxCoefficient = 1e9;
constexpr size_t kMaxGroups = 64;

template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T lo, T hi) {
  if (value >= lo && value <= hi) return absl::OkStatus();  // false for NaN
  return InvalidField(field, field, " is ", value, ", out of range [", lo, ", ", hi, "]");
}

absl::Status CheckSteps(absl::string_view field, int64_t value) {
  return CheckRange<int64_t>(field, value, 0, kMaxSteps);
}
absl::Status CheckCoefficient(absl::string_view field, double value) {
  return CheckRange(field, value, 0.0, kMaxCoefficient);
}

template <typename T, typename U>
void Default(std::optional<T>* field, U value) {
  if (!field->has_value()) *field = static_cast<T>(value);
}

absl::Status ResolveTokens(TrainingSpec* s, uint64_t corpus_tokens) {
  RETURN_IF_ERROR(CheckRange("epochs", s->epochs, 0.0, 1e9));
  if (s->epochs > 0) {
    // A resolved spec has both.
    const double tokens = std::ceil(s->epochs * static_cast<double>(corpus_tokens));
    const auto of_epochs = static_cast<uint64_t>(std::clamp(tokens, 1.0, 1e15));
    if (s->tokens != 0 && s->tokens != of_epochs) {
      return InvalidField("epochs", "epochs is ", s->epochs, " and tokens is ", s->tokens,
                          "; only one of them can be given");
    }
    s->tokens = of_epochs;
  }
  RETURN_IF_ERROR(CheckRange<uint64_t>("tokens", s->tokens, 1, kMaxTokens));
  const bool full_batch = s->batch_size == -1;
  if (full_batch)
    s->batch_size = static_cast<int64_t>(std::min<uint64_t>(corpus_tokens, kMaxBatch));
  if (s->batch_size == 0) s->batch_size = 4096;
  RETURN_IF_ERROR(CheckRange<int64_t>("batch_size", s->batch_size, 1, kMaxBatch));
  const auto batch = static_cast<uint64_t>(s->batch_size);
  if (s->buffer_tokens == 0) s->buffer_tokens = full_batch ? batch : 64 * batch;
  RETURN_IF_ERROR(
      CheckRange<uint64_t>("buffer_tokens", s->buffer_tokens, batch, uint64_t{1} << 40));
  if (s->checkpoint_seconds == 0) s->checkpoint_seconds = 60;
  RETURN_IF_ERROR(
      CheckRange<int64_t>("checkpoint_seconds", s->checkpoint_seconds, 1, 1'000'000'000));
  return CheckSteps("checkpoint_steps", s->checkpoint_steps);
}

// Steps from a fraction, or from what is the default.
absl::Status ResolveSteps(absl::string_view field, const std::optional<double>& fraction,
                          int64_t total, int64_t otherwise, std::optional<int64_t>* steps) {
  if (fraction) RETURN_IF_ERROR(CheckRange(field, *fraction, 0.0, 1.0));
  Default(steps, fraction ? std::llround(*fraction * static_cast<double>(total)) : otherwise);
  return CheckSteps(field, **steps);
}

absl::Status ResolveOptimizer(TrainingSpec* s, const ArchitectureTraits& traits) {
  const int64_t steps = TotalSteps(*s);
  if (s->learning_rate == 0) {
    s->learning_rate = traits.topk_family()
                           ? 2e-4 / std::sqrt(static_cast<double>(s->d_sae) / 16384.0)
                       : traits.family == ActivationFamily::kJumpRelu ? 7e-5
                                                                      : 3e-4;
  }
  RETURN_IF_ERROR(CheckRange("learning_rate", s->learning_rate, 1e-12, 1e3));
  RETURN_IF_ERROR(ResolveSteps("lr_warmup_steps", s->lr_warmup_fraction, steps,
                               std::min<int64_t>(steps / 20, 1000), &s->lr_warmup_steps));
  RETURN_IF_ERROR(ResolveSteps("lr_decay_steps", s->lr_decay_fraction, steps,
                               s->lr_schedule == LrSchedule::kConstant ? steps / 5 : 0,
                               &s->lr_decay_steps));
  RETURN_IF_ERROR(ResolveSteps("l1_warmup_steps", s->l1_warmup_fraction, steps, steps / 20,
                               &s->l1_warmup_steps));
  RETURN_IF_ERROR(CheckRange("lr_start_fraction", s->lr_start_fraction, 0.0, 1.0));
  RETURN_IF_ERROR(CheckRange("adam_beta1", s->adam_beta1, 0.0, 1 - 1e-9));
  RETURN_IF_ERROR(CheckRange("adam_beta2", s->adam_beta2, 0.0, 1 - 1e-9));
  RETURN_IF_ERROR(CheckRange("adam_epsilon", s->adam_epsilon, 1e-30, 1.0));
  Default(&s->clip_norm, 1);
  RETURN_IF_ERROR(CheckRange("clip_norm", *s->clip_norm, 0.0, 1e30));
  if (s->optimizer == Optimizer::kAdam && s->weight_decay.value_or(0) != 0) {
    return InvalidField("weight_decay", "weight_decay is ", *s->weight_decay,
                        ", but adam has none; adamw has");
  }
  Default(&s->weight_decay, s->optimizer == Optimizer::kAdamW ? 0.01 : 0.0);
  RETURN_IF_ERROR(CheckRange("weight_decay", *s->weight_decay, 0.0, 1.0));
  if (s->lr_schedule == LrSchedule::kSawtooth && s->resample_tokens == 0) {
    return InvalidField("lr_schedule", "lr_schedule is sawtooth, which needs resample_tokens");
  }
  return CheckRange("lr_end_fraction", s->lr_end_fraction, 0.0, 1.0);
}

absl::Status ResolvePenalty(TrainingSpec* s, const ArchitectureTraits& traits) {
  const bool jumprelu = traits.family == ActivationFamily::kJumpRelu;
  if (s->sparsity_penalty == SparsityPenalty::kAuto) {
    s->sparsity_penalty = jumprelu               ? SparsityPenalty::kL0
                          : traits.topk_family() ? SparsityPenalty::kNone
                                                 : SparsityPenalty::kL1;
  }
  const bool fits =
      s->sparsity_penalty == SparsityPenalty::kNone ||
      (s->sparsity_penalty == SparsityPenalty::kL0 ? jumprelu : !traits.topk_family());
  if (!fits) {
    return InvalidField("sparsity_penalty", "sparsity_penalty is ", EnumName(s->sparsity_penalty),
                        ", which ", s->architecture, " does not have");
  }
  if (s->l1_coefficient == 0) s->l1_coefficient = 5;
  RETURN_IF_ERROR(CheckCoefficient("l1_coefficient", s->l1_coefficient));
  RETURN_IF_ERROR(CheckRange("tanh_scale", s->tanh_scale, 1e-9, 1e9));
  Default(&s->l1_weighted_by_decoder_norm, s->decoder_norm == DecoderNorm::kFree);
  RETURN_IF_ERROR(CheckCoefficient("l0_coefficient", s->l0_coefficient));
  Default(&s->target_l0, 20);
  RETURN_IF_ERROR(CheckRange("target_l0", *s->target_l0, 0.0, static_cast<double>(kMaxFeatures)));
  if (jumprelu && *s->target_l0 > static_cast<double>(s->d_sae)) {
    return InvalidField("target_l0", "target_l0 is ", *s->target_l0, ", more than d_sae ",
                        s->d_sae);
  }
  RETURN_IF_ERROR(CheckRange("bandwidth", s->bandwidth, 1e-12, 1e12));
  RETURN_IF_ERROR(CheckRange("initial_threshold", s->initial_threshold, 0.0, 1e12));
  if (s->threshold_learning_rate == 0) s->threshold_learning_rate = s->learning_rate;
  RETURN_IF_ERROR(CheckRange("threshold_learning_rate", s->threshold_learning_rate, 1e-12, 1e3));
  return CheckCoefficient("pre_act_coefficient", s->pre_act_coefficient);
}

absl::Status ResolveInitialization(TrainingSpec* s, const ArchitectureTraits& traits) {
  const bool jumprelu = traits.family == ActivationFamily::kJumpRelu;
  const bool free = traits.transcoder || traits.family == ActivationFamily::kRelu;
  if (s->decoder_norm == DecoderNorm::kAuto) {
    s->decoder_norm = free ? DecoderNorm::kFree : DecoderNorm::kUnit;
  }
  const bool unit = s->decoder_norm != DecoderNorm::kFree;
  Default(&s->project_decoder_gradient, unit);
  Default(&s->decoder_init_norm, unit ? 1.0 : 0.1);
  RETURN_IF_ERROR(CheckRange("decoder_init_norm", *s->decoder_init_norm, 1e-9, 1e9));
  if (unit && s->decoder_init == DecoderInit::kZeros) {
    return InvalidField("decoder_init", "decoder_init is zeros, but decoder_norm keeps norms at 1");
  }
  if (s->decoder_init == DecoderInit::kZeros && s->encoder_init == EncoderInit::kTransposed) {
    s->encoder_init = EncoderInit::kUniform;
  }
  Default(&s->apply_b_dec_to_input, !jumprelu && !traits.transcoder);
  if (traits.transcoder && *s->apply_b_dec_to_input) {
    return InvalidField("apply_b_dec_to_input",
                        "apply_b_dec_to_input is true, but a transcoder's b_dec belongs to its "
                        "output");
  }
  if (s->input_scaling == InputScaling::kAuto) {
    s->input_scaling = !s->scale_inputs ? InputScaling::kNone
                       : jumprelu       ? InputScaling::kUnitMeanSquare
                                        : InputScaling::kSqrtWidth;
  }
  s->scale_inputs = s->input_scaling != InputScaling::kNone;
  return absl::OkStatus();
}

absl::Status ResolveGroups(TrainingSpec* s) {
  if (s->group_sizes.empty()) {
    int64_t rest = s->d_sae;
    for (int64_t share = 32; share >= 4; share /= 2) {
      const int64_t size = s->d_sae / share;
      if (size > 0) s->group_sizes.push_back(size);
      rest -= size;
    }
    s->group_sizes.push_back(rest);
  }
  RETURN_IF_ERROR(CheckRange<size_t>("group_sizes", s->group_sizes.size(), 1, kMaxGroups));
  int64_t sum = 0;
  for (const int64_t size : s->group_sizes) {
    RETURN_IF_ERROR(CheckRange<int64_t>("group_sizes", size, 1, s->d_sae));
    sum += size;
  }
  if (sum != s->d_sae) {
    return InvalidField("group_sizes", "group_sizes add up to ", sum, ", not to d_sae ", s->d_sae);
  }
  if (s->group_weights.empty()) {
    s->group_weights.assign(s->group_sizes.size(),
                            1.0 / static_cast<double>(s->group_sizes.size()));
  }
  if (s->group_weights.size() != s->group_sizes.size()) {
    return InvalidField("group_weights", "there are ", s->group_weights.size(),
                        " group_weights for ", s->group_sizes.size(), " groups");
  }
  for (const double weight : s->group_weights) {
    RETURN_IF_ERROR(CheckRange("group_weights", weight, 1e-12, kMaxCoefficient));
  }
  return absl::OkStatus();
}

absl::Status ResolveTopK(TrainingSpec* s, const ArchitectureTraits& traits, int64_t d_in) {
  if (traits.family == ActivationFamily::kMatryoshka) {
    RETURN_IF_ERROR(ResolveGroups(s));
  } else if (!s->group_sizes.empty() || !s->group_weights.empty()) {
    return InvalidField("group_sizes", "group_sizes are for matryoshka_batchtopk, not for ",
                        s->architecture);
  }
  if (!traits.topk_family()) {
    Default(&s->auxk_coefficient, 0);
    if (*s->auxk_coefficient != 0) {
      return InvalidField("auxk_coefficient", "auxk_coefficient is ", *s->auxk_coefficient,
                          ", but ", s->architecture, " has no AuxK; the topk family has");
    }
    Default(&s->threshold_start_step, 0);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckRange<int64_t>("k", s->k, 1, s->d_sae));
  RETURN_IF_ERROR(CheckSteps("k_anneal_steps", s->k_anneal_steps));
  if (s->k_initial == 0) s->k_initial = std::clamp<int64_t>(d_in, s->k, s->d_sae);
  RETURN_IF_ERROR(CheckRange<int64_t>("k_initial", s->k_initial, s->k, s->d_sae));
  if (s->k_aux == 0) s->k_aux = std::clamp<int64_t>(std::min<int64_t>(d_in / 2, 512), 1, s->d_sae);
  if (s->k_aux == -1) s->k_aux = std::clamp<int64_t>(d_in / 2, 1, s->d_sae);
  RETURN_IF_ERROR(CheckRange<int64_t>("k_aux", s->k_aux, 1, s->d_sae));
  Default(&s->auxk_coefficient, 1.0 / 32);
  RETURN_IF_ERROR(CheckCoefficient("auxk_coefficient", *s->auxk_coefficient));
  if (s->threshold_beta == 0) {
    s->threshold_beta = std::clamp(1 - 20.0 / static_cast<double>(TotalSteps(*s)), 0.0, 0.999);
  }
  RETURN_IF_ERROR(CheckRange("threshold_beta", s->threshold_beta, 0.0, 1 - 1e-9));
  Default(&s->threshold_start_step, std::min<int64_t>(1000, TotalSteps(*s) / 2));
  return CheckSteps("threshold_start_step", *s->threshold_start_step);
}

absl::Status ResolveDead(TrainingSpec* s, const ArchitectureTraits& traits) {
  if (s->dead_after_tokens == 0) {
    s->dead_after_tokens = std::clamp<uint64_t>(s->tokens / 10, 1, kDefaultDeadAfter);
  }
  RETURN_IF_ERROR(CheckRange("fired_above", s->fired_above, 0.0, 1e12));
  if (s->resample_tokens == 0) return absl::OkStatus();
  const auto batch = static_cast<uint64_t>(s->batch_size);
  if (traits.transcoder) {
    return InvalidField("resample_tokens", "resample_tokens is ", s->resample_tokens,
                        ", but a transcoder's features cannot be resampled from its inputs");
  }
  RETURN_IF_ERROR(CheckRange<uint64_t>("resample_tokens", s->resample_tokens, batch, kMaxTokens));
  if (s->resample_dead_after_tokens == 0) s->resample_dead_after_tokens = s->resample_tokens / 2;
  RETURN_IF_ERROR(CheckRange<uint64_t>("resample_dead_after_tokens", s->resample_dead_after_tokens,
                                       1, s->resample_tokens));
  if (s->resample_from_tokens == 0) s->resample_from_tokens = batch;
  RETURN_IF_ERROR(
      CheckRange<uint64_t>("resample_from_tokens", s->resample_from_tokens, 1, s->resample_tokens));
  RETURN_IF_ERROR(CheckRange<int64_t>("resample_times", s->resample_times, 0, 1 << 30));
  RETURN_IF_ERROR(CheckRange("resample_loss_power", s->resample_loss_power, 0.0, 16.0));
  return CheckRange("resample_encoder_scale", s->resample_encoder_scale, 0.0, 1e6);
}

absl::Status ResolveWidth(TrainingSpec* s, int64_t d_in) {
  RETURN_IF_ERROR(CheckRange("expansion", s->expansion, 0.0, static_cast<double>(kMaxFeatures)));
  if (s->expansion > 0) {
    const auto d_sae = std::llround(s->expansion * static_cast<double>(d_in));
    if (s->d_sae != 0 && s->d_sae != d_sae) {  // a resolved spec has both
      return InvalidField("expansion", "expansion is ", s->expansion, " and d_sae is ", s->d_sae,
                          "; only one of them can be given");
    }
    s->d_sae = d_sae;
  }
  return CheckRange<int64_t>("d_sae", s->d_sae, 1, kMaxFeatures);
}

absl::Status CheckCorpus(const ModelConfig& model, const CorpusShare& share) {
  const TokenFile& corpus = *share.corpus;
  if (corpus.vocab_size() > model.d_vocab) {
    return InvalidField("corpus_id", "the corpus has a vocabulary of ", corpus.vocab_size(),
                        " tokens, the model one of ", model.d_vocab);
  }
  if (corpus.context_size() > model.n_ctx) {
    return InvalidField("corpus_id", "the corpus has contexts of ", corpus.context_size(),
                        " tokens, the model takes at most ", model.n_ctx);
  }
  return CheckRange("corpus weight", share.weight, 1e-6, 1e6);
}

absl::Status CheckInputs(const TrainingInputs& inputs) {
  if (inputs.activations != nullptr) return absl::OkStatus();
  const ModelConfig& model = inputs.model->config();
  RETURN_IF_ERROR(CheckCorpus(model, {inputs.corpus, inputs.corpus_weight}));
  for (const CorpusShare& share : inputs.more_corpora) RETURN_IF_ERROR(CheckCorpus(model, share));
  return absl::OkStatus();
}

absl::Status ResolveHeldOut(TrainingSpec* s) {
  const auto batch = static_cast<uint64_t>(s->batch_size);
  if (s->heldout_tokens == 0) s->heldout_tokens = 4 * batch;
  RETURN_IF_ERROR(CheckRange<uint64_t>("heldout_tokens", s->heldout_tokens, 1, uint64_t{1} << 32));
  if (s->heldout_steps == 0) s->heldout_steps = std::max<int64_t>(TotalSteps(*s) / 50, 1);
  return CheckRange<int64_t>("heldout_steps", s->heldout_steps, 1, kMaxSteps);
}

}  // namespace

absl::StatusOr<TrainingSpec> ResolveForWidths(const TrainingSpec& spec,
                                              const TrainingWidths& widths,
                                              uint64_t corpus_tokens) {
  const std::optional<ArchitectureTraits> traits = FindArchitectureTraits(spec.architecture);
  if (!traits) {
    return Unimplemented("architecture '", spec.architecture,
                         "' cannot be trained; these can: standard, topk, batchtopk, "
                         "matryoshka_batchtopk, jumprelu, gated, transcoder, skip_transcoder, "
                         "topk_transcoder, topk_skip_transcoder, jumprelu_transcoder, "
                         "jumprelu_skip_transcoder");
  }
  TrainingSpec s = spec;
  RETURN_IF_ERROR(ResolveWidth(&s, widths.d_in));
  RETURN_IF_ERROR(ResolveTokens(&s, corpus_tokens));
  RETURN_IF_ERROR(ResolveOptimizer(&s, *traits));
  RETURN_IF_ERROR(ResolveInitialization(&s, *traits));
  RETURN_IF_ERROR(ResolvePenalty(&s, *traits));
  RETURN_IF_ERROR(ResolveTopK(&s, *traits, widths.d_in));
  RETURN_IF_ERROR(ResolveDead(&s, *traits));
  RETURN_IF_ERROR(ResolveHeldOut(&s));
  return s;
}

absl::StatusOr<TrainingSpec> Resolve(const TrainingSpec& spec, const TrainingInputs& inputs) {
  RETURN_IF_ERROR(CheckInputs(inputs));
  const std::optional<ArchitectureTraits> traits = FindArchitectureTraits(spec.architecture);
  if (traits && traits->transcoder != inputs.hook_out.has_value()) {
    return InvalidField("hook_name_out", "architecture ", spec.architecture,
                        traits->transcoder ? " needs hook_name_out, where its target comes from"
                                           : " has no hook_name_out: its target is its input");
  }
  ASSIGN_OR_RETURN(const TrainingWidths widths, WidthsOf(inputs));
  if (inputs.activations != nullptr) {
    return ResolveForWidths(spec, widths, static_cast<uint64_t>(inputs.activations->n_rows()));
  }
  ASSIGN_OR_RETURN(const uint64_t epoch, TokensOfOneEpoch(inputs, spec));
  return ResolveForWidths(spec, widths, epoch);
}

}  // namespace featurescope
