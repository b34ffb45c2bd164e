#include "server/model/sampling.h"

#include <cmath>
#include <limits>
#include <map>

#include "gtest/gtest.h"

namespace featurescope {
namespace {

torch::Tensor Logits() { return torch::tensor({1.0f, 3.0f, 2.0f, 3.0f, -1.0f}); }

std::map<uint32_t, int> Draw(const SamplingOptions& options, const torch::Tensor& logits, int n) {
  std::map<uint32_t, int> counts;
  for (int i = 0; i < n; ++i) {
    // A new sampler each time: what it has generated must not count.
    SamplingOptions other = options;
    other.seed = options.seed + static_cast<uint64_t>(i);
    ++counts[Sampler(other).Next(logits, 0).chosen.token];
  }
  return counts;
}

TEST(SamplingTest, GreedyTakesTheLargestAndTheSmallerIdOnTies) {
  Sampler sampler({});
  const SampledToken token = sampler.Next(Logits(), 0);
  EXPECT_EQ(token.chosen.token, 1u);
  const float expected = torch::log_softmax(Logits(), 0)[1].item<float>();
  EXPECT_NEAR(token.chosen.logprob, expected, 1e-6);
  EXPECT_TRUE(token.top.empty());
}

TEST(SamplingTest, TopLogprobsFallAndAreTheModelsOwn) {
  SamplingOptions options;
  options.temperature = 2;
  options.frequency_penalty = 5;
  Sampler sampler(options);
  sampler.Next(Logits(), 0);
  const SampledToken token = sampler.Next(Logits(), 3);
  ASSERT_EQ(token.top.size(), 3u);
  const torch::Tensor expected = torch::log_softmax(Logits(), 0);
  const uint32_t order[] = {1, 3, 2};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(token.top[i].token, order[i]);
    EXPECT_NEAR(token.top[i].logprob, expected[order[i]].item<float>(), 1e-6);
  }
  EXPECT_EQ(sampler.Next(Logits(), 100).top.size(), 5u);
}

TEST(SamplingTest, DrawsFollowTheProbabilitiesAtTheTemperature) {
  SamplingOptions options;
  options.temperature = 0.7;
  options.seed = 100;
  constexpr int kDraws = 20000;
  std::map<uint32_t, int> counts = Draw(options, Logits(), kDraws);
  const torch::Tensor expected = torch::softmax(Logits() / 0.7, 0);
  for (uint32_t token = 0; token < 5; ++token) {
    const double p = expected[token].item<float>();
    const double deviation = std::sqrt(p * (1 - p) / kDraws);
    EXPECT_NEAR(counts[token] / double{kDraws}, p, 4 * deviation + 1e-9) << token;
  }
}

TEST(SamplingTest, TopKAndTopPCutTheTail) {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 2;
  std::map<uint32_t, int> counts = Draw(options, Logits(), 2000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_GT(counts[1], 0);
  EXPECT_GT(counts[3], 0);
  options.top_k = 0;
  // 1 and 3 have 0.41 each: both are needed to reach 0.5, 2 is needed for 0.9.
  options.top_p = 0.5;
  EXPECT_EQ(Draw(options, Logits(), 2000).size(), 2u);
  options.top_p = 0.9;
  EXPECT_EQ(Draw(options, Logits(), 2000).size(), 3u);
  options.top_p = 1e-9;
  EXPECT_EQ(Draw(options, Logits(), 100).size(), 1u);
}

TEST(SamplingTest, DrawsDependOnlyOnSeedNumberAndLogits) {
  SamplingOptions options;
  options.temperature = 1;
  options.seed = 42;
  Sampler a(options);
  Sampler b(options);
  options.seed = 43;
  Sampler c(options);
  bool differs = false;
  torch::manual_seed(1);
  for (int i = 0; i < 50; ++i) {
    const torch::Tensor logits = torch::randn({50});
    const uint32_t token = a.Next(logits, 0).chosen.token;
    EXPECT_EQ(b.Next(logits, 5).chosen.token, token);
    differs |= c.Next(logits, 0).chosen.token != token;
  }
  EXPECT_TRUE(differs);
}

TEST(SamplingTest, PenaltiesActOnWhatWasGenerated) {
  SamplingOptions options;
  options.presence_penalty = 0.5;
  Sampler presence(options);
  EXPECT_EQ(presence.Next(Logits(), 0).chosen.token, 1u);
  EXPECT_EQ(presence.Next(Logits(), 0).chosen.token, 3u);
  EXPECT_EQ(presence.Next(Logits(), 0).chosen.token, 1u);  // 2.5 is still above 2.0
  options.presence_penalty = 0;
  options.frequency_penalty = 0.6;
  Sampler frequency(options);
  // Logits fall by 0.6 each time: 3, 3, 2.4, 2.4, then 2.0 is the largest.
  const uint32_t expected[] = {1, 3, 1, 3, 2};
  for (uint32_t token : expected) EXPECT_EQ(frequency.Next(Logits(), 0).chosen.token, token);
}

TEST(SamplingTest, ImpossibleLogitsAreNeverChosen) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const torch::Tensor logits = torch::tensor({std::nanf(""), -kInfinity, 1.0f, kInfinity});
  SamplingOptions options;
  options.temperature = 1;
  EXPECT_EQ(Draw(options, logits, 100).size(), 1u);
  EXPECT_EQ(Sampler({}).Next(logits, 2).chosen.token, 2u);
  const SampledToken none = Sampler({}).Next(torch::full({3}, std::nanf("")), 2);
  EXPECT_EQ(none.chosen.token, 0u);
  EXPECT_TRUE(std::isnan(none.chosen.logprob));
}

TEST(SamplingTest, ValidateNamesTheField) {
  const auto message = [](void (*change)(SamplingOptions&)) {
    SamplingOptions options;
    change(options);
    const absl::Status status = options.Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_TRUE(SamplingOptions().Validate().ok());
  EXPECT_EQ(message([](SamplingOptions& o) { o.temperature = -1; }),
            "temperature -1 is out of range [0, 100]");
  EXPECT_NE(message([](SamplingOptions& o) { o.temperature = std::nan(""); }).find("temperature"),
            std::string::npos);
  EXPECT_EQ(message([](SamplingOptions& o) { o.top_p = 0; }), "top_p 0 is out of range (0, 1]");
  EXPECT_NE(message([](SamplingOptions& o) { o.top_k = -1; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](SamplingOptions& o) { o.frequency_penalty = 1e9; }).find("frequency"),
            std::string::npos);
  EXPECT_NE(message([](SamplingOptions& o) { o.presence_penalty = 1e9; }).find("presence"),
            std::string::npos);
}

}  // namespace
}  // namespace featurescope
