#include "server/tensor/sparse_rows.h"

#include <gtest/gtest.h>

namespace featurescope {
namespace {

// Some rows empty, some full.
torch::Tensor RandomMatrix(int64_t n, int64_t m, double density) {
  torch::manual_seed(n * 1000 + m);
  torch::Tensor dense = torch::rand({n, m});
  dense.masked_fill_(torch::rand({n, m}) > density, -0.5);
  if (n > 2) dense[1].fill_(-1);
  return dense;
}

class SparseRowsTest : public testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(SparseRowsTest, PositiveEntriesAreThoseAboveZero) {
  const auto [n, m] = GetParam();
  const torch::Tensor dense = RandomMatrix(n, m, 0.3);
  const SparseRows sparse = PositiveEntries(dense);
  EXPECT_TRUE(sparse.Validate().ok()) << sparse.Validate();
  EXPECT_TRUE(torch::equal(sparse.ToDense(), dense.clamp_min(0)));
  const torch::Tensor bias = torch::randn({m});
  EXPECT_TRUE(torch::equal(PositiveEntries(dense, bias).ToDense(), (dense + bias).clamp_min(0)));
}

TEST_P(SparseRowsTest, SlicesConcatenateToTheWhole) {
  const auto [n, m] = GetParam();
  const SparseRows whole = PositiveEntries(RandomMatrix(n, m, 0.2));
  const int64_t cut = n / 3;
  const SparseRows again = Concatenate({whole.Slice(0, cut), whole.Slice(cut, n)});
  EXPECT_TRUE(torch::equal(whole.row_offsets, again.row_offsets));
  EXPECT_TRUE(torch::equal(whole.indices, again.indices));
  EXPECT_TRUE(torch::equal(whole.values, again.values));
}

TEST_P(SparseRowsTest, ColumnOrderListsEachColumnsEntriesByRow) {
  const auto [n, m] = GetParam();
  const SparseRows sparse = PositiveEntries(RandomMatrix(n, m, 0.4));
  const ColumnOrder order = OrderByColumn(sparse);
  torch::Tensor rebuilt = torch::zeros({n, m});
  for (int64_t c = 0; c < m; ++c) {
    int64_t previous = -1;
    for (int64_t i = order.column_offsets[c].item<int64_t>();
         i < order.column_offsets[c + 1].item<int64_t>(); ++i) {
      const int64_t row = order.rows[i].item<int>();
      EXPECT_GT(row, previous);
      previous = row;
      rebuilt[row][c] = sparse.values[order.entries[i]];
    }
  }
  EXPECT_TRUE(torch::equal(rebuilt, sparse.ToDense()));
}

INSTANTIATE_TEST_SUITE_P(Sizes, SparseRowsTest,
                         testing::Values(std::pair<int64_t, int64_t>{1, 1},
                                         std::pair<int64_t, int64_t>{5, 17},
                                         std::pair<int64_t, int64_t>{33, 100}));

TEST(SparseRowsTest, ValidationNamesRowAndValue) {
  SparseRows sparse;
  sparse.row_offsets = torch::tensor({0, 1, 3}, torch::kInt64);
  sparse.indices = torch::tensor({4, 2, 1}, torch::kInt32);
  sparse.values = torch::ones({3});
  sparse.n_cols = 5;
  EXPECT_EQ(sparse.Validate().message(),
            "sparse rows: row 1 has index 1 after 2; indices must rise");
  sparse.indices = torch::tensor({5, 1, 2}, torch::kInt32);
  EXPECT_EQ(sparse.Validate().message(), "sparse rows: row 0 has index 5, out of range [0, 5)");
  sparse.indices = torch::tensor({4, 1, 2}, torch::kInt32);
  EXPECT_TRUE(sparse.Validate().ok());
  sparse.row_offsets = torch::tensor({0, 4, 3}, torch::kInt64);
  EXPECT_FALSE(sparse.Validate().ok());
  sparse.row_offsets = torch::tensor({0, 1, 2}, torch::kInt64);
  EXPECT_FALSE(sparse.Validate().ok());
}

}  // namespace
}  // namespace featurescope
