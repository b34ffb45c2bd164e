#include "server/sae/sae.h"

#include <gtest/gtest.h>

#include <limits>

namespace featurescope {
namespace {

SaeConfig Config(const std::string& architecture, int64_t d_in, int64_t d_sae) {
  SaeConfig config;
  config.architecture = architecture;
  config.d_in = d_in;
  config.d_sae = d_sae;
  config.k = architecture == "topk" ? 7 : 0;
  return config;
}

SaeParameters Parameters(int64_t d_in, int64_t d_sae) {
  torch::manual_seed(9);
  return {torch::randn({d_in, d_sae}), torch::randn({d_sae}), torch::randn({d_sae, d_in}),
          torch::randn({d_in})};
}

std::shared_ptr<const Sae> Make(const SaeConfig& config) {
  return Sae::Create(config, Parameters(config.d_in, config.d_sae)).value();
}

TEST(SaeTest, TopKKeepsAtMostKFeaturesPerToken) {
  const std::shared_ptr<const Sae> sae = Make(Config("topk", 8, 100));
  const SparseRows acts = sae->Encode(torch::randn({50, 8})).value().acts;
  EXPECT_LE(acts.row_offsets.diff().max().item<int64_t>(), 7);
  EXPECT_GT(acts.values.min().item<float>(), 0);
}

TEST(SaeTest, AZeroRowStaysFiniteUnderEveryNormalisation) {
  for (NormalizeActivations mode :
       {NormalizeActivations::kNone, NormalizeActivations::kExpectedAverageOnlyIn,
        NormalizeActivations::kConstantNormRescale, NormalizeActivations::kLayerNorm}) {
    SaeConfig config = Config("standard", 8, 20);
    config.normalize_activations = mode;
    const std::shared_ptr<const Sae> sae = Make(config);
    const EncodedRows encoded = sae->Encode(torch::zeros({2, 8})).value();
    EXPECT_TRUE(torch::isfinite(sae->Decode(encoded)).all().item<bool>())
        << NormalizeActivationsName(mode);
  }
}

TEST(SaeTest, WrongInputIsRefusedWithTheNumbers) {
  const std::shared_ptr<const Sae> sae = Make(Config("standard", 8, 20));
  EXPECT_EQ(sae->Encode(torch::randn({3, 9})).status().message(),
            "vectors of 9 values; the SAE takes 8");
  EXPECT_EQ(sae->EncodeFeatures(torch::randn({3, 8}), {3, 20}).status().message(),
            "feature 20 is out of range [0, 20)");
}

TEST(SaeTest, ParametersThatDoNotFitAreRefusedByName) {
  SaeParameters parameters = Parameters(8, 20);
  parameters.W_dec = parameters.W_dec.t().contiguous();
  EXPECT_EQ(Sae::Create(Config("standard", 8, 20), parameters).status().message(),
            "W_dec is [8, 20] instead of [20, 8]");
  parameters = Parameters(8, 20);
  parameters.b_enc[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Sae::Create(Config("standard", 8, 20), parameters).status().message(),
            "b_enc has values that are not finite");
  EXPECT_EQ(Sae::Create(Config("dense", 8, 20), Parameters(8, 20)).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace featurescope
