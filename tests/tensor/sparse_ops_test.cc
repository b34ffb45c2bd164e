#include "server/tensor/sparse_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_kernels.h"

namespace featurescope {
namespace {

struct Sizes {
  int64_t n, m, d, k;
};
class SparseOpsTest : public testing::TestWithParam<Sizes> {
 protected:
  void SetUp() override { torch::manual_seed(GetParam().m); }
};

torch::Tensor DenseTopK(const torch::Tensor& scores, int64_t k) {
  const auto [values, indices] = scores.topk(k, 1);
  return torch::zeros_like(scores).scatter(1, indices, values).clamp_min(0);
}

TEST_P(SparseOpsTest, TopKEqualsLibTorchsTopKAndRelu) {
  const auto [n, m, d, k] = GetParam();
  for (double shift : {0.0, -1.5, 3.0}) {
    const torch::Tensor pre = torch::randn({n, m}) + shift;
    const SparseRows acts = TopKPositive(pre, k);
    EXPECT_TRUE(acts.Validate().ok()) << acts.Validate();
    EXPECT_TRUE(torch::equal(acts.ToDense(), DenseTopK(pre, k)));
    const torch::Tensor bias = torch::randn({m});
    EXPECT_TRUE(torch::equal(TopKPositive(pre, k, bias).ToDense(), DenseTopK(pre + bias, k)));
  }
}

TEST_P(SparseOpsTest, TopKOfRisingAndFallingRows) {
  const auto [n, m, d, k] = GetParam();
  const torch::Tensor rising = torch::arange(1, m + 1, torch::kFloat32).view({1, m});
  EXPECT_TRUE(torch::equal(TopKPositive(rising.contiguous(), k).ToDense(), DenseTopK(rising, k)));
  const torch::Tensor falling = rising.flip(1).contiguous();
  EXPECT_TRUE(torch::equal(TopKPositive(falling, k).ToDense(), DenseTopK(falling, k)));
}

TEST_P(SparseOpsTest, TopKTiesGoToTheSmallerIndex) {
  const auto [n, m, d, k] = GetParam();
  const SparseRows acts = TopKPositive(torch::ones({n, m}), k);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t i = 0; i < k; ++i) {
      EXPECT_EQ(acts.indices[row * k + i].item<int>(), i);
    }
  }
}

TEST_P(SparseOpsTest, TopKOfBfloat16) {
  const auto [n, m, d, k] = GetParam();
  const torch::Tensor pre = torch::randn({n, m}).to(torch::kBFloat16);
  // Values tie often: only they are compared.
  const torch::Tensor expected = DenseTopK(pre.to(torch::kFloat32), k);
  const torch::Tensor actual = TopKPositive(pre, k).ToDense();
  EXPECT_TRUE(torch::equal(std::get<0>(actual.sort(1)), std::get<0>(expected.sort(1))));
}

TEST_P(SparseOpsTest, ProductsEqualDenseOnes) {
  const auto [n, m, d, k] = GetParam();
  const SparseRows acts = TopKPositive(torch::randn({n, m}) - 0.5, k);
  const torch::Tensor W = torch::randn({m, d});
  const torch::Tensor g = torch::randn({n, d});
  const torch::Tensor dense = acts.ToDense();
  EXPECT_TRUE(torch::allclose(SparseTimesDense(acts, W), dense.mm(W), 1e-4, 1e-4));

  SparseRows sampled = acts;
  sampled.values = SampledProduct(acts, g, W);
  EXPECT_TRUE(torch::allclose(sampled.ToDense(), g.mm(W.t()) * dense.gt(0), 1e-4, 1e-4));

  torch::Tensor out = torch::ones({m, d});
  AddTransposedProduct(OrderByColumn(acts), acts.values, g, out);
  EXPECT_TRUE(torch::allclose(out, dense.t().mm(g) + 1, 1e-4, 1e-4));
}

TEST_P(SparseOpsTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const auto [n, m, d, k] = GetParam();
  const torch::Tensor pre = torch::randn({n, m});
  const torch::Tensor W = torch::randn({m, d});
  const int threads = at::get_num_threads();
  const torch::Tensor several = SparseTimesDense(TopKPositive(pre, k), W);
  at::set_num_threads(1);
  const torch::Tensor one = SparseTimesDense(TopKPositive(pre, k), W);
  at::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(several, one));
}

INSTANTIATE_TEST_SUITE_P(Sizes, SparseOpsTest,
                         testing::Values(Sizes{1, 1, 1, 1}, Sizes{7, 16, 16, 3},
                                         Sizes{40, 100, 33, 9}, Sizes{33, 1000, 70, 64},
                                         Sizes{20, 777, 48, 500}, Sizes{9, 5003, 20, 32}));

TEST(SparseOpsTest, NotANumberIsNeverSelected) {
  torch::Tensor pre = torch::randn({3, 70});
  pre[1].fill_(std::nanf(""));
  pre[2][5] = std::numeric_limits<float>::infinity();
  const SparseRows acts = TopKPositive(pre, 4);
  EXPECT_EQ(acts.row_offsets[1].item<int64_t>(), acts.row_offsets[2].item<int64_t>());
  EXPECT_EQ(acts.ToDense()[2][5].item<float>(), std::numeric_limits<float>::infinity());
}

TEST(RowKernelsTest, AdamEqualsLibTorchs) {
  torch::manual_seed(2);
  torch::Tensor w = torch::randn({37}, torch::requires_grad());
  torch::optim::Adam adam({w}, torch::optim::AdamOptions(0.01));
  torch::Tensor mine = w.detach().clone();
  torch::Tensor m = torch::zeros({37});
  torch::Tensor v = torch::zeros({37});
  for (int t = 1; t <= 20; ++t) {
    // Now and then no gradient at all: momentum goes on.
    const bool none = t % 4 == 0;
    const torch::Tensor gradient = none ? torch::zeros({37}) : torch::randn({37});
    w.mutable_grad() = gradient.clone();
    adam.step();
    AdamStep step;
    step.step_size = static_cast<float>(0.01 / (1 - std::pow(0.9, t)));
    step.inverse_sqrt_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(0.999, t)));
    BestRowKernels().adam(step, mine.data_ptr<float>(), m.data_ptr<float>(), v.data_ptr<float>(),
                          none ? nullptr : gradient.data_ptr<float>(), 37);
    ASSERT_TRUE(torch::allclose(mine, w.detach(), 1e-5, 1e-6)) << t;
  }
}

TEST(ParallelForTest, CoversTheRangeOnceWithAllThreads) {
  std::vector<int> visits(1000);
  ParallelFor(3, 1000, 10, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) ++visits[i];
  });
  for (size_t i = 0; i < visits.size(); ++i) EXPECT_EQ(visits[i], i < 3 ? 0 : 1);
  std::vector<int> parts(1000);
  ParallelFor(0, 1000, 1, [&](int64_t from, int64_t) { parts[from] = 1; });
  EXPECT_EQ(std::count(parts.begin(), parts.end(), 1), ParallelThreads());
}

}  // namespace
}  // namespace featurescope
