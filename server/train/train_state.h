// What an SAE in training is: parameters with their Adam moments, and what else a step needs to
// remember. A checkpoint holds exactly this.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/sae/sae.h"
#include "server/tensor/torch.h"
#include "server/train/spec.h"

namespace featurescope {

struct Trained {
  torch::Tensor value;
  torch::Tensor m;  // Adam's running means of the gradient
  torch::Tensor v;  // and of its square; both of the shape of `value`
};

struct TrainState {
  // The encoder is held transposed, so that a feature's weights, and its gradient, are contiguous.
  Trained W_enc;                     // [d_sae, d_in]
  Trained b_enc;                     // [d_sae]
  Trained W_dec;                     // [d_sae, d_in]
  Trained b_dec;                     // [d_in]
  torch::Tensor tokens_since_fired;  // int64 [d_sae], on the CPU
  int64_t step = 0;                  // steps done
  double density = 1;                // share of features that fired in the last step

  int64_t d_sae() const { return W_enc.value.size(0); }
  int64_t d_in() const { return W_enc.value.size(1); }
};

// Random decoder rows, of norm 1 (topk) or 0.1 (standard); the encoder is the decoder's transpose,
// the biases are zero. Depends only on the spec's seed.
TrainState InitialState(const TrainingSpec& spec, int64_t d_in, torch::Device device);

// Zero moments for `value`.
Trained MakeTrained(torch::Tensor value);

// Where b_dec should start: that of the rows of `x` [n, d_in].
torch::Tensor InitialDecoderBias(DecoderBiasInit init, const torch::Tensor& x);

// Weiszfeld's iteration for the point with the least sum of distances to the rows of x [n, d];
// ends after 100 rounds or when it moves by less than 1e-5.
torch::Tensor GeometricMedian(const torch::Tensor& x);

// The state as an SAE's parameters, for inputs that are not scaled by `input_scale`. Since features
// are positively homogeneous, f(s x; b) = s f(x; b / s), only the biases change.
SaeParameters ExportParameters(const TrainState& state, double input_scale);

}  // namespace featurescope
