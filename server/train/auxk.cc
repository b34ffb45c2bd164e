#include "server/train/auxk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

// With fewer dead features than this for each one that is kept, plain products are faster.
constexpr int64_t kDenseBelow = 6;

// Candidates beyond k_aux, for those that fire after all.
int64_t Slack(int64_t k_aux) { return std::max<int64_t>(k_aux / 8, 16); }

}  // namespace

void AuxK::Begin(const torch::Tensor& decoder_norms) {
  decoder_norms_ = decoder_norms;
  parts_.clear();
  candidates_ = SparseRows();
  candidate_bias_ = torch::Tensor();
  dead_ = torch::Tensor();
  squared_sum_ = 0;
  weight_ = 0;
  const torch::Tensor& b_enc = state_.b_enc.value;
  if (*spec_.auxk_coefficient == 0 || !spec_.auxk_relu || !UsesLoops(b_enc)) return;
  const torch::Tensor lives = state_.tokens_since_fired.lt(
      static_cast<int64_t>(spec_.dead_after_tokens) - spec_.batch_size);
  const int64_t n_maybe = spec_.d_sae - lives.sum().item<int64_t>();
  if (n_maybe == 0) return;
  per_row_ = std::min(spec_.k_aux + Slack(spec_.k_aux), n_maybe);
  candidate_bias_ = spec_.select_by_decoder_norm ? b_enc * decoder_norms_ : b_enc;
  candidate_bias_ = candidate_bias_.masked_fill(lives, -std::numeric_limits<float>::infinity());
}

void AuxK::SelectRows(const torch::Tensor& pre) {
  if (candidate_bias_.defined()) parts_.push_back(TopKPositive(pre, per_row_, candidate_bias_));
}

// 1 / scale.
double AuxK::Weight(const torch::Tensor& sum_g) const {
  const auto n = static_cast<double>(spec_.batch_size);
  double scale = n;
  switch (spec_.auxk_scale) {
    case AuxKScale::kTokens:
      break;
    case AuxKScale::kTokensAndWidth:
      scale = n * static_cast<double>(state_.d_out());
      break;
    case AuxKScale::kTotalVariance:
      scale = batch_.total_variance;
      break;
    case AuxKScale::kResidualVariance: {
      const double sum_e = sum_g.pow(2).sum().item<double>() / std::pow(batch_.error_scale, 2);
      scale = batch_.squared_error - sum_e / n;
      break;
    }
  }
  if (!(scale > 0) || !std::isfinite(scale)) return 0;
  const double share = static_cast<double>(n_dead()) / static_cast<double>(spec_.k_aux);
  return (spec_.auxk_by_dead_share ? std::min(share, 1.0) : 1.0) / scale;
}

bool AuxK::Prepare(const Batch& batch, Gradients* gradients) {
  if (*spec_.auxk_coefficient == 0) return false;
  dead_ = state_.tokens_since_fired.ge(static_cast<int64_t>(spec_.dead_after_tokens))
              .nonzero()
              .view({-1});
  if (n_dead() == 0) return false;
  batch_ = batch;
  weight_ = Weight(batch.g.sum(0).to(torch::kFloat64));
  if (!active()) return false;
  k_ = std::min(spec_.k_aux, n_dead());
  dense_ = n_dead() < kDenseBelow * k_;
  if (!parts_.empty()) candidates_ = Concatenate(parts_);
  parts_.clear();
  const torch::Tensor index = dead_.to(batch.x.device());
  gradients->W_enc.index_fill_(0, index, 0);
  gradients->W_dec.index_fill_(0, index, 0);
  W_enc_ = state_.W_enc.value.index_select(0, index);
  b_enc_ = state_.b_enc.value.index_select(0, index);
  W_dec_ = state_.W_dec.value.index_select(0, index);
  dW_enc_ = dense_ ? torch::zeros_like(W_enc_) : torch::Tensor();
  dW_dec_ = dense_ ? torch::zeros_like(W_dec_) : torch::Tensor();
  place_.assign(spec_.d_sae, -1);
  const int64_t* features = dead_.data_ptr<int64_t>();
  for (int64_t i = 0; i < n_dead(); ++i) place_[features[i]] = static_cast<int32_t>(i);
  return true;
}

