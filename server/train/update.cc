// The second half of a step: gradient norm and clipping, the optimiser, decoder rows of unit norm.
#include <algorithm>
#include <cmath>

#include "server/tensor/parallel.h"
#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

double SaeTrainer::ProjectAndMeasure(int64_t feature, float* gradient) const {
  if (*spec_.project_decoder_gradient) {
    const float* w = state_.W_dec.value.data_ptr<float>() + feature * d_out_;
    const float norm = std::sqrt(kernels_.dot(w, w, d_out_)) + kNormEpsilon;
    const float along = kernels_.dot(gradient, w, d_out_) / (norm * norm);
    kernels_.axpy(-along, w, gradient, d_out_);
  }
  return kernels_.dot(gradient, gradient, d_out_);
}

// What the objective adds to the gradients of features [begin, end), their projection and squares.
void SaeTrainer::CompleteWithOperators(int64_t begin, int64_t end) {
  const torch::Tensor W_dec = state_.W_dec.value.slice(0, begin, end);
  torch::Tensor enc = gradients_.W_enc.slice(0, begin, end);
  torch::Tensor dec = gradients_.W_dec.slice(0, begin, end);
  if (objective_->norm_gradient().defined()) {
    const torch::Tensor norms = decoder_norms_.slice(0, begin, end);
    const torch::Tensor along =
        (objective_->norm_gradient().slice(0, begin, end) / norms).masked_fill_(norms == 0, 0);
    dec.addcmul_(W_dec, along.unsqueeze(1));
  }
  if (objective_->uniform_dz().defined()) {
    const torch::Tensor all = objective_->uniform_dz().slice(0, begin, end);
    enc.addr_(all, sum_x_);
    dz_sums_.slice(0, begin, end).add_(all, static_cast<double>(batch()));
  }
  if (*spec_.project_decoder_gradient) {
    const torch::Tensor direction = W_dec / (W_dec.norm(2, {1}, /*keepdim=*/true) + kNormEpsilon);
    const torch::Tensor along = (dec * direction).sum(1, /*keepdim=*/true);
    dec.sub_(along * direction);
  }
  squared_gradient_.slice(0, begin, end).copy_(enc.pow(2).sum(1) + dec.pow(2).sum(1));
}

// Completes gradients and losses; what comes after only updates.
void SaeTrainer::FinishGradients() {
  if (gradients_.b_enc.defined()) gradients_.b_enc.copy_(dz_sums_);
  gradients_.b_dec.copy_(errors_.g.slice(0, 0, batch()).sum(0));
  if (trains_decoder_by_gate()) gradients_.b_dec.add_(gate_errors_.g.sum(0));
  if (*spec_.apply_b_dec_to_input) {
    gradients_.b_dec.sub_(torch::mv(state_.W_enc.value.t(), dz_sums_));
  }
  if (traits_.skip) {
    const torch::Tensor g = errors_.g.slice(0, 0, batch());
    at::mm_out(gradients_.W_skip, g.t(), input_);
  }
  double squared = squared_gradient_.sum().item<double>();
  VisitParameters(gradients_, [&](absl::string_view name, const torch::Tensor& g) {
    if (!g.defined() || name == "W_enc" || name == "W_dec") return;
    squared += g.pow(2).sum(torch::kFloat64).item<double>();
  });
  result_.grad_norm = std::sqrt(squared);
  PrepareOptimizer(result_.grad_norm);
}

void SaeTrainer::PrepareOptimizer(double grad_norm) {
  const double t = static_cast<double>(state_.step + 1);
  const double clip = *spec_.clip_norm;
  adam_.beta1 = static_cast<float>(spec_.adam_beta1);
  adam_.beta2 = static_cast<float>(spec_.adam_beta2);
  adam_.one_minus_beta1 = static_cast<float>(1 - spec_.adam_beta1);
  adam_.one_minus_beta2 = static_cast<float>(1 - spec_.adam_beta2);
  adam_.epsilon = static_cast<float>(spec_.adam_epsilon);
  adam_.step_size =
      static_cast<float>(settings_.learning_rate / (1 - std::pow(spec_.adam_beta1, t)));
  adam_.inverse_sqrt_correction =
      static_cast<float>(1 / std::sqrt(1 - std::pow(spec_.adam_beta2, t)));
  adam_.gradient_scale =
      clip > 0 ? static_cast<float>(std::min(1.0, clip / (grad_norm + 1e-6))) : 1.0F;
  adam_.keep = static_cast<float>(1 - settings_.learning_rate * *spec_.weight_decay);
  signum_.momentum = adam_.beta1;
  signum_.step_size = static_cast<float>(settings_.learning_rate);
  signum_.gradient_scale = adam_.gradient_scale;
  signum_.keep = adam_.keep;
}

