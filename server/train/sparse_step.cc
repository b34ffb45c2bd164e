// The sparse path of a step: what is dense here is only the encoder's product.
#include <algorithm>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_ops.h"
#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

// hidden_pre = xc W_enc + b_enc of some rows, and of it the active features.
void SaeTrainer::EncodeRows(int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  torch::Tensor pre = scratch_.slice(0, 0, n * d_sae_).view({n, d_sae_});
  at::mm_out(pre, xc_.slice(0, begin, end), state_.W_enc.value.t());
  parts_.push_back(topk() ? TopKPositive(pre, spec_.k, state_.b_enc.value)
                          : PositiveEntries(pre, state_.b_enc.value));
}

void SaeTrainer::OrderEntries() {
  acts_ = Concatenate(parts_);
  parts_.clear();
  columns_ = OrderByColumn(acts_);
  active_ = acts_.nnz();
  dz_ = torch::empty_like(acts_.values);
  const torch::Tensor fired = columns_.column_offsets.diff().gt(0).cpu();
  CountFired(fired);
}

// Per row, while the rows of W_dec that it uses are in cache:
//   g  = 2/n (x_hat - x)
//   dz = W_dec g (+ l1/n |W_dec_f|) at the active features
void SaeTrainer::DecodeRows(int64_t begin, int64_t end) {
  const int64_t* offsets = acts_.row_offsets.data_ptr<int64_t>();
  const int32_t* indices = acts_.indices.data_ptr<int32_t>();
  const float* values = acts_.values.data_ptr<float>();
  const float* W = state_.W_dec.value.data_ptr<float>();
  const float* xc = xc_.data_ptr<float>();
  const float* norms = decoder_norms_.data_ptr<float>();
  auto* g = g_.data_ptr<float>();
  auto* dz = dz_.data_ptr<float>();
  auto* sums = row_sums_.data_ptr<double>();
  auto* sum_g = group_sum_g_.data_ptr<float>();
  auto* sum_x = group_sum_x_.data_ptr<float>();
  const int64_t d = d_in_;
  const auto n = static_cast<float>(batch());
  const auto l1 = static_cast<float>(l1_coefficient_) / n;
  const bool penalised = !topk();
  const auto one_row = [&](int64_t row) {
    const int64_t first = offsets[row];
    const int64_t count = offsets[row + 1] - first;
    const float* x_row = xc + row * d;
    float* g_row = g + row * d;
    kernels_.scale(-1.0F, x_row, g_row, d);
    kernels_.add_weighted_rows(W, d, indices + first, values + first, count, g_row);
    sums[row * kRowSums + kSquaredError] = kernels_.dot(g_row, g_row, d);
    sums[row * kRowSums + kSquaredInput] = kernels_.dot(x_row, x_row, d);
    kernels_.scale(2.0F / n, g_row, g_row, d);
    kernels_.row_dots(W, d, indices + first, count, g_row, dz + first);
    if (penalised) {
      double sum = 0;
      for (int64_t i = first; i < first + count; ++i) {
        sum += values[i] * norms[indices[i]];
        dz[i] += l1 * norms[indices[i]];
      }
      sums[row * kRowSums + kL1] = sum;
    }
    kernels_.axpy(1.0F, g_row, sum_g + row / kRowGroup * d, d);
    kernels_.axpy(1.0F, x_row, sum_x + row / kRowGroup * d, d);
  };
  ParallelFor(begin / kRowGroup, RowGroups(end), 1, [&](int64_t from, int64_t to) {
    for (int64_t row = from * kRowGroup; row < std::min(to * kRowGroup, end); ++row) one_row(row);
  });
}

void SaeTrainer::DecodeRowsWithOperators(int64_t begin, int64_t /*end*/) {
  if (begin != 0) return;  // all rows at once
  const double n = static_cast<double>(batch());
  g_.copy_(SparseTimesDense(acts_, state_.W_dec.value)).sub_(xc_);
  row_sums_.select(1, kSquaredError).copy_(g_.pow(2).sum(1));
  row_sums_.select(1, kSquaredInput).copy_(xc_.pow(2).sum(1));
  g_.mul_(2 / n);
  dz_ = SampledProduct(acts_, g_, state_.W_dec.value);
  if (!topk()) {
    const torch::Tensor norms = decoder_norms_.index_select(0, acts_.indices);
    dz_.add_(norms, l1_coefficient_ / n);
    SparseRows weighted = acts_;
    weighted.values = acts_.values * norms;
    const torch::Tensor ones = torch::ones({d_sae_, 1}, norms.options());
    row_sums_.select(1, kL1).copy_(SparseTimesDense(weighted, ones).select(1, 0));
  }
  group_sum_g_[0].copy_(g_.sum(0));
  group_sum_x_[0].copy_(xc_.sum(0));
}

