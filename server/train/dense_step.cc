// The dense path of a step, while many features fire: plain products over blocks of rows, whose
// gradients add up.
#include <algorithm>

#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

// acts W_dec - target and its sums, of rows [begin, end); returns the gradient by acts W_dec.
torch::Tensor SaeTrainer::DenseErrors(const torch::Tensor& acts, int64_t begin, int64_t end,
                                      DecoderErrors* errors) {
  const torch::Tensor t = target_.slice(0, begin, end);
  torch::Tensor r = errors->g.slice(0, begin, end);
  at::mm_out(r, acts, decoder_.W);
  r.sub_(t);
  const torch::Tensor y = t + state_.b_dec.value;
  torch::Tensor sums = errors->sums.slice(0, begin, end);
  sums.select(1, kSquaredError).copy_(r.pow(2).sum(1));
  sums.select(1, kSquaredTarget).copy_(y.pow(2).sum(1));
  sums.select(1, kTargetTimesError).copy_((y * r).sum(1));
  sums.select(1, kWeightedError).copy_(sums.select(1, kSquaredError)).mul_(decoder_.weights[0]);
  return r.mul_(2 * decoder_.weights[0]);
}

void SaeTrainer::DenseRows(int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  const torch::Tensor W_dec_t = decoder_.W.t();
  const auto block_of = [&](torch::Tensor& buffer) {
    if (!buffer.defined()) buffer = torch::empty_like(scratch_);
    return buffer.slice(0, 0, n * d_sae_).view({n, d_sae_});
  };
  Units units;
  units.z = Product(begin, end).add_(objective_->selection_bias());
  objective_->Activate(units);
  selected_ += objective_->CountSelected(units);
  const torch::Tensor g = DenseErrors(units.acts, begin, end, &errors_);
  units.dots = block_of(dots_);
  at::mm_out(units.dots, g, W_dec_t);
  torch::Tensor gate_g;
  if (objective_->has_gate()) {
    gate_g = DenseErrors(units.gate_acts, begin, end, &gate_errors_);
    units.gate_dots = block_of(gate_dots_);
    at::mm_out(units.gate_dots, gate_g, W_dec_t);
  }
  objective_->Backward(units, gradients_);
  const torch::Tensor x = input_.slice(0, begin, end);
  const double keep = begin == 0 ? 0 : 1;
  gradients_.W_dec.addmm_(units.acts.t(), g, keep, 1);
  if (trains_decoder_by_gate()) gradients_.W_dec.addmm_(units.gate_acts.t(), gate_g);
  gradients_.W_enc.addmm_(units.dz.t(), x, keep, 1);
  dz_sums_.add_(units.dz.sum(0));
  fired_.add_(units.acts.gt(spec_.fired_above).sum(0));
  active_ += units.acts.ne(0).sum().item<int64_t>();
  if (end == batch()) CountFired();
}

void SaeTrainer::DenseWeightGradients(int64_t begin, int64_t end) {
  if (begin == 0) std::fill(has_gradient_.begin(), has_gradient_.end(), 1);
  CompleteWithOperators(begin, end);
}

}  // namespace featurescope
