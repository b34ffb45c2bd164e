#include "server/index/logit_effects.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "tests/index/support.h"

namespace featurescope {
namespace {

class LogitEffectsTest : public IndexingTest {};

TEST_F(LogitEffectsTest, AreTheEndsOfTheProductOfDecoderAndUnembedding) {
  for (const char* name : {"gpt2", "llama"}) {
    const auto model = GoldenModel(name);
    const auto sae = RandomSae("topk", 96);
    auto effects = ComputeLogitEffects(*model, *sae, 10, run_, [](double) {});
    ASSERT_TRUE(effects.ok()) << effects.status();
    ASSERT_EQ(effects->size(), 96u);
    const torch::Tensor dense = sae->parameters().W_dec.mm(model->unembedding());
    for (int64_t f = 0; f < 96; ++f) {
      const auto [top, top_ids] = dense[f].topk(10);
      const auto [bottom, bottom_ids] = dense[f].topk(10, -1, /*largest=*/false);
      const LogitEffects& found = (*effects)[f];
      ASSERT_EQ(found.top.size(), 10u);
      ASSERT_EQ(found.bottom.size(), 10u);
      for (int64_t i = 0; i < 10; ++i) {
        EXPECT_EQ(found.top[i].token, top_ids[i].item<int64_t>());
        EXPECT_NEAR(found.top[i].effect, top[i].item<float>(), 1e-5);
        EXPECT_EQ(found.bottom[i].token, bottom_ids[i].item<int64_t>());
        EXPECT_NEAR(found.bottom[i].effect, bottom[i].item<float>(), 1e-5);
      }
    }
  }
}

TEST_F(LogitEffectsTest, TheCutIntoQuantaDoesNotMatter) {
  const auto model = GoldenModel("gpt2");
  const auto sae = RandomSae("topk", 96);
  auto whole = ComputeLogitEffects(*model, *sae, 5, run_, [](double) {});
  run_.quantum = absl::Nanoseconds(500);
  const uint64_t before = device_.stats().background_quanta;
  double last = -1;
  auto pieces = ComputeLogitEffects(*model, *sae, 5, run_, [&](double share) {
    EXPECT_GE(share, last);
    last = share;
  });
  EXPECT_GT(device_.stats().background_quanta - before, 10u);
  ASSERT_TRUE(whole.ok() && pieces.ok());
  for (size_t f = 0; f < 96; ++f) {
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ((*whole)[f].top[i].token, (*pieces)[f].top[i].token);
      EXPECT_NEAR((*whole)[f].bottom[i].effect, (*pieces)[f].bottom[i].effect, 1e-6);
    }
  }
}

TEST_F(LogitEffectsTest, TiesGoToTheSmallerToken) {
  LogitEffects effects;
  effects.Offer(std::vector<float>{1, 2, 2, 0}, 0, 3);
  effects.Offer(std::vector<float>{2, 0, 1}, 4, 3);
  auto tokens = [](const std::vector<LogitEffectRow>& rows) {
    std::vector<uint32_t> ids;
    for (const LogitEffectRow& row : rows) ids.push_back(row.token);
    return ids;
  };
  EXPECT_EQ(tokens(effects.top), (std::vector<uint32_t>{1, 2, 4}));
  EXPECT_EQ(tokens(effects.bottom), (std::vector<uint32_t>{3, 5, 0}));
}

TEST_F(LogitEffectsTest, StopWhenCancelled) {
  run_.cancel.Cancel();
  const auto effects =
      ComputeLogitEffects(*GoldenModel("gpt2"), *RandomSae("topk", 96), 5, run_, [](double) {});
  EXPECT_EQ(effects.status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace featurescope
