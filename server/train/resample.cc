#include "server/train/resample.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/hash.h"
#include "server/train/schedule.h"

namespace featurescope {
namespace {

constexpr uint64_t kDrawStream = 0x726573616d706c65;  // no other use of the run's seed shares it

// Uniform in (0, 1).
double Uniform(uint64_t seed, int64_t step, int64_t row) {
  const uint64_t bits = Mix64(Mix64(Mix64(seed ^ kDrawStream) ^ static_cast<uint64_t>(step)) ^
                              static_cast<uint64_t>(row));
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}

// The steps until the next resampling that is not before `step`.
int64_t StepsUntilResampling(const TrainingSpec& spec, int64_t step) {
  const auto batch = static_cast<uint64_t>(spec.batch_size);
  const auto period = static_cast<int64_t>((spec.resample_tokens + batch - 1) / batch);
  return period - 1 - step % period;
}

void ResetMoments(Trained& parameter, const torch::Tensor& features) {
  if (!parameter.value.defined()) return;
  parameter.m.index_fill_(0, features, 0);
  parameter.v.index_fill_(0, features, 0);
}

}  // namespace

bool Resampler::Draws(int64_t step) const {
  if (spec_.resample_tokens == 0) return false;
  const int64_t left = StepsUntilResampling(spec_, step);
  if (!ResamplesAfter(spec_, step + left)) return false;  // that was the last time
  return static_cast<uint64_t>(left) * static_cast<uint64_t>(spec_.batch_size) <
         spec_.resample_from_tokens;
}

void Resampler::Draw(int64_t step, const torch::Tensor& x, const torch::Tensor& squared_errors,
                     TrainState* state) const {
  const int64_t n = x.size(0);
  const int64_t capacity = state->d_sae();
  if (!state->drawn_keys.defined()) {
    state->drawn_keys = torch::zeros({capacity}, torch::kFloat64);
    state->drawn_rows = torch::zeros({capacity, x.size(1)});
  }
  // log u / weight orders as u^(1/weight) does, and stays finite; negative, so that 0 is empty.
  const torch::Tensor weights =
      squared_errors.cpu().clamp_min(1e-300).pow(spec_.resample_loss_power / 2).contiguous();
  auto* keys = state->drawn_keys.data_ptr<double>();
  std::vector<std::pair<double, int64_t>> all;  // key, place: >= capacity for a new row
  for (int64_t i = 0; i < capacity; ++i) {
    if (keys[i] < 0) all.emplace_back(keys[i], i);
  }
  for (int64_t row = 0; row < n; ++row) {
    const double weight = std::clamp(weights.data_ptr<double>()[row], 1e-300, 1e300);
    const double key = std::max(std::log(Uniform(spec_.seed, step, row)) / weight, -1e300);
    all.emplace_back(key, capacity + row);
  }
  if (static_cast<int64_t>(all.size()) > capacity) {
    std::nth_element(all.begin(), all.begin() + capacity, all.end(), std::greater<>());
    all.resize(capacity);
  }
  // New rows take the places of those that left.
  std::vector<bool> stays(capacity, false);
  for (const auto& [key, place] : all) {
    if (place < capacity) stays[place] = true;
  }
  std::vector<int64_t> places;
  std::vector<int64_t> rows;
  int64_t next = 0;
  for (const auto& [key, place] : all) {
    if (place < capacity) continue;
    while (stays[next]) ++next;
    keys[next] = key;
    places.push_back(next++);
    rows.push_back(place - capacity);
  }
  for (; next < capacity; ++next) {
    if (!stays[next]) keys[next] = 0;
  }
  if (rows.empty()) return;
  const torch::Tensor from = torch::tensor(rows, torch::kInt64).to(x.device());
  state->drawn_rows.index_copy_(0, torch::tensor(places, torch::kInt64),
                                x.index_select(0, from).cpu());
}

int64_t Resampler::ResampleIfDue(int64_t step, TrainState* state) const {
  if (!ResamplesAfter(spec_, step) || !state->drawn_keys.defined()) return 0;
  const torch::Tensor is_dead =
      state->tokens_since_fired.ge(static_cast<int64_t>(spec_.resample_dead_after_tokens));
  const torch::Tensor dead = is_dead.nonzero().view({-1});
  // The drawn inputs, best keys first.
  const auto [keys, order] =
      state->drawn_keys.masked_fill(state->drawn_keys.ge(0), -1e308).sort(0, /*descending=*/true);
  const int64_t drawn = state->drawn_keys.lt(0).sum().item<int64_t>();
  const int64_t n = std::min(dead.numel(), drawn);
  if (n > 0) {
    const torch::Tensor living =
        is_dead.logical_not().nonzero().view({-1}).to(state->W_enc.value.device());
    const torch::Tensor norms = state->W_enc.value.index_select(0, living).norm(2, {1});
    const double living_norm = living.numel() > 0 ? norms.mean().item<double>() : 1;
    Restart(dead.slice(0, 0, n), state->drawn_rows.index_select(0, order.slice(0, 0, n)),
            living_norm, state);
  }
  state->drawn_keys = torch::Tensor();
  state->drawn_rows = torch::Tensor();
  ++state->resamplings;
  return n;
}

void Resampler::Restart(const torch::Tensor& features, const torch::Tensor& inputs,
                        double living_norm, TrainState* state) const {
  const torch::Tensor index = features.to(state->W_enc.value.device());
  const torch::Tensor x = inputs.to(index.device());
  const torch::Tensor directions = x / x.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
  const double factor = spec_.resample_encoder_scale * living_norm;
  state->W_enc.value.index_copy_(0, index, (spec_.resample_unit_inputs ? directions : x) * factor);
  state->W_dec.value.index_copy_(0, index, directions);
  for (Trained* bias : {&state->b_enc, &state->b_gate, &state->b_mag, &state->r_mag}) {
    if (bias->value.defined()) bias->value.index_fill_(0, index, 0);
  }
  if (state->threshold.value.defined()) {
    state->threshold.value.index_fill_(0, index, spec_.initial_threshold);
  }
  VisitParameters(*state, [&](const char* name, Trained& parameter) {
    const absl::string_view is(name);
    if (is != "b_dec" && is != "W_skip") ResetMoments(parameter, index);
  });
  state->tokens_since_fired.index_fill_(0, features, 0);
}

}  // namespace featurescope
