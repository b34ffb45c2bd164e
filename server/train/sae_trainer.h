// One training step of an SAE, and the next.
//
//   xc = x - b_dec (if apply_b_dec_to_input),  acts = activation(xc W_enc + b_enc)
//   y_hat = acts W_dec + b_dec (+ x W_skip^T),  loss = |y - y_hat|^2 + what the objective adds
//
// Only the encoder's product is dense. Decoder, gradients of features and weights touch the units
// that a selection kept; they are computed row by row (decoder, feature gradients) and feature by
// feature (weight gradients) while the data is in cache. An architecture that is not sparse yet
// takes a dense path. The gradients are exact, and so is the optimiser, which visits every
// parameter once a step.
//
// What differs between architectures is behind Objective. Order of gradient projection, clipping,
// step and normalisation: saprmarks/dictionary_learning, trainers/top_k.py.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "server/tensor/sparse_decoder.h"
#include "server/tensor/sparse_kernels.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"
#include "server/tensor/weight_product.h"
#include "server/train/auxk.h"
#include "server/train/objective.h"
#include "server/train/phased_work.h"
#include "server/train/resample.h"
#include "server/train/schedule.h"
#include "server/train/spec.h"
#include "server/train/step_result.h"
#include "server/train/train_state.h"

namespace featurescope {

// Not thread-safe; all calls on the device's thread.
class SaeTrainer {
 public:
  //   spec  resolved;  state  of its shapes
  SaeTrainer(const TrainingSpec& spec, TrainState state);
  SaeTrainer(const SaeTrainer&) = delete;
  SaeTrainer& operator=(const SaeTrainer&) = delete;

  // To be filled with the batch before BeginStep: float32 [batch_size, d_in]. The step changes it.
  torch::Tensor& input() { return input_; }
  // Transcoders: the same for the targets, [batch_size, d_out].
  torch::Tensor& target() { return target_; }
  // Sets what starts from data, from a first batch in input() and target().
  void InitializeFromBatch() {
    featurescope::InitializeFromBatch(spec_, input_, traits_.transcoder ? target_ : input_,
                                      &state_);
  }
  void BeginStep(const StepSettings& settings);
  // Continues the step until it is done (true) or the budget is spent (false).
  bool RunFor(absl::Duration budget);

  // The same for what is only measured: encodes and decodes input() (and target()) as they are
  // filled, changes nothing of the state, and leaves in result() what needs no gradient.
  void BeginEvaluation(const StepSettings& settings);
  bool EvaluateFor(absl::Duration budget);

  // Of the last step or evaluation that is done.
  const StepResult& result() const { return result_; }
  // REQUIRES: no step is half done.
  const TrainState& state() const { return state_; }
  // Where the time went, over all steps. The second list is that of the dense path.
  const std::vector<Phase>& sparse_phases() const { return sparse_work_.phases(); }
  const std::vector<Phase>& dense_phases() const { return dense_work_.phases(); }
  // Of the sparse phases' time, that of the encoder's product without the selection.
  absl::Duration product_time() const { return product_time_; }

  // The gradients of the last step: after the projection that keeps decoder rows of unit norm,
  // before clipping. For tests.
  Gradients CopyGradients() const;

  // Takes one of the two paths in every step, whatever the density was: for tests and benchmarks.
  //   REQUIRES: for the dense path, an architecture that has one.
  void ForcePath(bool dense) { forced_dense_ = dense; }
  bool can_be_dense() const { return objective_->can_be_dense(); }

  // Everything it holds at its peak, the state included.
  static uint64_t MemoryBytes(const TrainingSpec& spec, const TrainingWidths& widths);

 private:
  // sae_trainer.cc
  std::vector<Phase> SparsePhases();
  std::vector<Phase> DensePhases();
  void AppendFirstPhases(std::vector<Phase>* phases);
  void AppendLastPhases(std::vector<Phase>* phases);
  void ClearStep();
  void PrepareTarget();
  void BeginObjective();
  void DecoderNorms(int64_t begin, int64_t end);
  // x W_enc of rows [begin, end), without bias.
  torch::Tensor Product(int64_t begin, int64_t end);
  void CountFired();
  void FinishObjective();
  void ReportDecoding();
  double DecoderSum(const DecoderErrors& errors, int column) const;

  // evaluate.cc
  std::vector<Phase> EvaluationPhases();
  void EvaluateDenseRows(int64_t begin, int64_t end);
  void FinishEvaluation();

