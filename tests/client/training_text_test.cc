#include "client/cli/training_text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TrainedSae Found(const std::string& id, double l0, double explained) {
  return {id, true, {{"l0", l0}, {"explained_variance", explained}}};
}

TEST(TrainingTextTest, OnlyWhatNoOtherBeatsIsParetoOptimal) {
  EXPECT_THAT(ParetoOptimal({Found("a", 10, 0.7), Found("b", 20, 0.8), Found("c", 30, 0.8),
                             Found("d", 20, 0.75), Found("e", 40, 0.9)}),
              ElementsAre(true, true, false, false, true));
  EXPECT_THAT(ParetoOptimal({Found("a", 10, 0.7), Found("b", 10, 0.7)}), ElementsAre(true, true));
  EXPECT_THAT(ParetoOptimal({{"unmeasured", false, {}}}), ElementsAre(false));
}

TEST(TrainingTextTest, SweepsAreSortedByL0WithTheBestMarked) {
  const std::string table =
      SweepTable(Terminal(), {Found("many", 32, 0.9), Found("few", 4, 0.5), Found("bad", 40, 0.4)});
  const size_t few = table.find("few"), many = table.find("many"), bad = table.find("bad");
  EXPECT_LT(few, many);
  EXPECT_LT(many, bad);
  EXPECT_NE(table.substr(few, many - few).find('*'), std::string::npos);
  EXPECT_EQ(table.substr(bad, table.find('\n', bad) - bad).find('*'), std::string::npos);
}

TEST(TrainingTextTest, TheLastValueOfEachMetricCounts) {
  v1::GetMetricsResponse response;
  auto& first = *response.add_points()->mutable_values();
  first["a/loss"] = 3;
  first["a/heldout_l0"] = 7;
  first["b/l0"] = 5;
  (*response.add_points()->mutable_values())["a/loss"] = 2;
  const std::vector<TrainedSae> saes = LastMetrics(response, {"a", "b"}, /*sweep=*/true);
  ASSERT_EQ(saes.size(), 2u);
  EXPECT_TRUE(saes[0].held_out);
  EXPECT_EQ(saes[0].metrics.at("loss"), 2);
  EXPECT_EQ(saes[0].metrics.at("l0"), 7) << "held-out tokens count before those trained on";
  EXPECT_FALSE(saes[1].held_out);
  EXPECT_EQ(saes[1].metrics.at("l0"), 5);
}

TEST(TrainingTextTest, AdviceOnASweepIsGivenOnceForAllItsSaes) {
  std::vector<v1::Advice> advice(3);
  for (v1::Advice& one : advice) {
    one.set_rule("l0_low");
    one.set_suggestion("try a higher k");
  }
  advice[0].set_sae_id("a");
  advice[1].set_sae_id("b");
  advice[1].set_rule("dead_features");
  advice[2].set_sae_id("c");
  EXPECT_EQ(SweepAdviceText(Terminal(), advice, "j1"),
            "- l0_low: a, c; try a higher k\n- dead_features: b; try a higher k\n"
            "  (the numbers: featurescope job advice j1)\n");
  EXPECT_EQ(SweepAdviceText(Terminal(), {}, "j1"), "");
}

TEST(TrainingTextTest, OnlyDifferencesAreShown) {
  v1::TrainingSpec defaults, a, b;
  defaults.set_adam_beta1(0.9);
  defaults.set_bandwidth(0.5);
  a.set_adam_beta1(0.9);
  a.set_bandwidth(0.5);
  a.set_d_sae(64);
  b = a;
  b.set_bandwidth(0.25);
  const std::string text = SpecsText(Terminal(), {a, b}, defaults);
  EXPECT_THAT(text, HasSubstr("d_sae  64"));
  EXPECT_THAT(text, Not(HasSubstr("adam_beta1")));
  EXPECT_THAT(text, HasSubstr("bandwidth\n"));
  EXPECT_THAT(text, HasSubstr("0.5")) << "the default where another differs from it";
  EXPECT_THAT(text, HasSubstr("0.25"));
}

}  // namespace
}  // namespace featurescope
