// The parts of a forward pass that are no matrix products: norms, activations, rotary positions.
//
// On the CPU in float32 or bfloat16 they are loops over rows, which cost one pass over memory each;
// elsewhere they are composed of LibTorch operators. All compute in float32 and round once.
#pragma once

#include "server/model/config.h"
#include "server/tensor/torch.h"

namespace featurescope {

// out = (x - mean) / sqrt(var + eps) * weight + bias over the last dimension.
//   x, out [n, d], out contiguous;  weight, bias float32 [d]
void LayerNormInto(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   double eps, torch::Tensor& out);

// out = x / sqrt(mean(x^2) + eps), times weight (float32 [d]) where it is defined.
void RmsNormInto(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                 torch::Tensor& out);

// The same of every head of x [n, head, d_head]. The result may be x itself where `in_place`.
torch::Tensor RmsNormedHeads(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                             bool in_place);

// x = activation(x), in place; times `factor` where it is defined, as in gated MLPs.
void ActivateInPlace(ActivationKind activation, torch::Tensor& x,
                     const torch::Tensor& factor = torch::Tensor());

// x = cap tanh(x / cap), in place; float32.
void SoftCapInPlace(double cap, torch::Tensor& x);

// Rotates the first 2 * r dimensions of every head; dimension i is paired with i + r. The result
// may be x itself where `in_place`.
//   x [n, head, d_head];  cosine, sine float32 [n, r], contiguous
torch::Tensor Rotated(const torch::Tensor& x, const torch::Tensor& cosine,
                      const torch::Tensor& sine, bool in_place);

}  // namespace featurescope
