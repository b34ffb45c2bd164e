// What a training step reports.
#pragma once

#include <cmath>
#include <cstdint>

namespace featurescope {

// Losses are means over the batch's tokens, in the units of the (scaled) input; y is the target, x
// itself but in a transcoder.
struct StepResult {
  double loss = 0;
  double mse = 0;             // |y - y_hat|^2, summed over d_out
  double total_variance = 0;  // |y - mean(y)|^2, summed over d_out
  double l0 = 0;              // features that fire, per token
  double l1 = 0;              // sum of activations
  double sparsity_loss = 0;   // the l1, tanh or l0 penalty, before its coefficient
  double gate_mse = 0;        // gated: |x - x_hat of the gate|^2
  double auxk_loss = 0;       // before its coefficient
  double dead_share = 0;      // of the features
  double dense_share = 0;     // of the features: those firing on more than a tenth of the tokens
  double cosine = 0;          // mean of cos(y, y_hat)
  double dot = 0;             // mean of y . y_hat
  double squared_output = 0;  // mean of |y_hat|^2
  double grad_norm = 0;       // global L2 norm before clipping
  double threshold = 0;       // jumprelu: mean threshold; topk family: the tracked one, or -1
  double k = 0;               // topk family: of this step
  double explained_variance_legacy = 0;  // of an evaluation: mean of 1 - error / variance by token
  int64_t resampled = 0;                 // dead features that were restarted after this step

  // Whether loss and gradient norm are; if not, nothing was updated.
  bool finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }
};

}  // namespace featurescope