void SaeTrainer::UpdateRow(Trained& parameter, const torch::Tensor& gradient, int64_t feature) {
  const int64_t d = parameter.value.size(1);
  const int64_t at = feature * d;
  const float* g = has_gradient_[feature] != 0 ? gradient.data_ptr<float>() + at : nullptr;
  float* w = parameter.value.data_ptr<float>() + at;
  float* m = parameter.m.data_ptr<float>() + at;
  if (spec_.optimizer == Optimizer::kSignum) {
    kernels_.signum(signum_, w, m, g, d);
  } else {
    kernels_.adam(adam_, w, m, parameter.v.data_ptr<float>() + at, g, d);
  }
}

void SaeTrainer::UpdateFeatures(int64_t begin, int64_t end) {
  const bool unit_before = spec_.decoder_norm == DecoderNorm::kUnitBeforeStep;
  const bool unit_after = spec_.decoder_norm == DecoderNorm::kUnit;
  if (!loops()) {
    torch::Tensor rows = state_.W_dec.value.slice(0, begin, end);
    const auto normalise = [&] { rows.div_(rows.norm(2, {1}, true) + kNormEpsilon); };
    if (unit_before) normalise();
    UpdateWithOperators(state_.W_enc, gradients_.W_enc, begin, end, settings_.learning_rate);
    UpdateWithOperators(state_.W_dec, gradients_.W_dec, begin, end, settings_.learning_rate);
    if (unit_after) normalise();
    return;
  }
  float* W_dec = state_.W_dec.value.data_ptr<float>();
  ParallelFor(begin, end, 16, [&](int64_t from, int64_t to) {
    for (int64_t f = from; f < to; ++f) {
      float* row = W_dec + f * d_out_;
      const auto normalise = [&] {
        const float norm = std::sqrt(kernels_.dot(row, row, d_out_)) + kNormEpsilon;
        kernels_.scale(1.0F / norm, row, row, d_out_);
      };
      UpdateRow(state_.W_enc, gradients_.W_enc, f);
      if (unit_before) normalise();
      UpdateRow(state_.W_dec, gradients_.W_dec, f);
      if (unit_after) normalise();
    }
  });
}

void SaeTrainer::UpdateWithOperators(Trained& p, const torch::Tensor& gradient, int64_t begin,
                                     int64_t end, double learning_rate) {
  const double ratio = settings_.learning_rate > 0 ? learning_rate / settings_.learning_rate : 0;
  const torch::Tensor g = gradient.slice(0, begin, end) * adam_.gradient_scale;
  torch::Tensor value = p.value.slice(0, begin, end);
  torch::Tensor m = p.m.slice(0, begin, end);
  m.mul_(adam_.beta1).add_(g, adam_.one_minus_beta1);
  if (adam_.keep != 1) value.mul_(adam_.keep);
  if (spec_.optimizer == Optimizer::kSignum) {
    value.sub_(m.sign(), learning_rate);
    return;
  }
  torch::Tensor v = p.v.slice(0, begin, end);
  v.mul_(adam_.beta2).addcmul_(g, g, adam_.one_minus_beta2);
  value.addcdiv_(m, v.sqrt().mul_(adam_.inverse_sqrt_correction).add_(adam_.epsilon),
                 -adam_.step_size * ratio);
}

void SaeTrainer::FinishStep() {
  if (!result_.finite()) return;
  DrawForResampling();  // while b_dec is what it was
  VisitParameters(state_, gradients_, [&](absl::string_view name, Trained& p, torch::Tensor& g) {
    if (!p.value.defined() || name == "W_enc" || name == "W_dec") return;
    const double rate =
        name == "threshold" ? settings_.threshold_learning_rate : settings_.learning_rate;
    UpdateWithOperators(p, g, 0, p.value.size(0), rate);
  });
  if (state_.threshold.value.defined() && spec_.clamp_threshold) {
    state_.threshold.value.clamp_min_(0);
  }
  if (traits_.topk_family()) TrackThreshold();
  result_.resampled = resampler_.ResampleIfDue(state_.step, &state_);
  ++state_.step;
}

void SaeTrainer::DrawForResampling() {
  if (!resampler_.Draws(state_.step)) return;
  const torch::Tensor x = *spec_.apply_b_dec_to_input ? input_ + state_.b_dec.value : input_;
  resampler_.Draw(state_.step, x, errors_.sums.select(1, kSquaredError), &state_);
}

// The objective reports the step's smallest kept activation as the threshold.
void SaeTrainer::TrackThreshold() {
  state_.last_minimum = result_.threshold;
  double& tracked = state_.kept_threshold;
  if (state_.step > *spec_.threshold_start_step ||
      (spec_.threshold_from_zero && state_.step >= *spec_.threshold_start_step)) {
    if (tracked < 0) tracked = spec_.threshold_from_zero ? 0 : state_.last_minimum;
    tracked = spec_.threshold_beta * tracked + (1 - spec_.threshold_beta) * state_.last_minimum;
  }
  result_.threshold = tracked;
}

}  // namespace featurescope
