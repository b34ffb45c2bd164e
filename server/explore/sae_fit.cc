#include "server/explore/sae_fit.h"

#include <utility>

namespace featurescope {
namespace {

constexpr double kTiny = 1e-12;

double Sum(const torch::Tensor& values) { return values.sum().item<double>(); }

}  // namespace

void FitSums::Add(const torch::Tensor& y, const torch::Tensor& y_hat, const SparseRows& acts) {
  const torch::Tensor target = y.to(torch::kFloat64);
  const torch::Tensor output = y_hat.to(torch::kFloat64);
  const torch::Tensor sum = target.sum(0).cpu();
  sum_ = sum_.defined() ? sum_ + sum : sum;
  n_ += y.size(0);
  n_active_ += acts.nnz();
  squares_ += Sum(target.square());
  residual_squares_ += Sum((target - output).square());
  const torch::Tensor norms = target.norm(2, {1}).clamp_min(kTiny);
  const torch::Tensor norms_out = output.norm(2, {1});
  norm_ratios_ += Sum(norms_out / norms);
  cosines_ += Sum((target * output).sum(1) / (norms * norms_out.clamp_min(kTiny)));
}

SaeFit FitSums::Fit(std::string change) const {
  const auto n = static_cast<double>(n_);
  SaeFit fit;
  fit.change = std::move(change);
  const double variance = squares_ - Sum(sum_.square()) / n;
  if (variance > kTiny * squares_) fit.explained_variance = 1 - residual_squares_ / variance;
  fit.l0 = static_cast<double>(n_active_) / n;
  fit.norm_ratio = norm_ratios_ / n;
  fit.cosine = cosines_ / n;
  return fit;
}

}  // namespace featurescope
