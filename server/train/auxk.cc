#include "server/train/auxk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_decoder.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

// With fewer dead features than this for each one that is kept, plain products are faster.
constexpr int64_t kDenseBelow = 6;

// With fewer features that may be dead than one in this many, they are picked out of the rows
// before the largest are selected.
constexpr int64_t kFewOf = 8;

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
  const torch::Tensor maybe = state_.tokens_since_fired.ge(
      static_cast<int64_t>(spec_.dead_after_tokens) - spec_.batch_size);
  maybe_ = maybe.nonzero().view({-1});
  if (maybe_.numel() == 0) return;
  per_row_ = std::min(spec_.k_aux + Slack(spec_.k_aux), maybe_.numel());
  candidate_bias_ = spec_.select_by_decoder_norm ? b_enc * decoder_norms_ : b_enc;
  few_ = maybe_.numel() * kFewOf < spec_.d_sae;
  candidate_bias_ = few_ ? candidate_bias_.index_select(0, maybe_)
                         : candidate_bias_.masked_fill(maybe.logical_not(),
                                                       -std::numeric_limits<float>::infinity());
}

void AuxK::SelectRows(const torch::Tensor& pre) {
  if (!candidate_bias_.defined()) return;
  if (!few_) {
    parts_.push_back(TopKPositive(pre, per_row_, candidate_bias_));
    return;
  }
  SparseRows part = TopKPositive(pre.index_select(1, maybe_), per_row_, candidate_bias_);
  part.indices = maybe_.index_select(0, part.indices).to(torch::kInt32);
  part.n_cols = spec_.d_sae;
  parts_.push_back(std::move(part));
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

// The k largest of a row's candidates that are dead, by their places among the dead features, to
// `indices` and `values`; returns how many. -1 where the row may lack one.
int64_t AuxK::RowOfCandidates(int64_t row, std::vector<float>* buffer, int32_t* indices,
                              float* values) const {
  const int64_t* offsets = candidates_.row_offsets.data_ptr<int64_t>();
  const int32_t* features = candidates_.indices.data_ptr<int32_t>();
  const float* candidates = candidates_.values.data_ptr<float>();
  std::vector<float>& of_dead = *buffer;
  of_dead.clear();
  for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
    if (place_[features[e]] >= 0) of_dead.push_back(candidates[e]);
  }
  const auto n = static_cast<int64_t>(of_dead.size());
  const bool all_known = offsets[row + 1] - offsets[row] < per_row_;
  if (!all_known && n < k_) return -1;
  float least = 0;
  int64_t of_least = k_;
  if (n > k_) {
    std::nth_element(of_dead.begin(), of_dead.begin() + (k_ - 1), of_dead.end(), std::greater<>());
    least = of_dead[k_ - 1];
    of_least -= std::count_if(of_dead.begin(), of_dead.begin() + k_,
                              [least](float v) { return v > least; });
  }
  int64_t at = 0;
  for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
    const int32_t place = place_[features[e]];
    if (place < 0 || candidates[e] < least || (candidates[e] == least && of_least-- <= 0)) continue;
    indices[at] = place;
    values[at++] = candidates[e];
  }
  return at;
}

// Of rows [begin, end); *complete is false where one may lack an entry.
SparseRows AuxK::RowsOfCandidates(int64_t begin, int64_t end, bool* complete) const {
  const int64_t n = end - begin;
  SparseRows rows;
  rows.n_cols = n_dead();
  rows.row_offsets = torch::zeros({n + 1}, torch::kInt64);
  rows.indices = torch::empty({n * k_}, torch::kInt32);
  rows.values = torch::empty({n * k_}, torch::kFloat32);
  auto* offsets = rows.row_offsets.data_ptr<int64_t>();
  auto* indices = rows.indices.data_ptr<int32_t>();
  auto* values = rows.values.data_ptr<float>();
  ParallelFor(0, n, 8, [&](int64_t from, int64_t to) {
    std::vector<float> buffer;
    for (int64_t i = from; i < to; ++i) {
      offsets[i + 1] = RowOfCandidates(begin + i, &buffer, indices + i * k_, values + i * k_);
    }
  });
  for (int64_t i = 0; i < n; ++i) {
    const int64_t count = offsets[i + 1];
    if (count < 0) {
      *complete = false;
      return {};
    }
    std::copy(indices + i * k_, indices + i * k_ + count, indices + offsets[i]);
    std::copy(values + i * k_, values + i * k_ + count, values + offsets[i]);
    offsets[i + 1] = offsets[i] + count;
  }
  rows.indices = rows.indices.slice(0, 0, offsets[n]);
  rows.values = rows.values.slice(0, 0, offsets[n]);
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
  const torch::Tensor e = batch_.g.slice(0, begin, end) * (-1 / batch_.error_scale);
  NestedDecoder decoder;
  decoder.W = W_dec_;
  decoder.group_ends = {n_dead()};
  decoder.weights = {*spec_.auxk_coefficient * weight_};
  DecoderErrors errors;
  errors.g = torch::empty_like(e);
  errors.sums = torch::empty({end - begin, kDecoderSums}, e.options().dtype(torch::kFloat64));
  errors.dots = torch::empty_like(acts.values);
  DecodeErrors(decoder, acts, e, torch::zeros({e.size(1)}, e.options()), 0, end - begin, &errors);
  squared_sum_ += errors.sums.select(1, kSquaredError).sum().item<double>();
  // The same entries by their features' own numbers.
  SparseRows global = acts;
  const torch::Tensor features =
      dead_.to(acts.device()).index_select(0, acts.indices.to(torch::kInt64));
  global.indices = features.to(torch::kInt32);
  global.n_cols = spec_.d_sae;
  const ColumnOrder columns = OrderByColumn(global);
  AddTransposedProduct(columns, acts.values, errors.g, gradients->W_dec);
  AddTransposedProduct(columns, errors.dots, batch_.x.slice(0, begin, end), gradients->W_enc);
  AddColumnSums(columns, errors.dots, *dz_sums);
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
