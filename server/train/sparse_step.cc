// The sparse path of a step: what is dense here is only the encoder's product.
#include <algorithm>

#include "absl/time/clock.h"
#include "server/tensor/parallel.h"
#include "server/tensor/sparse_ops.h"
#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

void SaeTrainer::SelectRows(int64_t begin, int64_t end) {
  const absl::Time start = absl::Now();
  torch::Tensor pre = Product(begin, end);
  product_time_ += absl::Now() - start;
  objective_->SelectRows(pre);
  if (traits_.topk_family() && !evaluating_) auxk_.SelectRows(pre);
}

bool SaeTrainer::MustSelectAgain() {
  if (!objective_->MustSelectAgain()) return false;
  if (traits_.topk_family()) auxk_.ForgetRows();
  return true;
}

void SaeTrainer::OrderUnits() {
  acts_ = objective_->TakeSelected();
  columns_ = OrderByColumn(acts_);
  gradient_rows_ = GradientRows(columns_, decoder_.group_ends, batch());
  units_ = Units();
  units_.z = acts_.values;
  units_.features = acts_.indices;
  units_.columns = &columns_;
  objective_->Activate(units_);
  acts_.values = units_.acts;
  errors_.dots = torch::empty_like(acts_.values);
  if (objective_->has_gate()) {
    gate_acts_ = acts_;
    gate_acts_.values = units_.gate_acts;
    gate_errors_.dots = torch::empty_like(acts_.values);
  }
}

void SaeTrainer::CountUnits() {
  selected_ = acts_.nnz();
  if (traits_.topk_family() && spec_.fired_above == 0) {  // every unit fires
    active_ = acts_.nnz();
    fired_.copy_(columns_.column_offsets.diff());
  } else {
    active_ = acts_.values.ne(0).sum().item<int64_t>();
    units_.AddSums(acts_.values.gt(spec_.fired_above).to(torch::kFloat32), fired_);
  }
}

void SaeTrainer::DecodeRows(int64_t begin, int64_t end) {
  const torch::Tensor& b_dec = state_.b_dec.value;
  DecodeErrors(decoder_, acts_, target_, b_dec, begin, end, &errors_);
  if (objective_->has_gate()) {
    DecodeErrors(decoder_, gate_acts_, target_, b_dec, begin, end, &gate_errors_);
  }
}

void SaeTrainer::FeatureGradients() {
  units_.dots = errors_.dots;
  units_.gate_dots = gate_errors_.dots;
  objective_->Backward(units_, gradients_);
}

bool SaeTrainer::PrepareAuxK() {
  if (!traits_.topk_family()) return false;
  AuxK::Batch batch_of;
  const int64_t last = decoder_.n_groups() - 1;
  batch_of.x = input_;
  batch_of.g = errors_.g.slice(0, last * batch(), (last + 1) * batch());
  batch_of.error_scale = 2 * decoder_.weights[last];
  batch_of.squared_error = DecoderSum(errors_, kSquaredError);
  batch_of.total_variance = total_variance_;
  if (!auxk_.Prepare(batch_of, &gradients_)) return false;
  const int64_t* dead = auxk_.dead().data_ptr<int64_t>();
  for (int64_t i = 0; i < auxk_.n_dead(); ++i) has_gradient_[dead[i]] = 1;
  return true;
}

// Per feature: dW_dec = acts^T g, over the rows of its units.
void SaeTrainer::DecoderGradients(int64_t begin, int64_t end) {
  auto* squared = squared_gradient_.data_ptr<double>();
  ParallelFor(begin, end, 32, [&](int64_t from, int64_t to) {
    std::vector<float> weights;
    for (int64_t f = from; f < to; ++f) {
      if (HasUnits(f)) DecoderGradientOf(f, &weights);
      if (!HasUnits(f) && has_gradient_[f] == 0) continue;
      squared[f] = ProjectAndMeasure(f, gradients_.W_dec.data_ptr<float>() + f * d_out_);
    }
  });
}

// Per feature: dW_enc = dz^T x and db_enc = sum dz, over the same rows.
void SaeTrainer::EncoderGradients(int64_t begin, int64_t end) {
  auto* squared = squared_gradient_.data_ptr<double>();
  ParallelFor(begin, end, 32, [&](int64_t from, int64_t to) {
    std::vector<float> weights;
    for (int64_t f = from; f < to; ++f) {
      if (HasUnits(f)) EncoderGradientOf(f, &weights);
      if (has_gradient_[f] == 0) continue;
      const float* enc = gradients_.W_enc.data_ptr<float>() + f * d_in_;
      squared[f] += kernels_.dot(enc, enc, d_in_);
    }
  });
}

