#include "server/index/bands.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/index/synthetic.h"

namespace featurescope {
namespace {

constexpr uint32_t kBands = 10;

TEST(BandsTest, CoverTheRangeWithoutAGap) {
  const SyntheticCorpus corpus = MakeCorpus();
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 4);
  const FeatureAccumulator& feature = *features.feature(0);
  const std::vector<Band> bands = AssembleBands(feature, kBands, 5);
  ASSERT_EQ(bands.size(), kBands);
  EXPECT_EQ(bands.front().high, feature.max);
  EXPECT_EQ(bands.back().low, 0);
  double share = 0;
  for (uint32_t i = 0; i < kBands; ++i) {
    share += bands[i].share;
    EXPECT_NEAR(bands[i].high - bands[i].low, feature.max / kBands, 1e-5 * feature.max);
    if (i > 0) {
      EXPECT_EQ(bands[i].high, bands[i - 1].low);
    }
  }
  EXPECT_NEAR(share, 1, 1e-12);
}

TEST(BandsTest, TheBoundsDecideTheBand) {
  for (uint32_t n : {1u, 2u, 7u, 10u, 50u}) {
    const float max = 3.7f;
    for (uint32_t band = 0; band < n; ++band) {
      const auto low = static_cast<float>(static_cast<double>(max) * (n - 1 - band) / n);
      if (low > 0) {
        EXPECT_EQ(BandOf(low, max, n), band);
        EXPECT_EQ(BandOf(std::nextafter(low, 0.0f), max, n), band + 1);
      }
    }
    EXPECT_EQ(BandOf(max, max, n), 0u);
    EXPECT_EQ(BandOf(1e-30f, max, n), n - 1);
  }
}

TEST(BandsTest, SharesAgreeWithCountingUpToTheBinsThatTheBoundsCut) {
  const SyntheticCorpus corpus = MakeCorpus(600);
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 40);
  for (int f = 0; f < 3; ++f) {
    const FeatureAccumulator& feature = *features.feature(f);
    const std::vector<Band> bands = AssembleBands(feature, kBands, 5);
    for (const Band& band : bands) {
      double exact = 0;
      for (int row = 0; row < corpus.n_rows(); ++row) {
        const float act = corpus.acts[row][f];
        exact += corpus.counted[row] && act > 0 && act >= band.low &&
                 (act < band.high || band.high == feature.max);
      }
      EXPECT_NEAR(band.share, exact / static_cast<double>(feature.sums.n), 0.02);
    }
  }
}

TEST(BandsTest, ExamplesLieInTheirBandAndInDifferentContexts) {
  const SyntheticCorpus corpus = MakeCorpus(300);
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 40);
  for (int f = 0; f < corpus.n_features - 2; ++f) {
    for (const Band& band : AssembleBands(*features.feature(f), kBands, 5)) {
      std::set<uint64_t> contexts;
      for (const Example* example : band.examples) {
        EXPECT_GE(example->activation, band.low);
        EXPECT_LE(example->activation, band.high);
        const auto row = example->context * corpus.context_size + example->position;
        EXPECT_EQ(corpus.acts[row][f], example->activation);
        EXPECT_TRUE(corpus.counted[row]);
        contexts.insert(example->context);
      }
      EXPECT_LE(band.examples.size(), 5u);
      if (f <= 1) {
        EXPECT_EQ(contexts.size(), band.examples.size()) << f;
      }
    }
  }
}

TEST(BandsTest, ABandWithManyActivationsGetsAllItsExamples) {
  const SyntheticCorpus corpus = MakeCorpus(600);
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 40);
  for (int f = 0; f < 5; ++f) {
    const FeatureAccumulator& feature = *features.feature(f);
    for (const Band& band : AssembleBands(feature, kBands, 5)) {
      size_t exact = 0;
      for (int row = 0; row < corpus.n_rows(); ++row) {
        const float act = corpus.acts[row][f];
        exact += corpus.counted[row] && act > 0 && act >= band.low && act <= band.high;
      }
      if (exact >= 20) {
        EXPECT_EQ(band.examples.size(), 5u) << f << " " << band.low;
      } else {
        EXPECT_GE(band.examples.size(), std::min<size_t>(exact, 3)) << f << " " << band.low;
      }
    }
  }
}

}  // namespace
}  // namespace featurescope
