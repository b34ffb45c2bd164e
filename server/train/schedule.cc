#include "server/train/schedule.h"

#include <algorithm>
#include <cmath>

namespace featurescope {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Of the first n steps: 1 / n, 2 / n, ... 1, or 0, 1 / n, ...; then 1.
double WarmUp(int64_t step, int64_t n, bool from_zero) {
  return step >= n ? 1.0 : static_cast<double>(step + (from_zero ? 0 : 1)) / static_cast<double>(n);
}

// Linear at the end; would reach 0 one step after the last.
double Decay(int64_t step, int64_t total, int64_t n) {
  const int64_t left = total - step;
  return left < n ? static_cast<double>(left) / static_cast<double>(n) : 1.0;
}

double RateFactor(const TrainingSpec& spec, int64_t step, int64_t total) {
  const int64_t warmup = *spec.lr_warmup_steps;
  const int64_t decay = std::min(*spec.lr_decay_steps, total);
  const double end = spec.lr_end_fraction;
  int64_t since = step;
  double factor = 1;
  if (spec.lr_schedule == LrSchedule::kSawtooth) {
    since = step - LastResamplingBefore(spec, step);
  } else if (spec.lr_schedule == LrSchedule::kCosine && step >= warmup) {
    const int64_t length = std::max<int64_t>(total - decay - warmup, 1);
    const double done =
        std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(length));
    factor = end + (1 - end) * 0.5 * (1 + std::cos(kPi * done));
  }
  const double start = spec.lr_start_fraction;
  factor *= start + (1 - start) * WarmUp(since, warmup, spec.warmup_from_zero);
  const double decayed = Decay(step, total, decay);
  // A constant rate decays to its end fraction; a cosine has come there already.
  const double low = spec.lr_schedule == LrSchedule::kCosine ? 0 : end;
  return factor * (low + (1 - low) * decayed);
}

int64_t AnnealedK(const TrainingSpec& spec, int64_t step) {
  const int64_t n = spec.k_anneal_steps;
  if (n == 0) return spec.k;
  if (spec.k_anneal_from_second_step) {
    if (step == 0) return spec.k;
    --step;
  }
  const double done = std::min(1.0, static_cast<double>(step) / static_cast<double>(n));
  const auto from = static_cast<double>(spec.k_initial);
  const auto to = static_cast<double>(spec.k);
  const double k = spec.k_anneal_shape == AnnealShape::kLinear ? from * (1 - done) + to * done
                                                               : from * std::pow(to / from, done);
  return std::clamp<int64_t>(static_cast<int64_t>(k), spec.k, spec.k_initial);
}

int64_t ResamplingPeriod(const TrainingSpec& spec) {
  const auto batch = static_cast<uint64_t>(spec.batch_size);
  return static_cast<int64_t>((spec.resample_tokens + batch - 1) / batch);
}

}  // namespace

StepSettings SettingsOfStep(const TrainingSpec& spec, int64_t step, int64_t total_steps) {
  StepSettings settings;
  const double factor = RateFactor(spec, step, total_steps);
  settings.learning_rate = spec.learning_rate * factor;
  settings.threshold_learning_rate = spec.threshold_learning_rate * factor;
  settings.sparsity = WarmUp(step, *spec.l1_warmup_steps, spec.warmup_from_zero);
  settings.k = AnnealedK(spec, step);
  return settings;
}

bool ResamplesAfter(const TrainingSpec& spec, int64_t step) {
  if (spec.resample_tokens == 0) return false;
  const int64_t period = ResamplingPeriod(spec);
  if ((step + 1) % period != 0) return false;
  return spec.resample_times == 0 || (step + 1) / period <= spec.resample_times;
}

int64_t LastResamplingBefore(const TrainingSpec& spec, int64_t step) {
  if (spec.resample_tokens == 0) return 0;
  const int64_t period = ResamplingPeriod(spec);
  int64_t times = step / period;
  if (spec.resample_times != 0) times = std::min(times, spec.resample_times);
  return times * period;
}

}  // namespace featurescope