bool SaeTrainer::HasUnits(int64_t f) const {
  const int64_t* offsets = columns_.column_offsets.data_ptr<int64_t>();
  const torch::Tensor& uniform = objective_->uniform_dz();
  return offsets[f] < offsets[f + 1] || (uniform.defined() && uniform.data_ptr<float>()[f] != 0);
}

SaeTrainer::FeatureUnits SaeTrainer::UnitsOf(int64_t f) const {
  const int64_t* offsets = columns_.column_offsets.data_ptr<int64_t>();
  const int64_t first = offsets[f];
  return {offsets[f + 1] - first, columns_.entries.data_ptr<int64_t>() + first,
          columns_.rows.data_ptr<int32_t>() + first, gradient_rows_.data_ptr<int32_t>() + first};
}

// The units' entries of `values`, to `weights`; returns their sum.
double SaeTrainer::Gather(const FeatureUnits& units, const torch::Tensor& values,
                          std::vector<float>* weights) {
  weights->resize(units.count);
  const float* of_entry = values.data_ptr<float>();
  double sum = 0;
  for (int64_t i = 0; i < units.count; ++i) {
    sum += (*weights)[i] = of_entry[units.entries[i]];
  }
  return sum;
}

void SaeTrainer::DecoderGradientOf(int64_t f, std::vector<float>* weights) {
  const FeatureUnits units = UnitsOf(f);
  float* dec = gradients_.W_dec.data_ptr<float>() + f * d_out_;
  const torch::Tensor& norm_gradient = objective_->norm_gradient();
  float along = 0;
  if (norm_gradient.defined() && decoder_norms_.data_ptr<float>()[f] > 0) {
    along = norm_gradient.data_ptr<float>()[f] / decoder_norms_.data_ptr<float>()[f];
  }
  const float* W_dec = state_.W_dec.value.data_ptr<float>() + f * d_out_;
  const bool of_auxk = has_gradient_[f] != 0;  // then its rows are not stale
  of_auxk ? kernels_.axpy(along, W_dec, dec, d_out_) : kernels_.scale(along, W_dec, dec, d_out_);
  Gather(units, acts_.values, weights);
  kernels_.add_weighted_rows(errors_.g.data_ptr<float>(), d_out_, units.gradient_rows,
                             weights->data(), units.count, dec);
  if (!trains_decoder_by_gate()) return;
  Gather(units, gate_acts_.values, weights);
  kernels_.add_weighted_rows(gate_errors_.g.data_ptr<float>(), d_out_, units.rows, weights->data(),
                             units.count, dec);
}

void SaeTrainer::EncoderGradientOf(int64_t f, std::vector<float>* weights) {
  const FeatureUnits units = UnitsOf(f);
  float* enc = gradients_.W_enc.data_ptr<float>() + f * d_in_;
  if (has_gradient_[f] == 0) std::fill(enc, enc + d_in_, 0.0F);
  has_gradient_[f] = 1;
  const double dz_sum = Gather(units, units_.dz, weights);
  kernels_.add_weighted_rows(input_.data_ptr<float>(), d_in_, units.rows, weights->data(),
                             units.count, enc);
  dz_sums_.data_ptr<float>()[f] += static_cast<float>(dz_sum);
  const torch::Tensor& uniform = objective_->uniform_dz();
  if (!uniform.defined()) return;
  const float all = uniform.data_ptr<float>()[f];
  kernels_.axpy(all, sum_x_.data_ptr<float>(), enc, d_in_);
  dz_sums_.data_ptr<float>()[f] += all * static_cast<float>(batch());
}

// All features at once.
void SaeTrainer::WeightGradientsWithOperators() {
  const torch::Tensor& W_dec = state_.W_dec.value;
  // Rows of dead features hold AuxK's gradient already.
  torch::Tensor clear = torch::ones({d_sae_, 1}, W_dec.options().dtype(torch::kBool));
  if (traits_.topk_family() && auxk_.n_dead() > 0) {
    clear.index_fill_(0, auxk_.dead().to(clear.device()), false);
  }
  gradients_.W_enc.masked_fill_(clear, 0);
  gradients_.W_dec.masked_fill_(clear, 0);
  std::fill(has_gradient_.begin(), has_gradient_.end(), 1);
  ColumnOrder of_groups = columns_;
  of_groups.rows = gradient_rows_;
  AddTransposedProduct(of_groups, acts_.values, errors_.g, gradients_.W_dec);
  if (trains_decoder_by_gate()) {
    AddTransposedProduct(columns_, gate_acts_.values, gate_errors_.g, gradients_.W_dec);
  }
  AddTransposedProduct(columns_, units_.dz, input_, gradients_.W_enc);
  AddColumnSums(columns_, units_.dz, dz_sums_);
  CompleteWithOperators(0, d_sae_);
}

}  // namespace featurescope
