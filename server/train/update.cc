// The second half of a step: gradient norm and clipping, Adam, decoder rows of unit norm.
#include <cmath>

#include "server/tensor/parallel.h"
#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

void SaeTrainer::DecoderNorms(int64_t begin, int64_t end) {
  torch::Tensor norms = decoder_norms_.slice(0, begin, end);
  at::norm_out(norms, state_.W_dec.value.slice(0, begin, end), 2, {1});
}

double SaeTrainer::ProjectAndMeasure(int64_t feature, float* gradient) const {
  if (unit_decoder()) {
    const float* w = state_.W_dec.value.data_ptr<float>() + feature * d_in_;
    const float norm = std::sqrt(kernels_.dot(w, w, d_in_)) + kNormEpsilon;
    const float along = kernels_.dot(gradient, w, d_in_) / (norm * norm);
    kernels_.axpy(-along, w, gradient, d_in_);
  }
  return kernels_.dot(gradient, gradient, d_in_);
}

// Completes gradients and losses; what comes after only updates.
void SaeTrainer::ClipGradient() {
  const double n = static_cast<double>(batch());
  // b_dec is added to x_hat and taken off x.
  b_dec_gradient_.copy_(group_sum_g_.sum(0));
  b_dec_gradient_.sub_(torch::mv(state_.W_enc.value.t(), b_enc_gradient_));
  const double squared = squared_gradient_.sum().item<double>() +
                         b_dec_gradient_.pow(2).sum(torch::kFloat64).item<double>();
  result_.grad_norm = std::sqrt(squared);
  const double sum_squared = group_sum_x_.sum(0).pow(2).sum(torch::kFloat64).item<double>();
  result_.mse = RowTotal(kSquaredError) / n;
  result_.total_variance = RowTotal(kSquaredInput) / n - sum_squared / (n * n);
  result_.l1_loss = RowTotal(kL1) / n;
  result_.auxk_loss = auxk_variance_ > 0 ? auxk_sum_ / auxk_variance_ : 0;
  result_.loss = result_.mse + (topk() ? *spec_.auxk_coefficient * result_.auxk_loss
                                       : l1_coefficient_ * result_.l1_loss);
  const double t = static_cast<double>(state_.step + 1);
  const double clip = *spec_.clip_norm;
  adam_.beta1 = static_cast<float>(spec_.adam_beta1);
  adam_.beta2 = static_cast<float>(spec_.adam_beta2);
  adam_.one_minus_beta1 = static_cast<float>(1 - spec_.adam_beta1);
  adam_.one_minus_beta2 = static_cast<float>(1 - spec_.adam_beta2);
  adam_.epsilon = static_cast<float>(spec_.adam_epsilon);
  adam_.step_size = static_cast<float>(learning_rate_ / (1 - std::pow(spec_.adam_beta1, t)));
  adam_.inverse_sqrt_correction =
      static_cast<float>(1 / std::sqrt(1 - std::pow(spec_.adam_beta2, t)));
  adam_.gradient_scale =
      clip > 0 ? static_cast<float>(std::min(1.0, clip / (result_.grad_norm + 1e-6))) : 1.0F;
}

void SaeTrainer::UpdateFeatures(int64_t begin, int64_t end) {
  const auto data = [](torch::Tensor& tensor) { return tensor.data_ptr<float>(); };
  float* enc = data(state_.W_enc.value);
  float* enc_m = data(state_.W_enc.m);
  float* enc_v = data(state_.W_enc.v);
  float* dec = data(state_.W_dec.value);
  float* dec_m = data(state_.W_dec.m);
  float* dec_v = data(state_.W_dec.v);
  const float* enc_gradient = data(W_enc_gradient_);
  const float* dec_gradient = data(W_dec_gradient_);
  const int64_t d = d_in_;
  ParallelFor(begin, end, 16, [&](int64_t from, int64_t to) {
    for (int64_t f = from; f < to; ++f) {
      const int64_t at = f * d;
      const bool has = has_gradient_[f] != 0;
      kernels_.adam(adam_, enc + at, enc_m + at, enc_v + at, has ? enc_gradient + at : nullptr, d);
      kernels_.adam(adam_, dec + at, dec_m + at, dec_v + at, has ? dec_gradient + at : nullptr, d);
      if (!unit_decoder()) continue;
      float* row = dec + at;
      kernels_.scale(1.0F / (std::sqrt(kernels_.dot(row, row, d)) + kNormEpsilon), row, row, d);
    }
  });
}

namespace {

void AdamWithOperators(const AdamStep& adam, Trained& p, const torch::Tensor& gradient,
                       int64_t begin, int64_t end) {
  const torch::Tensor g = gradient.slice(0, begin, end) * adam.gradient_scale;
  torch::Tensor m = p.m.slice(0, begin, end);
  torch::Tensor v = p.v.slice(0, begin, end);
  m.mul_(adam.beta1).add_(g, adam.one_minus_beta1);
  v.mul_(adam.beta2).addcmul_(g, g, adam.one_minus_beta2);
  p.value.slice(0, begin, end)
      .addcdiv_(m, v.sqrt().mul_(adam.inverse_sqrt_correction).add_(adam.epsilon), -adam.step_size);
}

}  // namespace

void SaeTrainer::UpdateFeaturesWithOperators(int64_t begin, int64_t end) {
  AdamWithOperators(adam_, state_.W_enc, W_enc_gradient_, begin, end);
  AdamWithOperators(adam_, state_.W_dec, W_dec_gradient_, begin, end);
  if (!unit_decoder()) return;
  torch::Tensor rows = state_.W_dec.value.slice(0, begin, end);
  rows.div_(rows.norm(2, {1}, /*keepdim=*/true) + kNormEpsilon);
}

void SaeTrainer::UpdateBiases() {
  AdamWithOperators(adam_, state_.b_enc, b_enc_gradient_, 0, d_sae_);
  AdamWithOperators(adam_, state_.b_dec, b_dec_gradient_, 0, d_in_);
}

}  // namespace featurescope
