#include "server/tensor/weight_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "server/tensor/torch.h"

namespace featurescope {
namespace {

using Factors = WeightProduct::Factors;
using Way = WeightProduct::Way;

double LargestError(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

torch::Tensor Product(WeightProduct& product, const torch::Tensor& x, int64_t m) {
  torch::Tensor out = torch::full({x.size(0), m}, std::numeric_limits<float>::quiet_NaN());
  product.Multiply(x, out);
  return out;
}

class WeightProductTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam() == Way::kFastest && !AmxProduct::Available()) {
      GTEST_SKIP() << "this processor has no AMX";
    }
    torch::manual_seed(2);
  }
};

// LibTorch's own product, which stands in where nothing better is there, rounds sums too.
TEST_P(WeightProductTest, Bfloat16RoundsFactorsButNotSums) {
  const double tolerance = WeightProduct::RoundsSums(GetParam()) ? 0.2 : 1e-3;
  WeightProduct product(Factors::kBFloat16, GetParam());
  for (const int64_t m : {33, 512}) {
    const torch::Tensor W = torch::randn({m, 70});
    product.SetWeights(W);
    for (const int64_t n : {1, 9, 300}) {
      const torch::Tensor x = torch::randn({n, 70});
      const auto rounded = [](const torch::Tensor& t) {
        return t.to(torch::kBFloat16).to(torch::kFloat64);
      };
      const torch::Tensor expected = torch::mm(rounded(x), rounded(W).t());
      EXPECT_LT(LargestError(Product(product, x, m), expected), tolerance) << m << " " << n;
    }
  }
}

// Against the exact product, its errors are no larger than those of float32 arithmetic.
TEST_P(WeightProductTest, Float32IsAsPreciseAsFloat32Arithmetic) {
  WeightProduct product(Factors::kFloat32, GetParam());
  for (const auto& [n, d, m] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
           {1, 1, 1}, {7, 31, 33}, {300, 768, 130}, {64, 2100, 257}, {520, 64, 32}}) {
    // Factors of very different size, as activations of a residual stream have.
    const torch::Tensor scale = torch::randn({d}).mul_(2).exp_();
    const torch::Tensor x = torch::randn({n, d}) * scale;
    const torch::Tensor W = torch::randn({m, d}) / scale;
    product.SetWeights(W);
    const torch::Tensor exact = torch::mm(x.to(torch::kFloat64), W.to(torch::kFloat64).t());
    const double usual =
        (torch::mm(x, W.t()).to(torch::kFloat64) - exact).pow(2).mean().item<double>();
    const double error =
        (Product(product, x, m).to(torch::kFloat64) - exact).pow(2).mean().item<double>();
    EXPECT_LE(std::sqrt(error), 2 * std::sqrt(usual) + 1e-7 * std::sqrt(static_cast<double>(d)))
        << n << " " << d << " " << m;
  }
}

TEST_P(WeightProductTest, NewWeightsOfAnotherShapeReplaceTheOldOnes) {
  WeightProduct product(Factors::kFloat32, GetParam());
  product.SetWeights(torch::randn({40, 50}));
  const torch::Tensor W = torch::randn({70, 33});
  const torch::Tensor x = torch::randn({5, 33});
  product.SetWeights(W);
  EXPECT_LT(LargestError(Product(product, x, 70), torch::mm(x, W.t())), 1e-4);
}

TEST_P(WeightProductTest, RowsDoNotDependOnTheirNeighboursOrOnThreads) {
  if (GetParam() == Way::kLibraries) GTEST_SKIP() << "the libraries make no such promise";
  for (const Factors factors : {Factors::kFloat32, Factors::kBFloat16}) {
    WeightProduct product(factors, GetParam());
    const torch::Tensor W = torch::randn({300, 100});
    const torch::Tensor x = torch::randn({400, 100});
    product.SetWeights(W);
    const torch::Tensor all = Product(product, x, 300);
    const int threads = at::get_num_threads();
    at::set_num_threads(threads == 1 ? 3 : 1);
    const torch::Tensor part = Product(product, x.slice(0, 37, 310).contiguous(), 300);
    at::set_num_threads(threads);

    EXPECT_TRUE(torch::equal(all.slice(0, 37, 310), part));
  }
}

TEST_P(WeightProductTest, WhatIsNotFiniteStaysSo) {
  WeightProduct product(Factors::kFloat32, GetParam());
  product.SetWeights(torch::ones({40, 40}));
  for (const double bad :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    torch::Tensor x = torch::ones({3, 40});
    x[1][7] = bad;
    const torch::Tensor out = Product(product, x, 40);
    EXPECT_FALSE(out[1].isfinite().any().item<bool>());
    EXPECT_TRUE(out[0].eq(40).all().item<bool>());
    EXPECT_TRUE(out[2].eq(40).all().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, WeightProductTest, testing::Values(Way::kFastest, Way::kLibraries),
                         [](const auto& info) {
                           return info.param == Way::kFastest ? "Fastest" : "Libraries";
                         });

}  // namespace
}  // namespace featurescope
