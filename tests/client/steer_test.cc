#include "client/cli/commands.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

TEST(SteerTest, ReadsEveryPart) {
  const auto full = ParseSteer("gpt2.l6_v2:1123:add:-1.5:feature_max");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->sae_id(), "gpt2.l6_v2");
  EXPECT_EQ(full->feature(), 1123u);
  EXPECT_EQ(full->operation(), v1::ADD);
  EXPECT_FLOAT_EQ(full->value(), -1.5f);
  EXPECT_EQ(full->unit(), v1::FEATURE_MAX);
}

TEST(SteerTest, UnitIsFeatureUnlessGiven) {
  EXPECT_EQ(ParseSteer("s:1:set:2")->unit(), v1::FEATURE);
  EXPECT_EQ(ParseSteer("s:1:SCALE:0.5:RESIDUAL")->unit(), v1::RESIDUAL);
}

TEST(SteerTest, OnlyAblationNeedsNoValue) {
  EXPECT_EQ(ParseSteer("s:1:ablate_zero")->operation(), v1::ABLATE_ZERO);
  EXPECT_EQ(ParseSteer("s:1:ablate")->operation(), v1::ABLATE_ZERO);
  EXPECT_FALSE(ParseSteer("s:1:add").ok());
}

TEST(SteerTest, RefusesWithTheGrammar) {
  for (const char* bad :
       {"", "s", "s:1", "s:x:add:1", "s:1:push:1", "s:1:add:much", "s:1:add:1:inch", "s:-1:add:1",
        "s:1:operation_unspecified:1", "a:b:c:d:e:f"}) {
    const absl::Status status = ParseSteer(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("SAE:FEATURE:OP")) << bad;
  }
}

}  // namespace
}  // namespace featurescope
