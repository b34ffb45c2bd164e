// AuxK: dead features are trained to explain what the living ones left over.
//
//   e     = y - y_hat, taken as constant
//   e_hat = a W_dec, a = the k_aux largest activations of a token among dead features
//   auxk  = |e - e_hat|^2 / scale      (sums over the batch; scale: AuxKScale)
//
// No bias in e_hat: b_dec is in y_hat already. A dead feature does not fire in this step, so its
// gradient comes from here alone.
//
// Which features are dead is known only when the whole batch has been encoded. While its rows pass,
// the largest activations of those that will be dead unless they fire are kept, some more than
// needed; rows that turn out to need others have the dead features' products computed anew.
//
// Source: Gao et al. 2024, arXiv:2406.04093, section A.2.
#pragma once

#include <cstdint>
#include <vector>

#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"
#include "server/train/spec.h"
#include "server/train/train_state.h"

namespace featurescope {

// Not thread-safe.
class AuxK {
 public:
  // `state` outlives it.
  AuxK(const TrainingSpec& spec, const TrainState& state) : spec_(spec), state_(state) {}

  // Begins a step.   decoder_norms  [d_sae], with select_by_decoder_norm
  void Begin(const torch::Tensor& decoder_norms);
  // Looks at the next rows of x W_enc, or of x W_enc |W_dec row| with select_by_decoder_norm.
  void SelectRows(const torch::Tensor& pre);
  // The rows will come once more, from the first on.
  void ForgetRows() { parts_.clear(); }

  // What the rest of the step is about; tensors of the whole batch.
  struct Batch {
    torch::Tensor x;  // encoder's inputs, [n, d_in]
    torch::Tensor g;  // [n, d_out], `error_scale` times y_hat - y
    double error_scale = 1;
    double squared_error = 0;   // sum of |y - y_hat|^2
    double total_variance = 0;  // sum of |y - mean(y)|^2
  };
  // The batch being encoded, and tokens_since_fired up to date: finds the dead features and clears
  // their gradients. False: there are none.
  bool Prepare(const Batch& batch, Gradients* gradients);
  // Adds the gradients from rows [begin, end) for dead features to `gradients` (b_enc's to dz_sums,
  // [d_sae]).
  void Rows(int64_t begin, int64_t end, Gradients* gradients, torch::Tensor* dz_sums);
  // After the last row.
  void Finish(Gradients* gradients);

  int64_t n_dead() const { return dead_.defined() ? dead_.numel() : 0; }
  const torch::Tensor& dead() const { return dead_; }  // int64, rising, on the CPU
  // Before its coefficient.
  double loss() const { return active() ? weight_ * squared_sum_ : 0; }

 private:
  bool active() const { return n_dead() > 0 && weight_ > 0; }
  double Weight(const torch::Tensor& sum_g) const;
  int64_t RowOfCandidates(int64_t row, std::vector<float>* buffer, int32_t* indices,
                          float* values) const;
  SparseRows RowsOfCandidates(int64_t begin, int64_t end, bool* complete) const;
  SparseRows RecomputedRows(int64_t begin, int64_t end) const;
  void SparseGradients(const SparseRows& acts, int64_t begin, int64_t end, Gradients* gradients,
                       torch::Tensor* dz_sums);
  void DenseGradients(const SparseRows& acts, int64_t begin, int64_t end, torch::Tensor* dz_sums);

  const TrainingSpec spec_;
  const TrainState& state_;
  torch::Tensor decoder_norms_;

  // While rows pass.
  torch::Tensor maybe_;           // int64, rising: features that are dead unless they fire
  bool few_ = false;              // they are picked out before the selection
  torch::Tensor candidate_bias_;  // of maybe_; or [d_sae], -inf for other features
  int64_t per_row_ = 0;           // candidates of a row at most
  std::vector<SparseRows> parts_;

  SparseRows candidates_;  // of the whole batch; no rows: none were kept
  Batch batch_;
  torch::Tensor dead_;
  std::vector<int32_t> place_;  // of each feature in dead_; -1: lives
  int64_t k_ = 0;               // min(k_aux, dead features)
  double weight_ = 0;           // of the squared errors' sum in auxk
  double squared_sum_ = 0;
  bool dense_ = false;
  torch::Tensor W_enc_, b_enc_, W_dec_;  // of dead features
  torch::Tensor dW_enc_, dW_dec_;        // dense: their gradients
};

}  // namespace featurescope
