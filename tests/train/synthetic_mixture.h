// Tokens that are sums of a few of 64 known directions, in a space of 32: what an SAE ought to find
// is known. With recipes by which every architecture finds it.
#pragma once

#include <cstdint>
#include <tuple>

#include "server/train/sae_trainer.h"

namespace featurescope {

struct MixtureRecipe {
  const char* architecture;
  double enough;  // mean over the directions of the largest cosine with a decoder row
  void (*change)(TrainingSpec&);
};

namespace mixture {

constexpr int64_t kDirections = 64;
constexpr int64_t kWidth = 32;
constexpr int64_t kFeatures = 128;
constexpr int64_t kBatch = 256;
constexpr int kActive = 3;  // directions of a token
constexpr int kSteps = 1000;

inline void SetL1(TrainingSpec& s) {
  s.l1_coefficient = 0.3;
  s.learning_rate = 3e-3;
}
inline void SetK(TrainingSpec& s) {
  s.k = 4;
  s.k_aux = 16;
}
inline void SetL0(TrainingSpec& s) {
  s.target_l0 = 3;
  s.l0_coefficient = 0.3;
  s.bandwidth = 0.2;
  s.initial_threshold = 0.2;
  s.learning_rate = 3e-3;
}

}  // namespace mixture

inline constexpr MixtureRecipe kMixtureRecipes[] = {
    {"standard", 0.9, mixture::SetL1},
    {"topk", 0.9, mixture::SetK},
    {"batchtopk", 0.9, mixture::SetK},
    {"matryoshka_batchtopk", 0.75,
     [](TrainingSpec& s) {
       mixture::SetK(s);
       s.group_sizes = {64, 64};
     }},
    {"jumprelu", 0.9, mixture::SetL0},
    {"gated", 0.85,
     [](TrainingSpec& s) {
       mixture::SetL1(s);
       s.l1_coefficient = 0.6;
     }},
    {"transcoder", 0.85, mixture::SetL1},
    {"topk_transcoder", 0.85, mixture::SetK},
    {"jumprelu_transcoder", 0.85, mixture::SetL0},
};

struct Recovery {
  double mean_max_cosine = 0;  // over the directions, of the largest with a decoder row
  StepResult last;
};

// Trains by a recipe and compares the decoder's rows with the directions; a transcoder's target is
// the same mixture of directions of its own, which are what its decoder has to find.
inline Recovery RecoverMixture(const MixtureRecipe& recipe) {
  using namespace mixture;  // NOLINT(google-build-using-namespace)
  TrainingSpec spec;
  spec.architecture = recipe.architecture;
  spec.d_sae = kFeatures;
  spec.batch_size = kBatch;
  spec.tokens = kBatch * kSteps;
  spec.dead_after_tokens = 20'000;
  spec.seed = 11;
  spec.learning_rate = 4e-3;
  spec.lr_decay_fraction = 0.5;
  recipe.change(spec);
  spec = ResolveForWidths(spec, {kWidth, kWidth}, 1).value();
  torch::manual_seed(5);
  const auto draw_directions = [] {
    const torch::Tensor rows = torch::randn({kDirections, kWidth});
    return rows / rows.norm(2, {1}, true);
  };
  const torch::Tensor of_input = draw_directions();
  const bool transcoder = TraitsOf(spec).transcoder;
  const torch::Tensor of_target = transcoder ? draw_directions() : of_input;
  SaeTrainer trainer(spec, InitialState(spec, kWidth, torch::kCPU));
  for (int step = 0; step < kSteps; ++step) {
    const torch::Tensor index = torch::randint(kDirections, {kBatch, kActive});
    const torch::Tensor strength = torch::rand({kBatch, kActive}) + 0.5;
    const torch::Tensor mixture = torch::zeros({kBatch, kDirections}).scatter_(1, index, strength);
    trainer.input().copy_(torch::mm(mixture, of_input));
    if (transcoder) trainer.target().copy_(torch::mm(mixture, of_target));
    trainer.BeginStep(SettingsOfStep(spec, step, kSteps));
    while (!trainer.RunFor(absl::InfiniteDuration())) {
    }
  }
  const torch::Tensor W_dec = trainer.state().W_dec.value;
  const torch::Tensor cosines = torch::mm(of_target, (W_dec / W_dec.norm(2, {1}, true)).t());
  return {std::get<0>(cosines.max(1)).mean().item<double>(), trainer.result()};
}

}  // namespace featurescope
