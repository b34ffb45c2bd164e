#include "client/cli/near_names.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<std::string>& Names() {
  static const auto* const kNames = new std::vector<std::string>{
      "k", "learning_rate", "threshold_learning_rate", "tokens", "dead_after_tokens"};
  return *kNames;
}

TEST(NearNamesTest, TheNearestComesFirst) {
  EXPECT_THAT(NearNames("lerning_rate", Names()), ElementsAre("learning_rate"));
  EXPECT_THAT(NearNames("learning_rate", Names()),
              ElementsAre("learning_rate", "threshold_learning_rate"));
  EXPECT_THAT(NearNames("token", Names()), ElementsAre("tokens", "dead_after_tokens"));
}

TEST(NearNamesTest, NothingIsNearToNonsense) {
  EXPECT_THAT(NearNames("zzzzzzzz", Names()), IsEmpty());
  EXPECT_THAT(NearNames("", Names()), ElementsAre("k"));
  EXPECT_THAT(NearNames("lr", {}), IsEmpty());
}

TEST(NearNamesTest, NoMoreThanAsked) {
  EXPECT_THAT(NearNames("aa", {"ab", "ac", "ad"}, 2), ElementsAre("ab", "ac"));
}

}  // namespace
}  // namespace featurescope
