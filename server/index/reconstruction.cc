#include "server/index/reconstruction.h"

#include <algorithm>

namespace featurescope {

void ReconstructionSums::Add(const torch::Tensor& x, const torch::Tensor& x_hat) {
  // Few rows at a time: the copies in double precision then stay in the cache.
  const int64_t rows_at_once = x.device().is_cpu() ? 256 : x.size(0);
  torch::Tensor sum = torch::zeros({x.size(1)}, x.options().dtype(torch::kFloat64));
  torch::Tensor squares = torch::zeros({2}, sum.options());
  for (int64_t begin = 0; begin < x.size(0); begin += rows_at_once) {
    const int64_t n = std::min(rows_at_once, x.size(0) - begin);
    const torch::Tensor rows = x.narrow(0, begin, n).to(torch::kFloat64);
    const torch::Tensor residual = rows - x_hat.narrow(0, begin, n);
    sum += rows.sum(0);
    squares += torch::stack({rows.square().sum(), residual.square().sum()});
  }
  sum = sum.cpu();
  squares = squares.cpu();
  ReconstructionSums added;
  added.n_tokens = x.size(0);
  added.input_squares = squares.data_ptr<double>()[0];
  added.residual_squares = squares.data_ptr<double>()[1];
  added.inputs.assign(sum.data_ptr<double>(), sum.data_ptr<double>() + sum.numel());
  Merge(added);
}

void ReconstructionSums::Merge(const ReconstructionSums& other) {
  if (other.n_tokens == 0) return;
  inputs.resize(other.inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] += other.inputs[i];
  n_tokens += other.n_tokens;
  input_squares += other.input_squares;
  residual_squares += other.residual_squares;
}

double ReconstructionSums::ExplainedVariance() const {
  if (n_tokens == 0) return 0;
  double mean_squares = 0;
  for (double sum : inputs) mean_squares += sum * sum;
  const double variance = input_squares - mean_squares / static_cast<double>(n_tokens);
  if (!(variance > 1e-12 * input_squares)) return 0;
  return 1 - residual_squares / variance;
}

}  // namespace featurescope
