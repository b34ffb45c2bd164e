// Dead features restart from inputs that the SAE reconstructs badly.
//
// Two published schedules, both expressed by a TrainingSpec:
//   Bricken et al. 2023, "Towards Monosemanticity": every 200,000,000 tokens, at most 4 times,
//     features that did not fire on the last 100,000,000; inputs drawn from 819,200 by the square
//     of their loss; encoder row = 0.2 times the living ones' mean norm, in the input's direction.
//   saprmarks/dictionary_learning, trainers/standard.py: every resample_steps steps, features that
//     did not fire in half of them; inputs drawn from one batch by their error.
//
// Inputs are drawn without replacement while the steps before pass, each with the weight that its
// error has then: of n draws, those with the largest u^(1/weight), u uniform in (0, 1), remain
// (Efraimidis and Spirakis 2006). So nothing is forwarded twice, and no more inputs are kept than
// there are features.
#pragma once

#include <cstdint>

#include "server/tensor/torch.h"
#include "server/train/spec.h"
#include "server/train/train_state.h"

namespace featurescope {

class Resampler {
 public:
  explicit Resampler(const TrainingSpec& spec) : spec_(spec) {}

  // Whether step `step` is among those whose inputs are drawn from.
  bool Draws(int64_t step) const;
  // Draws from the inputs of step `step`.
  //   x  [n, d_in], as the encoder got them before b_dec was taken off
  //   squared_errors  float64 [n], |x - x_hat|^2
  void Draw(int64_t step, const torch::Tensor& x, const torch::Tensor& squared_errors,
            TrainState* state) const;
  // After step `step`: restarts dead features if it is time; returns how many.
  int64_t ResampleIfDue(int64_t step, TrainState* state) const;

 private:
  void Restart(const torch::Tensor& features, const torch::Tensor& inputs, double living_norm,
               TrainState* state) const;

  const TrainingSpec spec_;
};

}  // namespace featurescope