// Per feature: dW_dec = acts^T g, dW_enc = dz^T xc, db_enc = sum dz, over the rows where it fired.
void SaeTrainer::WeightGradients(int64_t begin, int64_t end) {
  const int64_t* offsets = columns_.column_offsets.data_ptr<int64_t>();
  const int32_t* rows = columns_.rows.data_ptr<int32_t>();
  const int64_t* entries = columns_.entries.data_ptr<int64_t>();
  const float* values = acts_.values.data_ptr<float>();
  const float* dz = dz_.data_ptr<float>();
  const float* g = g_.data_ptr<float>();
  const float* xc = xc_.data_ptr<float>();
  const float* norms = decoder_norms_.data_ptr<float>();
  const float* W_dec = state_.W_dec.value.data_ptr<float>();
  auto* dW_enc = W_enc_gradient_.data_ptr<float>();
  auto* dW_dec = W_dec_gradient_.data_ptr<float>();
  auto* db_enc = b_enc_gradient_.data_ptr<float>();
  auto* squared = squared_gradient_.data_ptr<double>();
  const int64_t d = d_in_;
  const float l1 = static_cast<float>(l1_coefficient_) / static_cast<float>(batch());
  ParallelFor(begin, end, 32, [&](int64_t from, int64_t to) {
    std::vector<float> weights;
    for (int64_t f = from; f < to; ++f) {
      const int64_t first = offsets[f];
      const int64_t count = offsets[f + 1] - first;
      float* enc = dW_enc + f * d;
      float* dec = dW_dec + f * d;
      if (count > 0) {
        has_gradient_[f] = 1;
        weights.resize(count);
        double value_sum = 0;
        for (int64_t i = 0; i < count; ++i) value_sum += weights[i] = values[entries[first + i]];
        const bool penalised = !topk() && norms[f] > 0;
        kernels_.scale(penalised ? l1 * static_cast<float>(value_sum) / norms[f] : 0.0F,
                       W_dec + f * d, dec, d);
        kernels_.add_weighted_rows(g, d, rows + first, weights.data(), count, dec);
        double dz_sum = 0;
        for (int64_t i = 0; i < count; ++i) dz_sum += weights[i] = dz[entries[first + i]];
        std::fill(enc, enc + d, 0.0F);
        kernels_.add_weighted_rows(xc, d, rows + first, weights.data(), count, enc);
        db_enc[f] = static_cast<float>(dz_sum);
      }
      if (has_gradient_[f] == 0) continue;
      squared[f] = ProjectAndMeasure(f, dec) + kernels_.dot(enc, enc, d) + db_enc[f] * db_enc[f];
    }
  });
}

void SaeTrainer::WeightGradientsWithOperators(int64_t begin, int64_t /*end*/) {
  if (begin != 0) return;  // all features at once
  const torch::Tensor& W_dec = state_.W_dec.value;
  // Rows of dead features hold AuxK's gradient already.
  torch::Tensor keep = torch::zeros({d_sae_, 1}, W_dec.options());
  if (dead_.defined()) keep.index_fill_(0, dead_.to(keep.device()), 1);
  const torch::Tensor clear = keep.eq(0);
  W_enc_gradient_.masked_fill_(clear, 0);
  W_dec_gradient_.masked_fill_(clear, 0);
  std::fill(has_gradient_.begin(), has_gradient_.end(), 1);
  AddTransposedProduct(columns_, acts_.values, g_, W_dec_gradient_);
  AddTransposedProduct(columns_, dz_, xc_, W_enc_gradient_);
  const torch::Tensor columns = acts_.indices.to(torch::kInt64);
  b_enc_gradient_.index_add_(0, columns, dz_);
  if (topk()) {
    const torch::Tensor norms = W_dec.norm(2, {1}, /*keepdim=*/true) + kNormEpsilon;
    const torch::Tensor direction = W_dec / norms;
    const torch::Tensor along = (W_dec_gradient_ * direction).sum(1, /*keepdim=*/true);
    W_dec_gradient_.sub_(along * direction);
  } else {
    torch::Tensor value_sums = torch::zeros({d_sae_}, W_dec.options());
    value_sums.index_add_(0, columns, acts_.values);
    const double l1 = l1_coefficient_ / static_cast<double>(batch());
    const torch::Tensor factor =
        (value_sums * l1 / decoder_norms_).masked_fill(decoder_norms_ == 0, 0);
    W_dec_gradient_.add_(W_dec * factor.unsqueeze(1));
  }
  squared_gradient_.copy_(W_enc_gradient_.pow(2).sum(1) + W_dec_gradient_.pow(2).sum(1) +
                          b_enc_gradient_.pow(2));
}

}  // namespace featurescope
