#include "server/model/dtype_report.h"

#include <string>

#include "tests/model/support.h"

namespace featurescope {
namespace {

std::vector<std::vector<uint32_t>> Sequences() {
  std::vector<std::vector<uint32_t>> sequences;
  uint32_t token = 3;
  for (int length : {40, 7, 33}) {
    std::vector<uint32_t>& sequence = sequences.emplace_back();
    for (int i = 0; i < length; ++i) {
      token = token * 37 + 11;
      sequence.push_back(token % 131);
    }
  }
  return sequences;
}

class DtypeReportTest : public testing::TestWithParam<const char*> {};

// bfloat16 keeps 8 bits: half a unit in the last place is 2^-9 = 0.2 %, and a few layers of random
// weights make percents of it. What is no rounding (a norm in the wrong place, a missing cap) would
// be of the size of the activations themselves.
TEST_P(DtypeReportTest, Bfloat16MovesEveryActivationALittle) {
  LoadOptions options;
  options.dtype = torch::kBFloat16;
  const auto config = ReadModelConfig(GoldenModel(GetParam()));
  ASSERT_TRUE(config.ok());
  std::vector<HookPoint> hooks;
  for (const HookPoint& hook : config->AllHooks()) {
    if (config->HookWidth(hook).ok()) hooks.push_back(hook);
  }
  const auto report = MeasureDtype(GoldenModel(GetParam()), options, Sequences(), hooks, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->n_tokens, 80);
  ASSERT_EQ(report->hooks.size(), hooks.size());
  for (const HookDifference& hook : report->hooks) {
    const std::string name = hook.hook.name();
    // Embeddings are rounded once: at most 2^-9 of each value.
    const bool rounded_once = name == "hook_embed" || name == "hook_pos_embed";
    EXPECT_GT(hook.relative_l2, 1e-4) << name;
    EXPECT_LT(hook.relative_l2, rounded_once ? 0.004 : 0.05) << name;
    EXPECT_GT(hook.min_cosine, rounded_once ? 0.9999 : 0.98) << name;
    EXPECT_GE(hook.max_abs, hook.relative_l2 * hook.reference_rms) << name;
  }
  EXPECT_GT(report->mean_kl, 0);
  EXPECT_LT(report->mean_kl, 0.05);
  EXPECT_GE(report->max_kl, report->mean_kl);
  EXPECT_GT(report->top1_agreement, 0.85);
  EXPECT_LT(std::abs(report->ce_difference), 0.1);
}

INSTANTIATE_TEST_SUITE_P(All, DtypeReportTest,
                         testing::Values("gpt2", "gpt_neox", "gpt_neox_sequential", "llama",
                                         "llama3_rope_scaling", "mistral", "qwen2", "qwen3",
                                         "gemma", "gemma2"),
                         [](const auto& test) { return std::string(test.param); });

TEST(DtypeReportTest, OfAModelAgainstItselfIsZero) {
  const auto model = LoadOrDie(GoldenModel("llama"));
  const auto report = CompareDtypes(*model, *model, Sequences(), {}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->hooks.size(), 4u);  // into three blocks, and out of the last
  EXPECT_EQ(report->hooks.back().hook.name(), "blocks.2.hook_resid_post");
  for (const HookDifference& hook : report->hooks) {
    EXPECT_EQ(hook.relative_l2, 0);
    EXPECT_EQ(hook.max_abs, 0);
    EXPECT_NEAR(hook.min_cosine, 1, 1e-12);
  }
  EXPECT_EQ(report->mean_kl, 0);
  EXPECT_EQ(report->top1_agreement, 1);
  EXPECT_EQ(report->ce_difference, 0);
}

TEST(DtypeReportTest, NumbersAreThoseComputedByHand) {
  LoadOptions options;
  options.dtype = torch::kBFloat16;
  const auto wide = LoadOrDie(GoldenModel("gpt2"));
  const auto narrow = LoadOrDie(GoldenModel("gpt2"), options);
  const std::vector<uint32_t> tokens = Sequences()[1];
  const HookPoint hook = Hook("blocks.1.hook_mlp_out");
  Recorder a({hook});
  Recorder b({hook});
  const torch::Tensor want =
      MustForward(*wide, BatchOf({tokens}), LogitsOf::kAllTokens, a.set()).log_softmax(1);
  const torch::Tensor got =
      MustForward(*narrow, BatchOf({tokens}), LogitsOf::kAllTokens, b.set()).log_softmax(1);
  const auto report = CompareDtypes(*wide, *narrow, {tokens}, {hook}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  const torch::Tensor x = a.one(hook.name());
  const torch::Tensor y = b.one(hook.name()).to(torch::kFloat32);
  ASSERT_EQ(report->hooks.size(), 1u);
  EXPECT_NEAR(report->hooks[0].relative_l2, ((y - x).norm() / x.norm()).item<float>(), 1e-6);
  EXPECT_NEAR(report->hooks[0].max_abs, (y - x).abs().max().item<float>(), 1e-6);
  EXPECT_NEAR(report->hooks[0].reference_rms, x.square().mean().sqrt().item<float>(), 1e-4);
  EXPECT_NEAR(report->mean_kl, (want.exp() * (want - got)).sum(1).mean().item<float>(), 1e-5);
  double loss = 0;
  for (size_t i = 1; i < tokens.size(); ++i) {
    loss += (want - got)[static_cast<int64_t>(i) - 1][tokens[i]].item<double>();
  }
  EXPECT_NEAR(report->ce_difference, loss / static_cast<double>(tokens.size() - 1), 1e-5);
  const std::string text = FormatDtypeReport(*report);
  EXPECT_NE(text.find("blocks.1.hook_mlp_out"), std::string::npos) << text;
  EXPECT_NE(text.find("BFloat16 against Float on 7 tokens"), std::string::npos) << text;
}

TEST(DtypeReportTest, RefusesOtherModelsAndHooksWithoutWidth) {
  const auto gpt2 = LoadOrDie(GoldenModel("gpt2"));
  const auto llama = LoadOrDie(GoldenModel("llama"));
  EXPECT_EQ(CompareDtypes(*gpt2, *llama, Sequences(), {}, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CompareDtypes(*gpt2, *gpt2, Sequences(), {Hook("blocks.0.attn.hook_pattern")}, {})
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CompareDtypes(*gpt2, *gpt2, {}, {}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace featurescope
