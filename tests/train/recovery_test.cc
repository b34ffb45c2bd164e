// Tokens are sums of a few of 64 known directions, in a space of 32; training has to find them.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

constexpr int64_t kDirections = 64;
constexpr int64_t kWidth = 32;
constexpr int64_t kFeatures = 128;
constexpr int64_t kBatch = 256;
constexpr int kActive = 3;  // directions of a token
constexpr int kSteps = 1000;

struct Recipe {
  const char* architecture;
  double enough;  // mean over the directions of the largest cosine with a decoder row
  void (*change)(TrainingSpec&);
};
void PrintTo(const Recipe& recipe, std::ostream* out) { *out << recipe.architecture; }

const Recipe kRecipes[] = {
    {"standard", 0.9,
     [](TrainingSpec& s) {
       s.l1_coefficient = 0.3;
       s.learning_rate = 3e-3;
     }},
    {"topk", 0.9,
     [](TrainingSpec& s) {
       s.k = 4;
       s.k_aux = 16;
     }},
    {"batchtopk", 0.9,
     [](TrainingSpec& s) {
       s.k = 4;
       s.k_aux = 16;
     }},
    {"matryoshka_batchtopk", 0.75,
     [](TrainingSpec& s) {
       s.k = 4;
       s.k_aux = 16;
       s.group_sizes = {64, 64};
     }},
    {"jumprelu", 0.9,
     [](TrainingSpec& s) {
       s.target_l0 = 3;
       s.l0_coefficient = 0.3;
       s.bandwidth = 0.2;
       s.initial_threshold = 0.2;
       s.learning_rate = 3e-3;
     }},
    {"gated", 0.85,
     [](TrainingSpec& s) {
       s.l1_coefficient = 0.6;
       s.learning_rate = 3e-3;
     }},
};

class RecoveryTest : public testing::TestWithParam<Recipe> {};

TEST_P(RecoveryTest, FindsTheDirectionsOfASyntheticMixture) {
  TrainingSpec spec;
  spec.architecture = GetParam().architecture;
  spec.d_sae = kFeatures;
  spec.batch_size = kBatch;
  spec.tokens = kBatch * kSteps;
  spec.dead_after_tokens = 20'000;
  spec.seed = 11;
  spec.learning_rate = 4e-3;
  spec.lr_decay_fraction = 0.5;
  GetParam().change(spec);
  spec = ResolveForWidths(spec, {kWidth, kWidth}, 1).value();
  torch::manual_seed(5);
  torch::Tensor directions = torch::randn({kDirections, kWidth});
  directions = directions / directions.norm(2, {1}, true);
  SaeTrainer trainer(spec, InitialState(spec, kWidth, torch::kCPU));
  for (int step = 0; step < kSteps; ++step) {
    const torch::Tensor index = torch::randint(kDirections, {kBatch, kActive});
    const torch::Tensor strength = torch::rand({kBatch, kActive}) + 0.5;
    const torch::Tensor mixture = torch::zeros({kBatch, kDirections}).scatter_(1, index, strength);
    trainer.input().copy_(torch::mm(mixture, directions));
    trainer.BeginStep(SettingsOfStep(spec, step, kSteps));
    ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
  }
  const torch::Tensor W_dec = trainer.state().W_dec.value;
  const torch::Tensor cosines = torch::mm(directions, (W_dec / W_dec.norm(2, {1}, true)).t());
  const double recovered = std::get<0>(cosines.max(1)).mean().item<double>();
  RecordProperty("mean_max_cosine", std::to_string(recovered));
  EXPECT_GT(recovered, GetParam().enough)
      << "fvu " << trainer.result().mse / trainer.result().total_variance << ", L0 "
      << trainer.result().l0;
}

INSTANTIATE_TEST_SUITE_P(Architectures, RecoveryTest, testing::ValuesIn(kRecipes),
                         [](const auto& info) { return std::string(info.param.architecture); });

}  // namespace
}  // namespace featurescope
