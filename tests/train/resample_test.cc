#include "server/train/resample.h"

#include <gtest/gtest.h>

#include <vector>

#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

constexpr int64_t kWidth = 8;
constexpr int64_t kFeatures = 12;
constexpr int64_t kBatch = 20;

TrainingSpec Spec(double power = 1) {
  TrainingSpec spec;
  spec.architecture = "standard";
  spec.d_sae = kFeatures;
  spec.batch_size = kBatch;
  spec.tokens = 1000 * kBatch;
  spec.resample_tokens = 5 * kBatch;
  spec.resample_dead_after_tokens = 3 * kBatch;
  spec.resample_from_tokens = 2 * kBatch;
  spec.resample_times = 2;
  spec.resample_loss_power = power;
  spec.seed = 4;
  return ResolveForWidths(spec, {kWidth, kWidth}, 1).value();
}

TEST(ResamplerTest, DrawsFromTheLastTokensBeforeEachResampling) {
  const Resampler resampler(Spec());
  std::vector<int64_t> draws;
  for (int64_t step = 0; step < 30; ++step) {
    if (resampler.Draws(step)) draws.push_back(step);
  }
  EXPECT_EQ(draws, (std::vector<int64_t>{3, 4, 8, 9}));
}

TEST(ResamplerTest, RestartsDeadFeaturesFromDrawnInputs) {
  const TrainingSpec spec = Spec();
  TrainState state = InitialState(spec, kWidth, torch::kCPU);
  torch::manual_seed(1);
  VisitParameters(state, [](const char*, Trained& p) {
    if (!p.value.defined()) return;
    p.m.fill_(0.5);
    p.v.fill_(0.25);
  });
  state.b_enc.value.fill_(0.1);
  state.tokens_since_fired.fill_(kBatch);
  for (const int64_t dead : {2, 7, 11}) state.tokens_since_fired[dead] = 3 * kBatch;
  const Resampler resampler(spec);
  const torch::Tensor x = torch::randn({2 * kBatch, kWidth});
  const torch::Tensor errors = torch::rand({2 * kBatch}, torch::kFloat64) + 0.1;
  resampler.Draw(3, x.slice(0, 0, kBatch), errors.slice(0, 0, kBatch), &state);
  resampler.Draw(4, x.slice(0, kBatch), errors.slice(0, kBatch), &state);
  const torch::Tensor before = state.W_enc.value.clone();
  EXPECT_EQ(resampler.ResampleIfDue(3, &state), 0);
  EXPECT_EQ(resampler.ResampleIfDue(4, &state), 3);
  const torch::Tensor directions = x / x.norm(2, {1}, true);
  std::vector<int64_t> sources;
  for (int64_t f = 0; f < kFeatures; ++f) {
    const bool restarted = f == 2 || f == 7 || f == 11;
    EXPECT_EQ(state.W_enc.m[f].sum().item<float>() == 0, restarted) << f;
    EXPECT_EQ(state.b_enc.value[f].item<float>() == 0, restarted) << f;
    if (!restarted) {
      EXPECT_TRUE(torch::equal(state.W_enc.value[f], before[f]));
      continue;
    }
    const torch::Tensor cosines = torch::mv(directions, state.W_dec.value[f]);
    EXPECT_NEAR(cosines.max().item<float>(), 1, 1e-5);
    sources.push_back(cosines.argmax().item<int64_t>());
    // Encoder rows begin with norm 0.1, and restart with 0.2 of that.
    EXPECT_NEAR(state.W_enc.value[f].norm().item<float>(), 0.02, 1e-4);
    EXPECT_EQ(state.tokens_since_fired[f].item<int64_t>(), 0);
  }
  EXPECT_NE(sources[0], sources[1]);  // without replacement
  EXPECT_NE(sources[1], sources[2]);
  EXPECT_FALSE(state.drawn_keys.defined());
}

// One input has nine times the error of the others: by error it is drawn first in about 9 of 28
// cases (of 20 inputs), by its square in about 81 of 100.
TEST(ResamplerTest, InputsAreDrawnByThePowerOfTheirError) {
  for (const double power : {1.0, 2.0}) {
    int first = 0;
    constexpr int kTrials = 400;
    for (int trial = 0; trial < kTrials; ++trial) {
      TrainingSpec spec = Spec(power);
      spec.seed = static_cast<uint64_t>(trial);
      TrainState state = InitialState(spec, kWidth, torch::kCPU);
      state.tokens_since_fired.fill_(0);
      state.tokens_since_fired[5] = 3 * kBatch;
      torch::Tensor x = torch::zeros({kBatch, kWidth});
      x.select(1, 0).fill_(1);
      x[13][0] = 0;
      x[13][1] = 1;
      torch::Tensor squared = torch::ones({kBatch}, torch::kFloat64);
      squared[13] = 81;
      const Resampler resampler(spec);
      resampler.Draw(4, x, squared, &state);
      ASSERT_EQ(resampler.ResampleIfDue(4, &state), 1);
      first += static_cast<int>(state.W_dec.value[5][1].item<float>() > 0.9F);
    }
    const double expected = power == 1 ? 9.0 / 28 : 81.0 / 100;
    EXPECT_NEAR(static_cast<double>(first) / kTrials, expected, 0.08) << power;
  }
}

TEST(ResamplerTest, DeadFeaturesOfATrainingRunComeBack) {
  TrainingSpec spec = Spec();
  SaeTrainer trainer(spec, [&] {
    TrainState state = InitialState(spec, kWidth, torch::kCPU);
    state.b_enc.value.slice(0, 0, 6).fill_(-100);  // these can never fire
    return state;
  }());
  int64_t resampled = 0;
  for (int step = 0; step < 12; ++step) {
    torch::manual_seed(step);
    trainer.input().copy_(torch::randn({kBatch, kWidth}));
    trainer.BeginStep(SettingsOfStep(spec, step, TotalSteps(spec)));
    ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
    resampled += trainer.result().resampled;
  }
  EXPECT_GE(resampled, 6);
  EXPECT_EQ(trainer.state().resamplings, 2);
  EXPECT_GT(trainer.state().b_enc.value.min().item<float>(), -1);
}

}  // namespace
}  // namespace featurescope
