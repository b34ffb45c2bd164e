// AuxK: dead features are trained to explain what the living ones left over.
//
//   e     = x - x_hat, taken as constant
//   e_hat = a W_dec, a = the k_aux largest positive pre-activations among dead features
//   auxk  = |e - e_hat|^2 / |e - mean(e)|^2     (sums over the batch)
//
// No bias in e_hat: b_dec is in x_hat already. A dead feature does not fire in this step, so its
// gradient comes from here alone.
//
// Source: Gao et al. 2024, arXiv:2406.04093, section A.2; dictionary_learning, trainers/top_k.py.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/tensor/sparse_ops.h"
#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

void SaeTrainer::PrepareAuxK() {
  if (!topk() || *spec_.auxk_coefficient == 0) return;
  const torch::Tensor dead =
      state_.tokens_since_fired.ge(static_cast<int64_t>(spec_.dead_after_tokens))
          .nonzero()
          .view({-1});
  if (dead.numel() == 0) return;
  // e = -n/2 g, so the mean of e is minus half the sum of g.
  const double mean_squared = group_sum_g_.sum(0).pow(2).sum().item<double>() / 4;
  auxk_variance_ = RowTotal(kSquaredError) - static_cast<double>(batch()) * mean_squared;
  if (!(auxk_variance_ > 0) || !std::isfinite(auxk_variance_)) return;
  dead_ = dead.to(xc_.device());
  dead_W_enc_ = state_.W_enc.value.index_select(0, dead_);
  dead_b_enc_ = state_.b_enc.value.index_select(0, dead_);
  W_enc_gradient_.index_fill_(0, dead_, 0);
  W_dec_gradient_.index_fill_(0, dead_, 0);
  const int64_t* features = dead.data_ptr<int64_t>();
  for (int64_t i = 0; i < dead.numel(); ++i) has_gradient_[features[i]] = 1;
}

void SaeTrainer::AuxKRows(int64_t begin, int64_t end) {
  const int64_t n_dead = dead_.numel();
  const torch::Tensor x = xc_.slice(0, begin, end);
  const torch::Tensor pre = torch::mm(x, dead_W_enc_.t());  // [rows, n_dead]
  SparseRows acts = TopKPositive(pre, std::min(spec_.k_aux, n_dead), dead_b_enc_);
  const torch::Tensor features = dead_.index_select(0, acts.indices);  // int64 [nnz]
  acts.indices = features.to(torch::kInt32);
  acts.n_cols = d_sae_;
  torch::Tensor error = SparseTimesDense(acts, state_.W_dec.value);
  error.add_(g_.slice(0, begin, end), static_cast<double>(batch()) / 2);  // e_hat - e
  auxk_sum_ += error.pow(2).sum(torch::kFloat64).item<double>();
  error.mul_(2 * *spec_.auxk_coefficient / auxk_variance_);
  const torch::Tensor dz = SampledProduct(acts, error, state_.W_dec.value);
  const ColumnOrder columns = OrderByColumn(acts);
  AddTransposedProduct(columns, acts.values, error, W_dec_gradient_);
  AddTransposedProduct(columns, dz, x, W_enc_gradient_);
  b_enc_gradient_.index_add_(0, features, dz);
}

}  // namespace featurescope
