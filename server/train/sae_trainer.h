// One training step of a TopK or standard SAE, and the next.
//
//   xc = x - b_dec,  acts = activation(xc W_enc + b_enc),  x_hat = acts W_dec + b_dec
//   topk      loss = |x - x_hat|^2 + auxk_coefficient auxk    (sums over d_in, means over tokens)
//   standard  loss = |x - x_hat|^2 + l1_coefficient sum_f acts_f |W_dec_f|
//
// Only the encoder's product is dense. Decoder, gradients of features and weights touch active
// features only; they are computed row by row (decoder, feature gradients) and feature by feature
// (weight gradients) while the data is in cache. A standard SAE that is not sparse yet takes a
// dense path. The gradients are exact, and so is Adam, which visits every parameter once a step.
//
// Sources: Gao et al. 2024, arXiv:2406.04093 (TopK, AuxK); order of gradient projection, clipping,
// step and normalisation: saprmarks/dictionary_learning, trainers/top_k.py.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "server/tensor/sparse_kernels.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"
#include "server/train/phased_work.h"
#include "server/train/spec.h"
#include "server/train/train_state.h"

namespace featurescope {

// Losses are means over the batch's tokens, in the units of the (scaled) input.
struct StepResult {
  double loss = 0;
  double mse = 0;             // |x - x_hat|^2, summed over d_in
  double total_variance = 0;  // |x - mean(x)|^2, summed over d_in
  double l0 = 0;              // active features per token
  double l1_loss = 0;         // standard: sum_f acts_f |W_dec_f|, before its coefficient
  double auxk_loss = 0;       // topk: relative to the residual's variance, before its coefficient
  double dead_share = 0;      // of the features
  double grad_norm = 0;       // global L2 norm before clipping
  bool finite() const;        // whether loss and gradient norm are; if not, nothing was updated
};

// Not thread-safe; all calls on the device's thread.
class SaeTrainer {
 public:
  //   spec  resolved;  state  of its shapes
  SaeTrainer(const TrainingSpec& spec, TrainState state);
  SaeTrainer(const SaeTrainer&) = delete;
  SaeTrainer& operator=(const SaeTrainer&) = delete;

  // To be filled with the batch before BeginStep: float32 [batch_size, d_in]. The step changes it.
  torch::Tensor& input() { return xc_; }
  void BeginStep(double learning_rate, double l1_coefficient);
  // Continues the step until it is done (true) or the budget is spent (false).
  bool RunFor(absl::Duration budget);

  // Of the last step that is done.
  const StepResult& result() const { return result_; }
  // REQUIRES: no step is half done.
  const TrainState& state() const { return state_; }
  // Where the time went, over all steps. The second list is that of the dense path.
  const std::vector<Phase>& sparse_phases() const { return sparse_work_.phases(); }
  const std::vector<Phase>& dense_phases() const { return dense_work_.phases(); }

  // The gradients of the last step: after the projection that keeps decoder rows of unit norm,
  // before clipping. For tests.
  struct Gradients {
    torch::Tensor W_enc, b_enc, W_dec, b_dec;
  };
  Gradients CopyGradients() const;

  // Computes with LibTorch operators instead of the loops for the CPU, as it does on CUDA. For
  // tests.   REQUIRES: no step has begun.
  void UseOperators() { operators_ = true; }

  // Everything it holds at its peak, the state included.
  static uint64_t MemoryBytes(const TrainingSpec& spec, int64_t d_in);

 private:
  std::vector<Phase> SparsePhases();
  std::vector<Phase> DensePhases();
  void AppendUpdatePhases(std::vector<Phase>* phases);

  // sae_trainer.cc
  void ClearStep();
  void FinishStep();
  void CountFired(const torch::Tensor& fired_columns);
  double RowTotal(int column) const;

  // sparse_step.cc
  void EncodeRows(int64_t begin, int64_t end);
  void OrderEntries();
  void DecodeRows(int64_t begin, int64_t end);
  void DecodeRowsWithOperators(int64_t begin, int64_t end);
  void WeightGradients(int64_t begin, int64_t end);
  void WeightGradientsWithOperators(int64_t begin, int64_t end);

  // auxk.cc
  void PrepareAuxK();
  void AuxKRows(int64_t begin, int64_t end);

  // dense_step.cc
  void DenseRows(int64_t begin, int64_t end);
  void DenseWeightGradients(int64_t begin, int64_t end);

  // update.cc
  void DecoderNorms(int64_t begin, int64_t end);
  void ClipGradient();
  void UpdateFeatures(int64_t begin, int64_t end);
  void UpdateFeaturesWithOperators(int64_t begin, int64_t end);
  void UpdateBiases();
  // Removes what would change the row's norm, and returns the squared norm of what is left.
  double ProjectAndMeasure(int64_t feature, float* gradient) const;

  bool topk() const { return spec_.architecture == "topk"; }
  // Decoder rows are kept at norm 1.
  bool unit_decoder() const { return topk(); }
  int64_t batch() const { return spec_.batch_size; }

  const TrainingSpec spec_;
  const int64_t d_in_;
  const int64_t d_sae_;
  const RowKernels& kernels_;
  TrainState state_;
  bool operators_ = false;
  PhasedWork sparse_work_;
  PhasedWork dense_work_;
  bool dense_step_ = false;

  double learning_rate_ = 0;
  double l1_coefficient_ = 0;
  AdamStep adam_;
  StepResult result_;

  // Buffers, kept from step to step because fresh pages cost more than what they are used for.
  torch::Tensor xc_;       // [batch, d_in]; x until the step begins, then x - b_dec
  torch::Tensor g_;        // [batch, d_in], gradient of the loss by x_hat
  torch::Tensor scratch_;  // pre-activations of one block of rows
  torch::Tensor scratch2_;
  torch::Tensor W_enc_gradient_;       // [d_sae, d_in]; rows of features without gradient are stale
  torch::Tensor W_dec_gradient_;       // [d_sae, d_in]
  torch::Tensor b_enc_gradient_;       // [d_sae]
  torch::Tensor b_dec_gradient_;       // [d_in]
  std::vector<uint8_t> has_gradient_;  // [d_sae]
  torch::Tensor squared_gradient_;     // float64 [d_sae], per feature
  torch::Tensor decoder_norms_;        // [d_sae], standard only
  torch::Tensor activation_sums_;      // [d_sae], dense path only

  // Of the current step.
  std::vector<SparseRows> parts_;
  SparseRows acts_;
  torch::Tensor dz_;  // [nnz], gradient by hidden_pre
  ColumnOrder columns_;
  torch::Tensor row_sums_;     // float64 [batch, 3]: |x - x_hat|^2, |xc|^2, L1
  torch::Tensor group_sum_g_;  // [row groups, d_in]
  torch::Tensor group_sum_x_;  // [row groups, d_in]
  int64_t active_ = 0;         // entries
  torch::Tensor dead_;         // int64 [n_dead], rising; with AuxK
  torch::Tensor dead_W_enc_;   // [n_dead, d_in]
  torch::Tensor dead_b_enc_;   // [n_dead]
  double auxk_variance_ = 0;   // of the residual, summed over the batch
  double auxk_sum_ = 0;        // sum of AuxK's squared errors
};

}  // namespace featurescope
