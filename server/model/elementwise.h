// The parts of a forward pass that are no matrix products: norms, activations, rotary positions.
//
// On the CPU in float32 they are loops over rows, which cost one pass over memory each; elsewhere
// they are composed of LibTorch operators. Both compute in float32.
#pragma once

#include "server/model/config.h"
#include "server/tensor/torch.h"

namespace featurescope {

// out = (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.
//   x, out [n, d], out contiguous
void LayerNormInto(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   double eps, torch::Tensor& out);

// out = x / sqrt(mean(x^2) + eps), times weight where it is defined.
void RmsNormInto(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                 torch::Tensor& out);

// The frequencies of rotary positions, float32 [rotary_dims / 2].
//
// "llama3" scaling slows long wave lengths down by `factor`, leaves short ones, and blends between.
torch::Tensor RotaryFrequencies(const RotaryConfig& config);

// x = activation(x), in place.
void ActivateInPlace(ActivationKind activation, torch::Tensor& x);

// Rotates the first 2 * r dimensions of every head; dimension i is paired with i + r. The result
// may be x itself where `in_place`.
//   x [n, head, d_head];  cosine, sine float32 [n, r], contiguous
torch::Tensor Rotated(const torch::Tensor& x, const torch::Tensor& cosine,
                      const torch::Tensor& sine, bool in_place);

}  // namespace featurescope
