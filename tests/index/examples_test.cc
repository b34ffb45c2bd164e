#include "server/index/examples.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "server/base/hash.h"

namespace featurescope {
namespace {

constexpr int kStrata = 16;
constexpr size_t kPerStratum = 4;

// Activations of many sizes, every place once, with ties.
std::vector<Example> SomeExamples(int n) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> exponent(-12, 5);
  std::vector<Example> examples;
  for (int i = 0; i < n; ++i) {
    Example example;
    example.activation = static_cast<float>(std::exp2(std::round(exponent(random) * 8) / 8));
    example.context = i / 7;
    example.position = i % 7;
    example.priority = Mix64(i);
    examples.push_back(example);
  }
  return examples;
}

StratifiedSamples SampleOf(const std::vector<Example>& examples) {
  StratifiedSamples samples(kStrata, kPerStratum);
  for (const Example& example : examples) {
    samples.CoverRange(example.activation);
    if (samples.Wants(example.activation, example.priority)) samples.Insert(example);
  }
  return samples;
}

TEST(TopExamplesTest, KeepsTheStrongestInWhateverOrderTheyCome) {
  std::vector<Example> examples = SomeExamples(500);
  std::vector<Example> sorted = examples;
  std::sort(sorted.begin(), sorted.end(), [](const Example& a, const Example& b) {
    if (a.activation != b.activation) return a.activation > b.activation;
    return a.context != b.context ? a.context < b.context : a.position < b.position;
  });
  sorted.resize(20);
  std::mt19937 random(5);
  for (int round = 0; round < 5; ++round) {
    std::shuffle(examples.begin(), examples.end(), random);
    TopExamples top(20);
    for (const Example& example : examples) {
      if (top.Wants(example.activation)) top.Insert(example);
    }
    EXPECT_EQ(top.examples(), sorted);
  }
}

TEST(TopExamplesTest, PartsMergeIntoTheWhole) {
  const std::vector<Example> examples = SomeExamples(100);
  for (size_t cut : {0, 1, 5, 50, 99, 100}) {
    TopExamples whole(20), first(20), second(20);
    for (size_t i = 0; i < examples.size(); ++i) {
      whole.Insert(examples[i]);
      (i < cut ? first : second).Insert(examples[i]);
    }
    first.Merge(second);
    EXPECT_EQ(first, whole);
  }
}

TEST(StratifiedSamplesTest, KeepsTheLowestPrioritiesOfEveryStratum) {
  const std::vector<Example> examples = SomeExamples(3000);
  float max = 0;
  for (const Example& example : examples) max = std::max(max, example.activation);
  const double range = std::ldexp(1.0, std::ilogb(max) + 1);
  std::map<int, std::vector<Example>> strata;
  for (const Example& example : examples) {
    strata[static_cast<int>(example.activation / range * kStrata)].push_back(example);
  }
  std::vector<Example> expected;
  for (auto& [index, stratum] : strata) {
    std::sort(stratum.begin(), stratum.end(),
              [](const Example& a, const Example& b) { return a.priority < b.priority; });
    if (stratum.size() > kPerStratum) stratum.resize(kPerStratum);
    expected.insert(expected.end(), stratum.begin(), stratum.end());
  }
  std::vector<Example> kept;
  const StratifiedSamples samples = SampleOf(examples);
  for (const Example* example : samples.examples()) kept.push_back(*example);
  EXPECT_EQ(kept, expected);
}

TEST(StratifiedSamplesTest, DoesNotDependOnTheOrder) {
  std::vector<Example> examples = SomeExamples(2000);
  const StratifiedSamples expected = SampleOf(examples);
  std::mt19937 random(11);
  for (int round = 0; round < 10; ++round) {
    std::shuffle(examples.begin(), examples.end(), random);
    EXPECT_EQ(SampleOf(examples), expected);
  }
}

TEST(StratifiedSamplesTest, PartsMergeIntoTheWhole) {
  std::vector<Example> examples = SomeExamples(1000);
  std::sort(examples.begin(), examples.end(),
            [](const Example& a, const Example& b) { return a.activation < b.activation; });
  const StratifiedSamples whole = SampleOf(examples);
  for (size_t cut : {0, 1, 2, 500, 999, 1000}) {
    const StratifiedSamples first = SampleOf({examples.begin(), examples.begin() + cut});
    const StratifiedSamples second = SampleOf({examples.begin() + cut, examples.end()});
    StratifiedSamples forward = first, backward = second;
    forward.Merge(second);
    backward.Merge(first);
    EXPECT_EQ(forward, whole) << cut;
    EXPECT_EQ(backward, whole) << cut;
  }
}

TEST(StratifiedSamplesTest, TakesTheSmallestAndTheLargestFloats) {
  std::vector<Example> examples(2);
  examples[0].activation = 1e-45f;
  examples[1].activation = 3e38f;
  examples[1].priority = 1;
  EXPECT_EQ(SampleOf(examples).examples().size(), 2u);
}

TEST(StratifiedSamplesTest, KeepsNothingWhereNothingIsAskedFor) {
  StratifiedSamples samples(kStrata, 0);
  samples.CoverRange(1);
  EXPECT_FALSE(samples.Wants(0.5f, 0));
}

TEST(StratifiedSamplesTest, StrataAreNarrowerThanBands) {
  for (uint32_t bands = 1; bands <= 50; ++bands) {
    const int strata = StratifiedSamples::StrataFor(bands);
    EXPECT_GE(strata, static_cast<int>(3 * bands));
    EXPECT_EQ(strata & (strata - 1), 0);
  }
}

}  // namespace
}  // namespace featurescope
