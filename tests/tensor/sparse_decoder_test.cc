#include "server/tensor/sparse_decoder.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "server/tensor/sparse_kernels.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

double Error(const torch::Tensor& actual, const torch::Tensor& expected) {
  return (actual - expected).abs().max().item<double>();
}

TEST(LargestEntriesTest, AreTheLargestOfAllRowsTogether) {
  torch::manual_seed(1);
  const torch::Tensor dense = torch::randn({13, 40});
  const SparseRows all = PositiveEntries(dense);
  for (const bool operators : {false, true}) {
    ComposeOfOperators(operators);
    const SparseRows kept = LargestEntries(all, 17);
    ComposeOfOperators(false);
    ASSERT_TRUE(kept.Validate().ok());
    EXPECT_EQ(kept.nnz(), 17);
    const float last = std::get<0>(dense.flatten().topk(17)).min().item<float>();
    EXPECT_TRUE(torch::equal(kept.ToDense(), dense.masked_fill(dense < last, 0)));
  }
  EXPECT_EQ(LargestEntries(all, all.nnz() + 1).nnz(), all.nnz());
}

TEST(LargestEntriesTest, OfEqualOnesTheFirstStay) {
  const SparseRows all = PositiveEntries(torch::ones({3, 4}));
  const SparseRows kept = LargestEntries(all, 5);
  EXPECT_TRUE(torch::equal(kept.row_offsets, torch::tensor({0, 4, 5, 5}, torch::kInt64)));
}

// groups, operators
class DecodeErrorsTest : public testing::TestWithParam<std::tuple<int, bool>> {
 protected:
  ~DecodeErrorsTest() override { ComposeOfOperators(false); }
};

TEST_P(DecodeErrorsTest, EqualsAutogradOfTheNestedLosses) {
  const auto& [groups, operators] = GetParam();
  constexpr int64_t n = 37, m = 60, d = 21;
  torch::manual_seed(3);
  NestedDecoder decoder;
  decoder.W = torch::randn({m, d});
  decoder.group_ends = groups == 1 ? std::vector<int64_t>{m} : std::vector<int64_t>{7, 20, m};
  decoder.weights = groups == 1 ? std::vector<double>{0.3} : std::vector<double>{0.5, 0.2, 1.5};
  const SparseRows acts = TopKPositive(torch::randn({n, m}), 9);
  const torch::Tensor target = torch::randn({n, d});
  const torch::Tensor offset = torch::randn({d});

  const torch::Tensor dense = acts.ToDense().requires_grad_();
  torch::Tensor loss = torch::zeros({n});
  for (size_t i = 0; i < decoder.weights.size(); ++i) {
    const int64_t end = decoder.group_ends[i];
    loss =
        loss +
        decoder.weights[i] *
            (torch::mm(dense.slice(1, 0, end), decoder.W.slice(0, 0, end)) - target).pow(2).sum(1);
  }
  loss.sum().backward();

  DecoderErrors errors;
  errors.g = torch::empty({decoder.n_groups() * n, d});
  errors.sums = torch::zeros({n, kDecoderSums}, torch::kFloat64);
  errors.dots = torch::empty_like(acts.values);
  ComposeOfOperators(operators);
  DecodeErrors(decoder, acts, target, offset, 0, 16, &errors);
  DecodeErrors(decoder, acts, target, offset, 16, n, &errors);
  SparseRows dots = acts;
  dots.values = errors.dots;
  EXPECT_LT(Error(dots.ToDense(), dense.grad() * dense.gt(0)), 1e-3);
  EXPECT_LT(Error(errors.sums.select(1, kWeightedError), loss.to(torch::kFloat64)), 1e-3);
  const torch::Tensor error = torch::mm(dense, decoder.W).detach() - target;
  const torch::Tensor y = target + offset;
  EXPECT_LT(Error(errors.sums.select(1, kSquaredError), error.pow(2).sum(1)), 1e-3);
  EXPECT_LT(Error(errors.sums.select(1, kSquaredTarget), y.pow(2).sum(1)), 1e-3);
  EXPECT_LT(Error(errors.sums.select(1, kTargetTimesError), (y * error).sum(1)), 1e-3);

  // The gradient of W by its groups' rows of g.
  ColumnOrder columns = OrderByColumn(acts);
  columns.rows = GradientRows(columns, decoder.group_ends, n);
  torch::Tensor dW = torch::zeros({m, d});
  AddTransposedProduct(columns, acts.values, errors.g, dW);
  const torch::Tensor W = decoder.W.clone().requires_grad_();
  torch::Tensor again = torch::zeros({});
  for (size_t i = 0; i < decoder.weights.size(); ++i) {
    const int64_t end = decoder.group_ends[i];
    again =
        again +
        decoder.weights[i] *
            (torch::mm(acts.ToDense().slice(1, 0, end), W.slice(0, 0, end)) - target).pow(2).sum();
  }
  again.backward();
  EXPECT_LT(Error(dW, W.grad()), 1e-3);

  torch::Tensor sums = torch::ones({m});
  AddColumnSums(columns, acts.values, sums);
  EXPECT_LT(Error(sums, acts.ToDense().sum(0) + 1), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Groups, DecodeErrorsTest,
                         testing::Combine(testing::Values(1, 3), testing::Bool()));

TEST(SignumTest, MovesAgainstTheSignOfTheMean) {
  for (const int64_t n : {5, 40}) {
    torch::Tensor w = torch::ones({n});
    torch::Tensor m = torch::zeros({n});
    const torch::Tensor g = torch::linspace(-1, 1, n);
    SignumStep step;
    step.momentum = 0.5F;
    step.step_size = 0.1F;
    step.gradient_scale = 2;
    step.keep = 0.5F;
    BestRowKernels().signum(step, w.data_ptr<float>(), m.data_ptr<float>(), g.data_ptr<float>(), n);
    EXPECT_LT(Error(m, g), 1e-6);
    EXPECT_LT(Error(w, 0.5 - 0.1 * g.sign()), 1e-6);
    BestRowKernels().signum(step, w.data_ptr<float>(), m.data_ptr<float>(), nullptr, n);
    EXPECT_LT(Error(m, 0.5 * g), 1e-6);
  }
}

}  // namespace
}  // namespace featurescope
