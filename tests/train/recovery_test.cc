// Training has to find the directions that a synthetic mixture is made of.
#include <gtest/gtest.h>

#include <string>

#include "tests/train/synthetic_mixture.h"

namespace featurescope {

void PrintTo(const MixtureRecipe& recipe, std::ostream* out) { *out << recipe.architecture; }

namespace {

class RecoveryTest : public testing::TestWithParam<MixtureRecipe> {};

TEST_P(RecoveryTest, FindsTheDirectionsOfASyntheticMixture) {
  const Recovery recovery = RecoverMixture(GetParam());
  RecordProperty("mean_max_cosine", std::to_string(recovery.mean_max_cosine));
  EXPECT_GT(recovery.mean_max_cosine, GetParam().enough)
      << "fvu " << recovery.last.mse / recovery.last.total_variance << ", L0 " << recovery.last.l0;
}

INSTANTIATE_TEST_SUITE_P(Architectures, RecoveryTest, testing::ValuesIn(kMixtureRecipes),
                         [](const auto& info) { return std::string(info.param.architecture); });

}  // namespace
}  // namespace featurescope
