// Frequencies against the formulas of HF transformers' modeling_rope_utils.py (4.57), computed
// apart from this code in float64.
#include "server/model/rotary.h"

#include <string>
#include <vector>

#include "server/base/status.h"
#include "tests/model/support.h"

namespace featurescope {
namespace {

void ExpectFrequencies(const RotaryConfig& config, const std::vector<double>& want) {
  const torch::Tensor got = RotaryFrequencies(config);
  ASSERT_EQ(got.numel(), static_cast<int64_t>(want.size()));
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(got[static_cast<int64_t>(i)].item<float>() / want[i], 1, 1e-5) << i;
  }
}

// What a llama config with this rope_scaling says.
absl::StatusOr<ModelConfig> ReadScaling(const nlohmann::json& scaling, double theta = 1e6,
                                        int64_t n_ctx = 32768) {
  const nlohmann::json json = {{"rope_theta", theta}, {"rope_scaling", scaling}};
  ConfigReader reader(json, "config.json");
  ModelConfig config;
  config.d_head = 16;
  config.n_ctx = n_ctx;
  RETURN_IF_ERROR(ReadRotary(reader, "rope_theta", 1.0, &config));
  return config;
}

ModelConfig MustRead(const nlohmann::json& scaling, double theta = 1e6, int64_t n_ctx = 32768) {
  const auto config = ReadScaling(scaling, theta, n_ctx);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig();
}

TEST(RotaryTest, UnscaledFrequenciesFallGeometrically) {
  RotaryConfig config;
  config.rotary_dims = 8;
  ExpectFrequencies(config, {1, 0.1, 0.01, 0.001});
}

TEST(RotaryTest, LinearScalingDividesAllFrequencies) {
  for (const char* key : {"type", "rope_type"}) {
    const ModelConfig config = MustRead({{key, "linear"}, {"factor", 4}}, 1e4);
    RotaryConfig plain = config.rotary;
    plain.scaling = RopeScaling::kNone;
    EXPECT_LT(MaxAbsDifference(RotaryFrequencies(config.rotary) * 4, RotaryFrequencies(plain)),
              1e-7);
    EXPECT_EQ(config.rotary.attention_factor, 1);
  }
}

TEST(RotaryTest, Llama3ScalingLeavesShortWavesAndStretchesLongOnes) {
  const ModelConfig config = MustRead({{"rope_type", "llama3"},
                                       {"factor", 8.0},
                                       {"low_freq_factor", 1.0},
                                       {"high_freq_factor", 4.0},
                                       {"original_max_position_embeddings", 8192}},
                                      5e5, 131072);
  ExpectFrequencies(config.rotary, {1, 0.193922745, 0.0376060309, 0.00729266474, 0.000524846161,
                                    3.4281022e-05, 6.64786987e-06, 1.28917317e-06});
  EXPECT_EQ(config.n_ctx, 131072);
}

TEST(RotaryTest, YarnScalingBlendsAlongTheDimensions) {
  const ModelConfig config =
      MustRead({{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}});
  ExpectFrequencies(config.rotary, {1, 0.177827941, 0.0316227766, 0.00421755994, 0.0005,
                                    4.44569853e-05, 7.90569415e-06, 1.40585331e-06});
  EXPECT_NEAR(config.rotary.attention_factor, 1.138629436111989, 1e-12);
  EXPECT_EQ(config.n_ctx, 131072);  // factor times the original context

  const ModelConfig smooth =
      MustRead({{"rope_type", "yarn"}, {"factor", 4.0}, {"truncate", false}});  // original is n_ctx
  ExpectFrequencies(smooth.rotary, {1, 0.177827941, 0.0316227766, 0.00551727048, 0.000607407938,
                                    4.44569853e-05, 7.90569415e-06, 1.40585331e-06});
  EXPECT_EQ(smooth.n_ctx, 32768);

  const ModelConfig betas = MustRead(
      {{"rope_type", "yarn"}, {"factor", 8.0}, {"beta_fast", 16}, {"beta_slow", 2}}, 1e4, 2048);
  ExpectFrequencies(betas.rotary, {1, 0.316227766, 0.1, 0.0223994668, 0.00416666667, 0.000395284708,
                                   0.000125, 3.95284708e-05});
}

TEST(RotaryTest, YarnAttentionFactorIsAsTheFileSays) {
  EXPECT_EQ(MustRead({{"rope_type", "yarn"}, {"factor", 4}, {"attention_factor", 1.25}})
                .rotary.attention_factor,
            1.25);
  EXPECT_NEAR(
      MustRead({{"rope_type", "yarn"}, {"factor", 40}, {"mscale", 0.707}, {"mscale_all_dim", 1.0}})
          .rotary.attention_factor,
      0.9210423553163399, 1e-12);
}

TEST(RotaryTest, BadScalingsAreNamed) {
  const auto status = [](const nlohmann::json& scaling) { return ReadScaling(scaling).status(); };
  EXPECT_NE(status({{"rope_type", "yarn"}}).message().find("factor"), std::string::npos);
  EXPECT_EQ(status({{"rope_type", "linear"}, {"factor", 0.5}}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({{"rope_type", "su"}, {"factor", 2}}).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(status("yarn").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status({{"rope_type", "default"}, {"factor", 2}}).code(),
            absl::StatusCode::kUnimplemented);
}

// Both queries and keys are multiplied by it.
TEST(RotaryTest, AttentionFactorActsSquaredOnTheScores) {
  const auto plain = LoadOrDie(GoldenModel("llama"));
  ModelCopy copy("llama");
  // So long an original context that yarn leaves all frequencies as they are.
  copy.config["rope_scaling"] = {{"rope_type", "yarn"},
                                 {"factor", 4.0},
                                 {"original_max_position_embeddings", 1 << 24},
                                 {"attention_factor", 1.5}};
  const auto sharper = copy.Load();
  ASSERT_TRUE(sharper.ok()) << sharper.status();
  const HookPoint hook = Hook("blocks.0.attn.hook_attn_scores");
  Recorder before({hook});
  Recorder after({hook});
  const SequenceBatch batch = BatchOf({{3, 1, 4, 1, 5, 9, 2, 6}});
  MustForward(*plain, batch, LogitsOf::kNone, before.set());
  MustForward(**sharper, batch, LogitsOf::kNone, after.set());
  EXPECT_LT(MaxAbsDifference(after.one(hook.name()).tril(), before.one(hook.name()).tril() * 2.25),
            1e-4);
}

// HF computes the frequencies of dynamic scaling anew for every length beyond the context, by which
// cached keys no longer fit: up to the context nothing is scaled, beyond it is refused.
TEST(RotaryTest, DynamicScalingChangesNothingWithinTheContextAndIsRefusedBeyond) {
  const auto plain = LoadOrDie(GoldenModel("llama"));
  ModelCopy copy("llama");
  copy.config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
  copy.config["max_sequence_length"] = 4096;
  const auto dynamic = copy.Load();
  ASSERT_TRUE(dynamic.ok()) << dynamic.status();
  const SequenceBatch longest = BatchOf({std::vector<uint32_t>(128, 7)});
  EXPECT_TRUE(torch::equal(MustForward(**dynamic, longest, LogitsOf::kAllTokens),
                           MustForward(*plain, longest, LogitsOf::kAllTokens)));
  const absl::Status status =
      (*dynamic)->Forward(BatchOf({std::vector<uint32_t>(129, 7)}), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("dynamic rope scaling"), std::string::npos) << status;
}

}  // namespace
}  // namespace featurescope
