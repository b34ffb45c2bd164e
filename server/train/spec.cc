#include "server/train/spec.h"

#include <algorithm>
#include <cmath>

#include "server/base/status.h"
#include "server/train/activation_stream.h"
#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

constexpr int64_t kMaxFeatures = 1 << 24;
constexpr int64_t kMaxBatch = 1 << 20;
constexpr uint64_t kMaxTokens = uint64_t{1} << 50;
constexpr int64_t kMaxSteps = int64_t{1} << 40;
constexpr uint64_t kDefaultDeadAfter = 10'000'000;

template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T lo, T hi) {
  if (value >= lo && value <= hi) return absl::OkStatus();  // false for NaN
  return InvalidArgument(field, " is ", value, ", out of range [", lo, ", ", hi, "]");
}

absl::Status ResolveSizes(TrainingSpec* spec, int64_t d_in) {
  RETURN_IF_ERROR(CheckRange<int64_t>("d_sae", spec->d_sae, 1, kMaxFeatures));
  RETURN_IF_ERROR(CheckRange<uint64_t>("tokens", spec->tokens, 1, kMaxTokens));
  if (spec->batch_size == 0) spec->batch_size = 4096;
  RETURN_IF_ERROR(CheckRange<int64_t>("batch_size", spec->batch_size, 1, kMaxBatch));
  const auto batch = static_cast<uint64_t>(spec->batch_size);
  if (spec->buffer_tokens == 0) spec->buffer_tokens = 64 * batch;
  RETURN_IF_ERROR(
      CheckRange<uint64_t>("buffer_tokens", spec->buffer_tokens, batch, uint64_t{1} << 40));
  if (spec->dead_after_tokens == 0) {
    spec->dead_after_tokens = std::clamp<uint64_t>(spec->tokens / 10, 1, kDefaultDeadAfter);
  }
  if (spec->architecture != "topk") return absl::OkStatus();
  RETURN_IF_ERROR(CheckRange<int64_t>("k", spec->k, 1, spec->d_sae));
  if (spec->k_aux == 0) spec->k_aux = std::clamp<int64_t>(d_in / 2, 1, 512);
  return CheckRange<int64_t>("k_aux", spec->k_aux, 1, spec->d_sae);
}

absl::Status ResolveOptimizer(TrainingSpec* spec) {
  const int64_t steps = TotalSteps(*spec);
  const bool topk = spec->architecture == "topk";
  if (spec->learning_rate == 0) {
    spec->learning_rate =
        topk ? 2e-4 / std::sqrt(static_cast<double>(spec->d_sae) / 16384.0) : 3e-4;
  }
  RETURN_IF_ERROR(CheckRange("learning_rate", spec->learning_rate, 1e-12, 1e3));
  if (!spec->lr_warmup_steps) spec->lr_warmup_steps = std::min<int64_t>(steps / 20, 1000);
  if (!spec->lr_decay_steps) spec->lr_decay_steps = steps / 5;
  if (!spec->l1_warmup_steps) spec->l1_warmup_steps = steps / 20;
  RETURN_IF_ERROR(CheckRange<int64_t>("lr_warmup_steps", *spec->lr_warmup_steps, 0, kMaxSteps));
  RETURN_IF_ERROR(CheckRange<int64_t>("lr_decay_steps", *spec->lr_decay_steps, 0, kMaxSteps));
  RETURN_IF_ERROR(CheckRange<int64_t>("l1_warmup_steps", *spec->l1_warmup_steps, 0, kMaxSteps));
  RETURN_IF_ERROR(CheckRange("adam_beta1", spec->adam_beta1, 0.0, 1 - 1e-9));
  RETURN_IF_ERROR(CheckRange("adam_beta2", spec->adam_beta2, 0.0, 1 - 1e-9));
  RETURN_IF_ERROR(CheckRange("adam_epsilon", spec->adam_epsilon, 1e-30, 1.0));
  if (!spec->clip_norm) spec->clip_norm = 1;
  RETURN_IF_ERROR(CheckRange("clip_norm", *spec->clip_norm, 0.0, 1e30));
  if (spec->l1_coefficient == 0) spec->l1_coefficient = 5;
  RETURN_IF_ERROR(CheckRange("l1_coefficient", spec->l1_coefficient, 0.0, 1e9));
  if (!spec->auxk_coefficient) spec->auxk_coefficient = 1.0 / 32;
  RETURN_IF_ERROR(CheckRange("auxk_coefficient", *spec->auxk_coefficient, 0.0, 1e9));
  if (spec->checkpoint_seconds == 0) spec->checkpoint_seconds = 60;
  RETURN_IF_ERROR(
      CheckRange<int64_t>("checkpoint_seconds", spec->checkpoint_seconds, 1, 1'000'000'000));
  return CheckRange<int64_t>("checkpoint_steps", spec->checkpoint_steps, 0, kMaxSteps);
}

absl::Status CheckInputs(const TrainingInputs& inputs) {
  const ModelConfig& model = inputs.model->config();
  const TokenFile& corpus = *inputs.corpus;
  if (corpus.vocab_size() > model.d_vocab) {
    return InvalidArgument("the corpus has a vocabulary of ", corpus.vocab_size(),
                           " tokens, the model one of ", model.d_vocab);
  }
  if (corpus.context_size() > model.n_ctx) {
    return InvalidArgument("the corpus has contexts of ", corpus.context_size(),
                           " tokens, the model takes at most ", model.n_ctx);
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view DecoderBiasInitName(DecoderBiasInit init) {
  switch (init) {
    case DecoderBiasInit::kGeometricMedian:
      return "geometric_median";
    case DecoderBiasInit::kMean:
      return "mean";
    case DecoderBiasInit::kZeros:
      return "zeros";
  }
  return "";
}

absl::StatusOr<TrainingSpec> Resolve(const TrainingSpec& spec, const TrainingInputs& inputs) {
  if (spec.architecture != "topk" && spec.architecture != "standard") {
    return Unimplemented("architecture '", spec.architecture,
                         "' cannot be trained; these can: standard, topk");
  }
  RETURN_IF_ERROR(CheckInputs(inputs));
  absl::StatusOr<int64_t> d_in = inputs.model->config().HookWidth(inputs.hook);
  if (!d_in.ok()) return Annotate(d_in.status(), "hook_name");
  TrainingSpec resolved = spec;
  RETURN_IF_ERROR(ResolveSizes(&resolved, *d_in));
  RETURN_IF_ERROR(ResolveOptimizer(&resolved));
  return resolved;
}

int64_t TotalSteps(const TrainingSpec& resolved) {
  const auto batch = static_cast<uint64_t>(resolved.batch_size);
  return static_cast<int64_t>((resolved.tokens + batch - 1) / batch);
}

uint64_t TrainingMemoryBytes(const TrainingSpec& resolved, int64_t d_in) {
  const auto width = static_cast<uint64_t>(d_in);
  return SaeTrainer::MemoryBytes(resolved, d_in) +
         sizeof(float) * width * (resolved.buffer_tokens + kMaxMicroBatchTokens);
}

}  // namespace featurescope
