#include "client/cli/feature_text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

TEST(FeatureTextTest, HeatStripMarksTheTokensThatFire) {
  v1::Example example;
  example.set_activation(4);
  for (const char* text : {"a", " b", " c"}) example.add_tokens()->set_display(text);
  for (float act : {0.0f, 4.0f, 1.0f}) example.add_acts(act);
  EXPECT_EQ(HeatStrip(Terminal(), example), "       4  a[ b] c");
}

TEST(FeatureTextTest, HeatStripBearsFewerActivationsThanTokens) {
  v1::Example example;
  example.add_tokens()->set_display("a");
  EXPECT_THAT(HeatStrip(Terminal(), example), testing::EndsWith("a"));
}

TEST(FeatureTextTest, ADeadFeatureIsDescribedToo) {
  v1::Feature feature;
  feature.mutable_stats()->set_feature(3);
  EXPECT_THAT(DescribeFeature(Terminal(), feature), testing::HasSubstr("feature 3"));
}

}  // namespace
}  // namespace featurescope
