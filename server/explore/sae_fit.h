// Sums over tokens from which an SaeFit is made.
#pragma once

#include <string>

#include "server/explore/check_sae.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

class FitSums {
 public:
  // The next tokens: y and y_hat float32 [n, d], acts [n, d_sae].
  void Add(const torch::Tensor& y, const torch::Tensor& y_hat, const SparseRows& acts);

  int64_t n_tokens() const { return n_; }
  // REQUIRES: n_tokens() > 0. Explained variance is 0 where y does not vary.
  SaeFit Fit(std::string change) const;

 private:
  int64_t n_ = 0;
  int64_t n_active_ = 0;
  torch::Tensor sum_;  // float64 [d], on the host
  double squares_ = 0;
  double residual_squares_ = 0;
  double norm_ratios_ = 0;
  double cosines_ = 0;
};

}  // namespace featurescope
