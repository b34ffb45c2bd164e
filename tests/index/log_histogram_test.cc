#include "server/index/log_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace featurescope {
namespace {

std::vector<float> LogUniform(int n, double low, double high) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> exponent(std::log2(low), std::log2(high));
  std::vector<float> values;
  for (int i = 0; i < n; ++i) values.push_back(static_cast<float>(std::exp2(exponent(random))));
  return values;
}

TEST(LogHistogramTest, ValuesLieBetweenTheEdgesOfTheirBin) {
  for (float value : LogUniform(200000, 1e-5, 1e5)) {
    const int bin = LogHistogram::BinOf(value);
    ASSERT_LE(LogHistogram::Edge(bin), value);
    ASSERT_LT(value, LogHistogram::Edge(bin + 1));
  }
}

TEST(LogHistogramTest, AnEdgeBelongsToTheBinAboveIt) {
  for (int bin = 0; bin < LogHistogram::kBins; ++bin) {
    const float edge = LogHistogram::Edge(bin);
    EXPECT_EQ(LogHistogram::BinOf(edge), bin);
    EXPECT_EQ(LogHistogram::BinOf(std::nextafter(edge, 0.0f)), std::max(0, bin - 1));
  }
}

TEST(LogHistogramTest, TheEndsTakeWhatIsBeyondThem) {
  EXPECT_EQ(LogHistogram::BinOf(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(LogHistogram::BinOf(1e-20f), 0);
  EXPECT_EQ(LogHistogram::BinOf(std::numeric_limits<float>::max()), LogHistogram::kBins - 1);
  EXPECT_FLOAT_EQ(LogHistogram::Edge(0), std::ldexp(1.0f, -20));
  EXPECT_FLOAT_EQ(LogHistogram::Edge(LogHistogram::kBins), std::ldexp(1.0f, 20));
}

TEST(LogHistogramTest, PartsMergeIntoTheWhole) {
  const std::vector<float> values = LogUniform(1000, 1e-3, 1e3);
  for (size_t cut : {size_t{0}, size_t{1}, size_t{377}, values.size()}) {
    LogHistogram whole, first, second;
    for (size_t i = 0; i < values.size(); ++i) {
      whole.Add(LogHistogram::BinOf(values[i]));
      (i < cut ? first : second).Add(LogHistogram::BinOf(values[i]));
    }
    first.Merge(second);
    EXPECT_EQ(first, whole);
    EXPECT_EQ(whole.total(), values.size());
  }
}

TEST(LogHistogramTest, CountsBelowAreOffByLessThanOneBin) {
  std::vector<float> values = LogUniform(20000, 0.01, 10);
  LogHistogram histogram;
  for (float value : values) histogram.Add(LogHistogram::BinOf(value));
  std::sort(values.begin(), values.end());
  const double max = values.back();
  for (double at = 0.005; at < 11; at *= 1.013) {
    const auto exact =
        static_cast<double>(std::lower_bound(values.begin(), values.end(), at) - values.begin());
    const int bin = LogHistogram::BinOf(static_cast<float>(at)) - histogram.first_bin();
    const bool inside = bin >= 0 && bin < static_cast<int>(histogram.counts().size());
    const double slack = inside ? histogram.counts()[bin] : 0;
    EXPECT_NEAR(histogram.CountBelow(at, max), exact, slack + 1e-9) << at;
  }
  EXPECT_EQ(histogram.CountBelow(max * 1.01, max), static_cast<double>(values.size()));
}

TEST(LogHistogramTest, QuantilesAreWithinABinOfTheExactOnes) {
  std::vector<float> values = LogUniform(5001, 0.01, 10);
  LogHistogram histogram;
  for (float value : values) histogram.Add(LogHistogram::BinOf(value));
  std::sort(values.begin(), values.end());
  for (double q : {0.01, 0.5, 0.9, 0.99, 1.0}) {
    const double exact = values[static_cast<size_t>(q * 5000)];
    EXPECT_NEAR(histogram.Quantile(q, values.back()), exact, exact * 0.05) << q;
  }
  EXPECT_EQ(LogHistogram().Quantile(0.5, 0), 0);
}

TEST(LogHistogramTest, AQuantileNeverPassesTheMaximum) {
  LogHistogram one;
  one.Add(LogHistogram::BinOf(3.21f));
  for (double q : {0.0, 0.5, 0.99, 1.0}) EXPECT_LE(one.Quantile(q, 3.21f), 3.21f);
  LogHistogram huge;
  huge.Add(LogHistogram::kBins - 1);
  EXPECT_LE(huge.Quantile(0.99, 3e9), 3e9);
}

TEST(LogHistogramTest, RebinningKeepsAllCountsInFewBins) {
  for (double high : {0.011, 0.5, 1e5, 1e7}) {
    const std::vector<float> values = LogUniform(3000, 0.01, high);
    LogHistogram histogram;
    for (float value : values) histogram.Add(LogHistogram::BinOf(value));
    const LogHistogram::Rebinned rebinned = histogram.Rebin(50);
    ASSERT_LE(rebinned.counts.size(), 50u);
    ASSERT_EQ(rebinned.edges.size(), rebinned.counts.size() + 1);
    for (size_t i = 0; i < rebinned.counts.size(); ++i) {
      ASSERT_LT(rebinned.edges[i], rebinned.edges[i + 1]);
      uint64_t exact = 0;
      const bool last = i + 1 == rebinned.counts.size();
      for (float value : values) {
        exact += value >= rebinned.edges[i] && (last || value < rebinned.edges[i + 1]);
      }
      EXPECT_EQ(rebinned.counts[i], exact);
    }
    EXPECT_GT(rebinned.counts.front(), 0u);
    EXPECT_GT(rebinned.counts.back(), 0u);
  }
  EXPECT_TRUE(LogHistogram().Rebin(50).edges.empty());
}

}  // namespace
}  // namespace featurescope
