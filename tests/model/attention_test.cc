#include "server/model/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace featurescope {
namespace {

constexpr double kSame = 2e-5;

struct Case {
  int64_t n_sequences;
  int64_t n_queries;
  int64_t n_keys;
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t d_head;
};

// Lengths on both sides of the loops' tiles of 4 queries and 32 keys; with and without cached keys.
const std::vector<Case>& Cases() {
  static const auto* const cases = new std::vector<Case>{
      {1, 1, 1, 2, 1, 8},    {1, 1, 70, 4, 2, 16},  {2, 3, 3, 2, 2, 8},
      {1, 3, 40, 4, 1, 12},  {2, 5, 5, 2, 2, 40},   {1, 33, 33, 6, 2, 8},
      {1, 32, 100, 2, 1, 8}, {2, 64, 64, 4, 4, 16}, {1, 97, 130, 2, 2, 5},
  };
  return *cases;
}

const std::vector<ScoreMaths>& Maths() {
  static const auto* const maths =
      new std::vector<ScoreMaths>{{0.3f, 0, 0}, {0.3f, 2, 0},  {0.3f, 0, 1}, {0.3f, 50, 7},
                                  {1, 0, 32},   {1, 1.5f, 33}, {2, 0, 1000}};
  return *maths;
}

AttentionGroup RandomGroup(const Case& c, torch::ScalarType dtype) {
  AttentionGroup group;
  group.n_sequences = c.n_sequences;
  group.q = torch::randn({c.n_sequences * c.n_queries, c.n_heads, c.d_head}).to(dtype);
  group.k = torch::randn({c.n_sequences * c.n_keys, c.n_kv_heads, c.d_head}).to(dtype);
  group.v = torch::randn({c.n_sequences * c.n_keys, c.n_kv_heads, c.d_head}).to(dtype);
  group.z = torch::full({c.n_sequences * c.n_queries, c.n_heads, c.d_head}, 1e9, dtype);
  return group;
}

// By the definition, query by query, in float64.
torch::Tensor ByDefinition(const AttentionGroup& group, const ScoreMaths& maths) {
  const torch::Tensor q = group.q.to(torch::kFloat64);
  const torch::Tensor k = group.k.to(torch::kFloat64);
  const torch::Tensor v = group.v.to(torch::kFloat64);
  torch::Tensor z = torch::empty(q.sizes(), torch::kFloat64);
  const int64_t n = group.n_queries();
  const int64_t m = group.n_keys();
  const int64_t per_kv_head = q.size(1) / k.size(1);
  for (int64_t s = 0; s < group.n_sequences; ++s) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t end = m - n + i + 1;
      const int64_t begin = maths.window > 0 ? std::max<int64_t>(0, end - maths.window) : 0;
      for (int64_t head = 0; head < q.size(1); ++head) {
        const auto rows = [&](const torch::Tensor& t) {
          return t.select(1, head / per_kv_head).narrow(0, s * m + begin, end - begin);
        };
        torch::Tensor scores = rows(k).mv(q[s * n + i][head]) * maths.scale;
        if (maths.soft_cap > 0) scores = (scores / maths.soft_cap).tanh() * maths.soft_cap;
        z[s * n + i][head] = rows(v).t().mv(scores.softmax(0));
      }
    }
  }
  return z;
}

double MaxError(const torch::Tensor& got, const torch::Tensor& want) {
  return (got.to(torch::kFloat64) - want).abs().max().item<double>();
}

TEST(AttentionTest, FusedAndComposedAgreeWithTheDefinition) {
  torch::manual_seed(6);
  for (const Case& c : Cases()) {
    for (const ScoreMaths& maths : Maths()) {
      AttentionGroup group = RandomGroup(c, torch::kFloat32);
      const torch::Tensor want = ByDefinition(group, maths);
      ASSERT_TRUE(CanFuseAttention(group.q));
      FusedAttention({group}, maths);
      EXPECT_LT(MaxError(group.z, want), kSame)
          << c.n_queries << " of " << c.n_keys << ", window " << maths.window;
      group.z.fill_(1e9);
      ComposedAttention(group, maths, nullptr, nullptr);
      EXPECT_LT(MaxError(group.z, want), kSame)
          << c.n_queries << " of " << c.n_keys << ", window " << maths.window;
    }
  }
}

TEST(AttentionTest, BlocksOfQueriesGiveWhatAllTogetherGive) {
  torch::manual_seed(7);
  const Case c = {2, 50, 64, 4, 2, 8};
  for (const ScoreMaths& maths : Maths()) {
    AttentionGroup group = RandomGroup(c, torch::kFloat32);
    const torch::Tensor want = ByDefinition(group, maths);
    // From one query at a time to all but the last.
    for (int64_t queries : {0, 1, 7, 49}) {
      group.z.fill_(1e9);
      ComposedAttention(group, maths, nullptr, nullptr, queries * 2 * 4 * 64);
      EXPECT_LT(MaxError(group.z, want), kSame) << queries;
    }
  }
}

TEST(AttentionTest, ObserversSeeWholeScoresWhateverTheirSize) {
  torch::manual_seed(7);
  AttentionGroup group = RandomGroup({2, 20, 30, 4, 2, 8}, torch::kFloat32);
  int n_calls = 0;
  const AttentionFn see = [&](torch::Tensor& value) {
    EXPECT_EQ(value.sizes(), (torch::IntArrayRef{2, 4, 20, 30}));
    ++n_calls;
  };
  ComposedAttention(group, {1, 0, 4}, see, see, /*max_scores=*/1);
  EXPECT_EQ(n_calls, 2);
}

// Inputs are rounded to bfloat16 here; what is computed from them is not, until the result.
TEST(AttentionTest, Bfloat16IsComputedInFloat32) {
  torch::manual_seed(8);
  for (const Case& c : Cases()) {
    for (const ScoreMaths& maths : Maths()) {
      AttentionGroup group = RandomGroup(c, torch::kBFloat16);
      const torch::Tensor want = ByDefinition(group, maths);
      const torch::Tensor half_unit = want.abs() * 0.00391 + kSame;  // 2^-8 of the result
      FusedAttention({group}, maths);
      EXPECT_TRUE(((group.z.to(torch::kFloat64) - want).abs() <= half_unit).all().item<bool>());
      group.z.fill_(1e9);
      ComposedAttention(group, maths, nullptr, nullptr);
      EXPECT_TRUE(((group.z.to(torch::kFloat64) - want).abs() <= half_unit).all().item<bool>());
    }
  }
}

TEST(AttentionTest, KeysOutsideTheWindowHaveNoInfluence) {
  torch::manual_seed(9);
  AttentionGroup group = RandomGroup({1, 60, 60, 2, 1, 8}, torch::kFloat32);
  const ScoreMaths maths = {0.3f, 0, 9};
  FusedAttention({group}, maths);
  const torch::Tensor before = group.z.clone();
  group.k.narrow(0, 0, 20).fill_(std::numeric_limits<float>::quiet_NaN());
  group.v.narrow(0, 0, 20).fill_(std::numeric_limits<float>::quiet_NaN());
  const AttentionGroup rest = {1, group.q.narrow(0, 28, 32).contiguous(), group.k, group.v,
                               torch::empty({32, 2, 8})};
  FusedAttention({rest}, maths);  // the first of these queries sees keys 20 to 28
  EXPECT_LT(MaxError(rest.z, before.narrow(0, 28, 32).to(torch::kFloat64)), 1e-6);
}

}  // namespace
}  // namespace featurescope
