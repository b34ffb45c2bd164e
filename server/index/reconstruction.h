// How well the SAE's output explains its input, over tokens that pass by.
#pragma once

#include <cstdint>
#include <vector>

#include "server/tensor/torch.h"

namespace featurescope {

// Explained variance = 1 - sum |x - x_hat|^2 / sum |x - mean(x)|^2, sums over tokens and the mean
// over the same tokens.
struct ReconstructionSums {
  uint64_t n_tokens = 0;
  double residual_squares = 0;
  double input_squares = 0;
  std::vector<double> inputs;  // [d_in]; empty with n_tokens 0

  // x and x_hat: float32 [n, d_in] on one device.
  void Add(const torch::Tensor& x, const torch::Tensor& x_hat);
  void Merge(const ReconstructionSums& other);
  // 0 when the inputs do not vary.
  double ExplainedVariance() const;
};

}  // namespace featurescope
