#include "server/index/feature_accumulators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "server/formats/file.h"
#include "tests/index/synthetic.h"

namespace featurescope {
namespace {

// All of feature `f` that counts, naively.
struct Naive {
  double n = 0, mean = 0, std = 0, skewness = 0, kurtosis = 0, max = 0;
};

Naive NaiveStatistics(const SyntheticCorpus& corpus, int f) {
  std::vector<double> values;
  for (int row = 0; row < corpus.n_rows(); ++row) {
    if (corpus.counted[row] && corpus.acts[row][f] > 0) values.push_back(corpus.acts[row][f]);
  }
  Naive result;
  result.n = static_cast<double>(values.size());
  for (double v : values) {
    result.mean += v / result.n;
    result.max = std::max(result.max, v);
  }
  double m2 = 0, m3 = 0, m4 = 0;
  for (double v : values) {
    const double d = v - result.mean;
    m2 += d * d / result.n;
    m3 += d * d * d / result.n;
    m4 += d * d * d * d / result.n;
  }
  result.std = std::sqrt(m2);
  if (m2 > 0) {
    result.skewness = m3 / std::pow(m2, 1.5);
    result.kurtosis = m4 / (m2 * m2) - 3;
  }
  return result;
}

void ExpectSame(const FeatureAccumulators& a, const FeatureAccumulators& b, bool bitwise) {
  EXPECT_EQ(a.n_counted_tokens(), b.n_counted_tokens());
  EXPECT_EQ(a.n_activations(), b.n_activations());
  ASSERT_EQ(a.d_sae(), b.d_sae());
  for (int64_t f = 0; f < a.d_sae(); ++f) {
    ASSERT_EQ(a.feature(f) == nullptr, b.feature(f) == nullptr) << f;
    if (a.feature(f) == nullptr) continue;
    EXPECT_EQ(a.feature(f)->max, b.feature(f)->max);
    EXPECT_EQ(a.feature(f)->histogram, b.feature(f)->histogram);
    EXPECT_EQ(a.feature(f)->top, b.feature(f)->top);
    EXPECT_EQ(a.feature(f)->samples, b.feature(f)->samples);
    EXPECT_EQ(a.feature(f)->sums.n, b.feature(f)->sums.n);
    const Moments x = MomentsOf(a.feature(f)->sums);
    const Moments y = MomentsOf(b.feature(f)->sums);
    const double tolerance = bitwise ? 0 : 1e-10;
    EXPECT_NEAR(x.mean, y.mean, tolerance);
    EXPECT_NEAR(x.std, y.std, tolerance);
    EXPECT_NEAR(x.skewness, y.skewness, tolerance * 100);
    EXPECT_NEAR(x.kurtosis, y.kurtosis, tolerance * 1000);
  }
}

TEST(FeatureAccumulatorsTest, StatisticsAgreeWithANaiveComputation) {
  const SyntheticCorpus corpus = MakeCorpus();
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 3);
  double activations = 0;
  for (int f = 0; f < corpus.n_features; ++f) {
    const Naive naive = NaiveStatistics(corpus, f);
    activations += naive.n;
    const FeatureAccumulator* feature = features.feature(f);
    ASSERT_EQ(feature != nullptr, naive.n > 0) << f;
    if (feature == nullptr) continue;
    const Moments moments = MomentsOf(feature->sums);
    EXPECT_EQ(static_cast<double>(feature->sums.n), naive.n);
    EXPECT_EQ(feature->max, naive.max);
    EXPECT_NEAR(moments.mean, naive.mean, 1e-12 * naive.mean);
    EXPECT_NEAR(moments.std, naive.std, 1e-9);
    EXPECT_NEAR(moments.skewness, naive.skewness, 1e-9);
    EXPECT_NEAR(moments.kurtosis, naive.kurtosis, 1e-8);
    EXPECT_EQ(feature->histogram.total(), feature->sums.n);
  }
  EXPECT_EQ(features.feature(corpus.n_features - 1), nullptr) << "a dead feature takes no memory";
  EXPECT_EQ(static_cast<double>(features.n_activations()), activations);
  EXPECT_EQ(features.n_counted_tokens(), 40u * 15 - 8);
}

TEST(FeatureAccumulatorsTest, HigherMomentsSurviveAMeanFarAboveTheSpread) {
  PowerSums sums;
  for (int i = 0; i < 3000; ++i) sums.Add(100000.0f + static_cast<float>(i % 3) / 128);
  const Moments moments = MomentsOf(sums);
  EXPECT_NEAR(moments.std, std::sqrt(2.0 / 3) / 128, 1e-9);
  EXPECT_NEAR(moments.skewness, 0, 1e-6);
  EXPECT_NEAR(moments.kurtosis, -1.5, 1e-6);
}

TEST(FeatureAccumulatorsTest, AConstantFeatureHasNoSpread) {
  PowerSums first, second;
  for (int i = 0; i < 10; ++i) (i < 4 ? first : second).Add(0.1f);
  first.Merge(second);
  const Moments moments = MomentsOf(first);
  EXPECT_EQ(moments.std, 0);
  EXPECT_EQ(moments.skewness, 0);
  EXPECT_EQ(moments.kurtosis, 0);
}

TEST(FeatureAccumulatorsTest, TopExamplesAreTheStrongestPositionsOfTheStrongestContexts) {
  const SyntheticCorpus corpus = MakeCorpus();
  AccumulatorOptions options;
  options.top_examples = 5;
  options.window = 2;
  const FeatureAccumulators features = Accumulate(corpus, options, 0, corpus.n_contexts, 7);
  for (int f = 0; f < 8; ++f) {
    std::vector<std::pair<float, int>> best;  // of each context: activation, row
    for (int c = 0; c < corpus.n_contexts; ++c) {
      std::pair<float, int> strongest = {0, -1};
      for (int row = 0; row < corpus.n_rows(); ++row) {
        if (corpus.context_of(row) != c || !corpus.counted[row]) continue;
        if (corpus.acts[row][f] > strongest.first) strongest = {corpus.acts[row][f], row};
      }
      if (strongest.second >= 0) best.push_back(strongest);
    }
    std::sort(best.begin(), best.end(), [](auto a, auto b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    const auto& top = features.feature(f)->top.examples();
    ASSERT_EQ(top.size(), std::min<size_t>(5, best.size()));
    for (size_t i = 0; i < top.size(); ++i) {
      const int row = best[i].second;
      EXPECT_EQ(top[i].activation, best[i].first);
      EXPECT_EQ(static_cast<int>(top[i].context), corpus.context_of(row));
      EXPECT_EQ(static_cast<int>(top[i].position), row % corpus.context_size);
      std::vector<WindowActivation> window;
      for (int at = std::max(0, row - 2); at <= std::min(corpus.n_rows() - 1, row + 2); ++at) {
        if (corpus.context_of(at) == corpus.context_of(row) && corpus.counted[at] &&
            corpus.acts[at][f] > 0) {
          window.push_back({at - row, corpus.acts[at][f]});
        }
      }
      EXPECT_EQ(top[i].window, window);
    }
  }
}

TEST(FeatureAccumulatorsTest, SplitAnywhereAndMergedIsTheSameAsTheWhole) {
  const SyntheticCorpus corpus = MakeCorpus();
  const FeatureAccumulators whole = Accumulate(corpus, {}, 0, corpus.n_contexts, 1);
  for (int cut : {0, 1, 13, 39, 40}) {
    FeatureAccumulators first = Accumulate(corpus, {}, 0, cut, 1);
    FeatureAccumulators second = Accumulate(corpus, {}, cut, corpus.n_contexts, 1);
    ASSERT_TRUE(second.Merge(std::move(first)).ok());
    ExpectSame(second, whole, /*bitwise=*/false);
  }
}

TEST(FeatureAccumulatorsTest, BatchesAndThreadsDoNotMatter) {
  const SyntheticCorpus corpus = MakeCorpus();
  const FeatureAccumulators whole = Accumulate(corpus, {}, 0, corpus.n_contexts, 1);
  ExpectSame(Accumulate(corpus, {}, 0, corpus.n_contexts, 7), whole, /*bitwise=*/true);
  ExpectSame(Accumulate(corpus, {}, 0, corpus.n_contexts, 40, 5), whole, /*bitwise=*/true);
  ExpectSame(Accumulate(corpus, {}, 0, corpus.n_contexts, 3, 64), whole, /*bitwise=*/true);
}

TEST(FeatureAccumulatorsTest, OtherSeedsDrawOtherSamplesButTheSameStatistics) {
  const SyntheticCorpus corpus = MakeCorpus();
  AccumulatorOptions options;
  options.seed = 1;
  const FeatureAccumulators a = Accumulate(corpus, {}, 0, corpus.n_contexts, 1);
  const FeatureAccumulators b = Accumulate(corpus, options, 0, corpus.n_contexts, 1);
  EXPECT_EQ(a.feature(0)->histogram, b.feature(0)->histogram);
  EXPECT_FALSE(a.feature(0)->samples == b.feature(0)->samples);
}

TEST(FeatureAccumulatorsTest, WhatDoesNotFitIsNotMerged) {
  FeatureAccumulators features(4, {});
  EXPECT_EQ(features.Merge(FeatureAccumulators(5, {})).code(), absl::StatusCode::kInvalidArgument);
  AccumulatorOptions options;
  options.window = 3;
  EXPECT_EQ(features.Merge(FeatureAccumulators(4, options)).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(FeatureAccumulatorsTest, AnInfiniteActivationIsAnErrorThatSaysWhere) {
  SyntheticCorpus corpus = MakeCorpus();
  corpus.acts[2 * 16 + 5][3] = std::numeric_limits<float>::infinity();
  SyntheticBatch batch;
  FillBatch(corpus, 1, 4, &batch);
  FeatureAccumulators features(corpus.n_features, {});
  const absl::Status status = features.Add(batch.view, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("feature 3"), testing::HasSubstr("token 5"),
                             testing::HasSubstr("context 2")));
}

TEST(FeatureAccumulatorsTest, MemoryStaysBelowTheStatedBound) {
  const SyntheticCorpus corpus = MakeCorpus(400);
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 40);
  EXPECT_LE(features.memory_bytes(), FeatureAccumulators::MemoryBound(corpus.n_features, {}));
}

class AccumulatorBytesTest : public testing::Test {
 protected:
  AccumulatorBytesTest() : path_(testing::TempDir() + "/accumulators") {}
  ~AccumulatorBytesTest() override { std::filesystem::remove(path_); }

  std::string Write(const FeatureAccumulators& features) {
    auto file = AtomicFile::Create(path_);
    EXPECT_TRUE(file.ok()) << file.status();
    CheckpointWriter writer(*std::move(file));
    features.Write(writer);
    EXPECT_TRUE(writer.Finish().ok());
    return *ReadFile(path_, 1 << 30);
  }

  std::string path_;
};

TEST_F(AccumulatorBytesTest, ComeBackUnchanged) {
  const SyntheticCorpus corpus = MakeCorpus();
  const FeatureAccumulators features = Accumulate(corpus, {}, 0, corpus.n_contexts, 3);
  const std::string bytes = Write(features);
  auto reader = CheckpointReader::Create(bytes);
  ASSERT_TRUE(reader.ok()) << reader.status();
  FeatureAccumulators back(corpus.n_features, {});
  ASSERT_TRUE(back.Read(*reader));
  EXPECT_EQ(reader->remaining(), 0u);
  ExpectSame(back, features, /*bitwise=*/true);
}

TEST_F(AccumulatorBytesTest, AnyChangedByteIsNoticed) {
  const SyntheticCorpus corpus = MakeCorpus(2);
  const std::string bytes = Write(Accumulate(corpus, {}, 0, 2, 1));
  for (size_t i = 0; i < bytes.size(); i += 1 + i / 50) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    EXPECT_EQ(CheckpointReader::Create(damaged).status().code(), absl::StatusCode::kDataLoss) << i;
    EXPECT_EQ(CheckpointReader::Create(absl::string_view(bytes).substr(0, i)).status().code(),
              absl::StatusCode::kDataLoss)
        << i;
  }
}

TEST_F(AccumulatorBytesTest, OfAnotherWidthAreRefused) {
  const SyntheticCorpus corpus = MakeCorpus(2);
  const std::string bytes = Write(Accumulate(corpus, {}, 0, 2, 1));
  auto reader = CheckpointReader::Create(bytes);
  ASSERT_TRUE(reader.ok());
  FeatureAccumulators back(corpus.n_features + 1, {});
  EXPECT_FALSE(back.Read(*reader));
}

}  // namespace
}  // namespace featurescope
