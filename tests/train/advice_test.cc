#include "server/train/advice.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace featurescope {
namespace {

TrainingSpec Spec(const std::string& architecture) {
  TrainingSpec spec;
  spec.architecture = architecture;
  spec.d_sae = 1024;
  if (TraitsOf(spec).topk_family()) spec.k = 32;
  spec.batch_size = 10;
  spec.tokens = 10'000;  // 1000 steps, 50 of warm-up
  return ResolveForWidths(spec, {64, 64}, 1).value();
}

using Values = std::map<std::string, double>;

// Points every ten steps; `values` of a healthy run, changed by `change` as the run goes from 0 to
// 1.
std::vector<RunMetrics> Points(const std::function<void(double, Values&)>& change) {
  std::vector<RunMetrics> points;
  for (uint64_t step = 10; step <= 1000; step += 10) {
    RunMetrics point;
    point.step = step;
    point.values = {{"loss", 10},         {"l0", 32},         {"explained_variance", 0.9},
                    {"dead_share", 0.05}, {"dense_share", 0}, {"threshold", 0.1 + 1e-4 * step}};
    change(static_cast<double>(step) / 1000, point.values);
    points.push_back(point);
  }
  return points;
}

std::set<std::string> Rules(const std::vector<RunMetrics>& points, const TrainingSpec& spec) {
  std::set<std::string> rules;
  for (const Advice& advice : AdviseOnTraining(points, spec)) {
    EXPECT_FALSE(advice.evidence.empty());
    EXPECT_FALSE(advice.suggestion.empty());
    rules.insert(advice.rule);
  }
  return rules;
}

TEST(AdviceTest, AHealthyRunGetsNone) {
  const auto points = Points([](double, Values&) {});
  for (const char* architecture : {"topk", "standard", "jumprelu", "gated"}) {
    EXPECT_TRUE(Rules(points, Spec(architecture)).empty()) << architecture;
  }
}

TEST(AdviceTest, EachRuleSeesItsFault) {
  const auto rules = [](const char* architecture,
                        const std::function<void(double, Values&)>& change) {
    return Rules(Points(change), Spec(architecture));
  };
  using Set = std::set<std::string>;
  EXPECT_EQ(rules("standard", [](double, Values& v) { v["l0"] = 412; }), Set{"l0_high"});
  EXPECT_EQ(rules("standard", [](double, Values& v) { v["l0"] = 3; }), Set{"l0_low"});
  EXPECT_EQ(rules("topk", [](double t, Values& v) { v["dead_share"] = 0.5 * t; }),
            Set{"dead_features"});
  EXPECT_EQ(rules("topk", [](double, Values& v) { v["explained_variance"] = 0.5; }),
            Set{"low_explained_variance"});
  EXPECT_EQ(rules("topk", [](double t, Values& v) { v["loss"] = 8 + 6 * t; }), Set{"loss_rises"});
  EXPECT_EQ(rules("jumprelu", [](double, Values& v) { v["threshold"] = 0.001; }),
            Set{"threshold_frozen"});
  EXPECT_EQ(rules("gated", [](double, Values& v) { v["dense_share"] = 0.2; }),
            Set{"dense_features"});
  EXPECT_EQ(rules("topk", [](double, Values& v) { v["heldout_explained_variance"] = 0.7; }),
            Set{"overfits"});
}

TEST(AdviceTest, NothingIsSaidWhileThingsWarmUp) {
  auto points = Points([](double, Values& v) { v["l0"] = 900; });
  points.resize(5);
  EXPECT_TRUE(Rules(points, Spec("standard")).empty());
  EXPECT_TRUE(Rules({}, Spec("standard")).empty());
}

TEST(AdviceTest, SuggestionsFitTheArchitecture) {
  const auto points = Points([](double, Values& v) { v["l0"] = 500; });
  EXPECT_NE(AdviseOnTraining(points, Spec("topk"))[0].suggestion.find("lower k"),
            std::string::npos);
  EXPECT_NE(AdviseOnTraining(points, Spec("standard"))[0].suggestion.find("higher l1_coefficient"),
            std::string::npos);
  EXPECT_NE(AdviseOnTraining(points, Spec("jumprelu"))[0].suggestion.find("target_l0"),
            std::string::npos);
}

}  // namespace
}  // namespace featurescope
