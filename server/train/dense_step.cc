// The dense path of a step, for a standard SAE while many of its features fire: plain products over
// blocks of rows, whose gradients add up.
#include <algorithm>

#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

void SaeTrainer::DenseRows(int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  const double total = static_cast<double>(batch());
  const double l1 = l1_coefficient_ / total;
  if (!scratch2_.defined()) scratch2_ = torch::empty_like(scratch_);
  const torch::Tensor x = xc_.slice(0, begin, end);
  torch::Tensor g = g_.slice(0, begin, end);
  torch::Tensor acts = scratch_.slice(0, 0, n * d_sae_).view({n, d_sae_});
  torch::Tensor dz = scratch2_.slice(0, 0, n * d_sae_).view({n, d_sae_});
  at::mm_out(acts, x, state_.W_enc.value.t());
  acts.add_(state_.b_enc.value).relu_();
  at::mm_out(g, acts, state_.W_dec.value);
  g.sub_(x);
  torch::Tensor sums = row_sums_.slice(0, begin, end);
  sums.select(1, kSquaredError).copy_(g.pow(2).sum(1));
  sums.select(1, kSquaredInput).copy_(x.pow(2).sum(1));
  sums.select(1, kL1).copy_(torch::mv(acts, decoder_norms_));
  g.mul_(2 / total);
  at::mm_out(dz, g, state_.W_dec.value.t());
  const torch::Tensor fires = acts.gt(0);
  dz.add_(decoder_norms_, l1).mul_(fires);
  // squared_gradient_ is free until the weights' gradients are complete: it counts who fired.
  squared_gradient_.add_(fires.sum(0));
  activation_sums_.add_(acts.sum(0));
  const double keep = begin == 0 ? 0 : 1;
  W_dec_gradient_.addmm_(acts.t(), g, keep, 1);
  W_enc_gradient_.addmm_(dz.t(), x, keep, 1);
  b_enc_gradient_.add_(dz.sum(0));
  const int64_t group = begin / kRowGroup;
  group_sum_g_[group].add_(g.sum(0));
  group_sum_x_[group].add_(x.sum(0));
}

void SaeTrainer::DenseWeightGradients(int64_t begin, int64_t end) {
  if (begin == 0) {
    active_ = static_cast<int64_t>(squared_gradient_.sum().item<double>());
    CountFired(squared_gradient_.gt(0).cpu());
    std::fill(has_gradient_.begin(), has_gradient_.end(), 1);
  }
  // The penalty's gradient by W_dec, which goes through the norms.
  const torch::Tensor norms = decoder_norms_.slice(0, begin, end);
  const double l1 = l1_coefficient_ / static_cast<double>(batch());
  const torch::Tensor factor =
      (activation_sums_.slice(0, begin, end) * l1 / norms).masked_fill_(norms == 0, 0);
  W_dec_gradient_.slice(0, begin, end)
      .addcmul_(state_.W_dec.value.slice(0, begin, end), factor.unsqueeze(1));
  const auto squares = [&](const torch::Tensor& gradient) {
    return gradient.slice(0, begin, end).pow(2).sum(1);
  };
  squared_gradient_.slice(0, begin, end)
      .copy_(squares(W_enc_gradient_) + squares(W_dec_gradient_) +
             b_enc_gradient_.slice(0, begin, end).pow(2));
}

}  // namespace featurescope