  // sparse_step.cc
  void SelectRows(int64_t begin, int64_t end);
  bool MustSelectAgain();
  void OrderUnits();
  void CountUnits();
  void DecodeRows(int64_t begin, int64_t end);
  void FeatureGradients();
  bool PrepareAuxK();
  void DecoderGradients(int64_t begin, int64_t end);
  void EncoderGradients(int64_t begin, int64_t end);
  // The units of one feature: positions of their values, rows of the batch, rows of errors_.g.
  struct FeatureUnits {
    int64_t count;
    const int64_t* entries;
    const int32_t* rows;
    const int32_t* gradient_rows;
  };
  FeatureUnits UnitsOf(int64_t feature) const;
  bool HasUnits(int64_t feature) const;
  static double Gather(const FeatureUnits& units, const torch::Tensor& values,
                       std::vector<float>* weights);
  void DecoderGradientOf(int64_t feature, std::vector<float>* weights);
  void EncoderGradientOf(int64_t feature, std::vector<float>* weights);
  void WeightGradientsWithOperators();

  // dense_step.cc
  void DenseRows(int64_t begin, int64_t end);
  torch::Tensor DenseErrors(const torch::Tensor& acts, int64_t begin, int64_t end,
                            DecoderErrors* errors);
  void DenseWeightGradients(int64_t begin, int64_t end);

  // update.cc
  void FinishGradients();
  void PrepareOptimizer(double grad_norm);
  void UpdateFeatures(int64_t begin, int64_t end);
  void UpdateRow(Trained& parameter, const torch::Tensor& gradient, int64_t feature);
  void UpdateWithOperators(Trained& parameter, const torch::Tensor& gradient, int64_t begin,
                           int64_t end, double learning_rate);
  void FinishStep();
  void TrackThreshold();
  void DrawForResampling();
  void CompleteWithOperators(int64_t begin, int64_t end);
  // Removes what would change the row's norm, and returns the squared norm of what is left.
  double ProjectAndMeasure(int64_t feature, float* gradient) const;

  int64_t batch() const { return spec_.batch_size; }
  bool unit_decoder() const { return spec_.decoder_norm != DecoderNorm::kFree; }
  bool loops() const { return UsesLoops(state_.W_enc.value); }
  bool trains_decoder_by_gate() const {
    return objective_->has_gate() && !spec_.gated_detach_decoder;
  }
  void GroupWeights(double scale);

  const TrainingSpec spec_;
  const ArchitectureTraits traits_;
  const int64_t d_in_;
  const int64_t d_out_;
  const int64_t d_sae_;
  const RowKernels& kernels_;
  TrainState state_;
  std::unique_ptr<Objective> objective_;
  AuxK auxk_;
  Resampler resampler_;
  WeightProduct product_;
  absl::Duration product_time_;
  PhasedWork sparse_work_;
  PhasedWork dense_work_;
  PhasedWork evaluation_work_;
  bool evaluating_ = false;
  bool dense_step_ = false;
  std::optional<bool> forced_dense_;

  StepSettings settings_;
  AdamStep adam_;
  SignumStep signum_;
  StepResult result_;

  // Buffers, kept from step to step because fresh pages cost more than what they are used for.
  torch::Tensor input_;    // [batch, d_in]; x until the step begins, then what the encoder sees
  torch::Tensor target_;   // [batch, d_out]; then y - b_dec (- x W_skip^T); may be input_ itself
  torch::Tensor scratch_;  // x W_enc of one block of rows
  torch::Tensor dots_;     // dense path: of one block of rows
  torch::Tensor gate_dots_;
  DecoderErrors errors_;
  DecoderErrors gate_errors_;
  Gradients gradients_;    // rows of W_enc and W_dec of features without gradient are stale
  torch::Tensor dz_sums_;  // [d_sae]: the gradient of b_enc
  std::vector<uint8_t> has_gradient_;  // [d_sae]
  torch::Tensor squared_gradient_;     // float64 [d_sae], of W_enc and W_dec, per feature
  torch::Tensor decoder_norms_;        // [d_sae], where the objective needs them

  // Of the current step.
  NestedDecoder decoder_;
  double total_variance_ = 0;  // of the targets, summed over the batch
  torch::Tensor sum_x_;        // [d_in], of the encoder's inputs
  Units units_;
  SparseRows acts_;
  SparseRows gate_acts_;
  ColumnOrder columns_;
  torch::Tensor gradient_rows_;  // int32 [nnz], of errors_.g, in the order of columns_
  torch::Tensor fired_;          // [d_sae], on how many tokens each feature fired
  int64_t active_ = 0;           // units that fire
  int64_t selected_ = 0;         // units that a selection kept, or would have
};

}  // namespace featurescope