// The k largest of each row's candidates that are dead, by their places among the dead features.
// *complete is false where a row may lack one.
SparseRows AuxK::RowsOfCandidates(int64_t begin, int64_t end, bool* complete) const {
  const int64_t* offsets = candidates_.row_offsets.data_ptr<int64_t>();
  const int32_t* features = candidates_.indices.data_ptr<int32_t>();
  const float* values = candidates_.values.data_ptr<float>();
  const int64_t n = end - begin;
  SparseRows rows;
  rows.n_cols = n_dead();
  rows.row_offsets = torch::zeros({n + 1}, torch::kInt64);
  rows.indices = torch::empty({n * k_}, torch::kInt32);
  rows.values = torch::empty({n * k_}, torch::kFloat32);
  auto* row_offsets = rows.row_offsets.data_ptr<int64_t>();
  auto* indices = rows.indices.data_ptr<int32_t>();
  auto* kept = rows.values.data_ptr<float>();
  std::vector<float> sorted;
  int64_t at = 0;
  for (int64_t row = begin; row < end; ++row) {
    sorted.clear();
    for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
      if (place_[features[e]] >= 0) sorted.push_back(values[e]);
    }
    const bool all_known = offsets[row + 1] - offsets[row] < per_row_;
    const auto n_known = static_cast<int64_t>(sorted.size());
    if (!all_known && n_known < k_) *complete = false;
    float least = 0;
    int64_t of_least = k_;
    if (n_known > k_) {
      std::nth_element(sorted.begin(), sorted.begin() + (k_ - 1), sorted.end(), std::greater<>());
      least = sorted[k_ - 1];
      of_least -= std::count_if(sorted.begin(), sorted.begin() + k_,
                                [least](float v) { return v > least; });
    }
    for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
      const int32_t place = place_[features[e]];
      if (place < 0 || values[e] < least || (values[e] == least && of_least-- <= 0)) continue;
      indices[at] = place;
      kept[at++] = values[e];
    }
    row_offsets[row - begin + 1] = at;
  }
  rows.indices = rows.indices.slice(0, 0, at);
  rows.values = rows.values.slice(0, 0, at);
  return rows;
}

SparseRows AuxK::RecomputedRows(int64_t begin, int64_t end) const {
  torch::Tensor pre = torch::mm(batch_.x.slice(0, begin, end), W_enc_.t());  // [rows, n_dead]
  torch::Tensor bias = b_enc_;
  if (spec_.select_by_decoder_norm) {
    const torch::Tensor norms = decoder_norms_.index_select(0, dead_.to(pre.device()));
    pre.mul_(norms);
    bias = bias * norms;
  }
  if (spec_.auxk_relu) return TopKPositive(pre, k_, bias);
  // The largest ones, positive or not.
  pre.add_(bias);
  auto [values, columns] = pre.topk(k_, 1, true, false);
  const torch::Tensor order = columns.argsort(1, /*descending=*/false);
  const int64_t n = end - begin;
  return {torch::arange(n + 1, columns.options()) * k_,
          columns.gather(1, order).to(torch::kInt32).view({-1}), values.gather(1, order).view({-1}),
          n_dead()};
}

void AuxK::Rows(int64_t begin, int64_t end, Gradients* gradients, torch::Tensor* dz_sums) {
  bool complete = candidates_.n_rows() > 0;
  SparseRows acts;
  if (complete) acts = RowsOfCandidates(begin, end, &complete);
  if (!complete) acts = RecomputedRows(begin, end);
  if (spec_.select_by_decoder_norm) {
    const torch::Tensor norms = decoder_norms_.index_select(0, dead_.to(acts.device()));
    acts.values = acts.values / norms.index_select(0, acts.indices).clamp_min(1e-30);
  }
  dense_ ? DenseGradients(acts, begin, end, dz_sums)
         : SparseGradients(acts, begin, end, gradients, dz_sums);
}

void AuxK::SparseGradients(const SparseRows& acts, int64_t begin, int64_t end, Gradients* gradients,
                           torch::Tensor* dz_sums) {
  torch::Tensor error = SparseTimesDense(acts, W_dec_);
  error.add_(batch_.g.slice(0, begin, end), 1 / batch_.error_scale);  // e_hat - e
  squared_sum_ += error.pow(2).sum(torch::kFloat64).item<double>();
  error.mul_(2 * *spec_.auxk_coefficient * weight_);
  const torch::Tensor dz = SampledProduct(acts, error, W_dec_);
  // The same entries by their features' own numbers.
  SparseRows global = acts;
  const torch::Tensor features =
      dead_.to(acts.device()).index_select(0, acts.indices.to(torch::kInt64));
  global.indices = features.to(torch::kInt32);
  global.n_cols = spec_.d_sae;
  const ColumnOrder columns = OrderByColumn(global);
  AddTransposedProduct(columns, acts.values, error, gradients->W_dec);
  AddTransposedProduct(columns, dz, batch_.x.slice(0, begin, end), gradients->W_enc);
  dz_sums->index_add_(0, features, dz);
}

void AuxK::DenseGradients(const SparseRows& acts, int64_t begin, int64_t end,
                          torch::Tensor* dz_sums) {
  const torch::Tensor a = acts.ToDense();  // [rows, n_dead]
  torch::Tensor error = torch::mm(a, W_dec_);
  error.add_(batch_.g.slice(0, begin, end), 1 / batch_.error_scale);
  squared_sum_ += error.pow(2).sum(torch::kFloat64).item<double>();
  error.mul_(2 * *spec_.auxk_coefficient * weight_);
  const torch::Tensor dz = torch::mm(error, W_dec_.t()).mul_(a.ne(0));
  dW_dec_.addmm_(a.t(), error);
  dW_enc_.addmm_(dz.t(), batch_.x.slice(0, begin, end));
  dz_sums->index_add_(0, dead_.to(dz.device()), dz.sum(0));
}

void AuxK::Finish(Gradients* gradients) {
  if (!dense_) return;
  const torch::Tensor index = dead_.to(dW_dec_.device());
  gradients->W_dec.index_copy_(0, index, dW_dec_);
  gradients->W_enc.index_copy_(0, index, dW_enc_);
}

}  // namespace featurescope
