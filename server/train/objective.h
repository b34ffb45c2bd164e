// What one architecture adds to the step that all share: which units may fire, their activations,
// and the gradients that do not come from the reconstruction alone.
//
// A step goes SelectRows (block by block) -> TakeSelected -> Activate -> the trainer decodes ->
// Backward -> Finish. On the dense path Activate and Backward see blocks of all units instead, and
// nothing is selected. One architecture is one small file behind this interface.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"
#include "server/train/schedule.h"
#include "server/train/spec.h"
#include "server/train/step_result.h"
#include "server/train/train_state.h"
#include "server/train/units.h"

namespace featurescope {

// Not thread-safe. Holds no state that a later step's results depend on.
class Objective {
 public:
  // `state` outlives it.
  Objective(const TrainingSpec& spec, const TrainState& state) : spec_(spec), state_(state) {}
  virtual ~Objective() = default;

  // Whether Begin needs the norms of the decoder's rows.
  virtual bool needs_decoder_norms() const { return false; }
  // Whether it can do without a selection, and so take the dense path.
  virtual bool can_be_dense() const { return true; }
  // Whether Activate also sets gate_acts, whose error counts besides that of acts.
  virtual bool has_gate() const { return false; }

  // decoder_norms  [d_sae], where needed
  virtual void Begin(const StepSettings& settings, const torch::Tensor& decoder_norms);

  // Keeps the units of a block of rows that may fire or get a gradient.
  //   pre  x W_enc, float32 [rows, d_sae]; may be written to
  virtual void SelectRows(torch::Tensor& pre) = 0;
  // Whether rows have to be selected again, all of them: a guess was wrong.
  virtual bool MustSelectAgain() { return false; }
  // All units selected, with their z as values.
  virtual SparseRows TakeSelected();
  // What z adds to x W_enc, [d_sae].
  virtual const torch::Tensor& selection_bias() const { return state_.b_enc.value; }

  virtual void Activate(Units& units) = 0;
  // How many of a dense piece's units, activated, a selection would have kept.
  virtual int64_t CountSelected(const Units& units) const {
    return units.acts.ne(0).sum().item<int64_t>();
  }
  // Sets dz; adds to the gradients of per-feature parameters but b_enc, whose gradient is the sum
  // of dz. Called once for each piece of the batch.
  virtual void Backward(Units& units, Gradients& gradients) = 0;
  // Completes gradients and losses, the pieces being done.
  //   sum_x  [d_in], of the encoder's inputs over the batch;  units_of  [d_sae], units that
  //   Backward saw of each feature;  fired  [d_sae] bool
  struct BatchSums {
    torch::Tensor sum_x;
    torch::Tensor units_of;
    torch::Tensor fired;
  };
  virtual void Finish(const BatchSums& sums, Gradients& gradients, StepResult* result);

  // The loss's gradient by the decoder rows' norms, [d_sae]; undefined: none.
  const torch::Tensor& norm_gradient() const { return norm_gradient_; }
  // A gradient by x W_enc that all tokens have alike, besides that of units, [d_sae]; undefined:
  // none.
  const torch::Tensor& uniform_dz() const { return uniform_dz_; }

 protected:
  double n_tokens() const { return static_cast<double>(spec_.batch_size); }
  // The L1 or tanh penalty: adds its gradient by acts to `d_acts`, and to norm_gradient(). Units
  // that do not fire get one, too; the caller masks it.
  void AddPenalty(const Units& units, const torch::Tensor& acts, torch::Tensor& d_acts);
  bool has_penalty() const;

  const TrainingSpec spec_;
  const TrainState& state_;
  StepSettings settings_;
  torch::Tensor decoder_norms_;
  std::vector<SparseRows> parts_;  // selected so far
  torch::Tensor norm_gradient_;
  torch::Tensor uniform_dz_;
  double penalty_ = 0;  // so far, before its coefficient
  double l1_ = 0;       // sum of acts so far

 private:
  double PenaltyFactor() const;
};

// One line for each family; nullptr never.
std::unique_ptr<Objective> MakeObjective(const TrainingSpec& spec, const TrainState& state);

std::unique_ptr<Objective> MakeReluObjective(const TrainingSpec& spec, const TrainState& state);
std::unique_ptr<Objective> MakeTopKObjective(const TrainingSpec& spec, const TrainState& state);
std::unique_ptr<Objective> MakeBatchTopKObjective(const TrainingSpec& spec,
                                                  const TrainState& state);
std::unique_ptr<Objective> MakeJumpReluObjective(const TrainingSpec& spec, const TrainState& state);
std::unique_ptr<Objective> MakeGatedObjective(const TrainingSpec& spec, const TrainState& state);

}  // namespace featurescope
