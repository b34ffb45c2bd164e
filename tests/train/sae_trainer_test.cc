// The hand-written step against the same loss by LibTorch's autograd and dense operators.
#include "server/train/sae_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <tuple>

#include "tests/train/autograd_trainer.h"

namespace featurescope {
namespace {

struct Shape {
  int64_t d_in, d_sae, batch, k;
};

// A way to train that differs from the architecture's defaults in `change`.
struct Recipe {
  const char* name;
  const char* architecture;
  void (*change)(TrainingSpec&);
};

TrainingSpec MakeSpec(const Shape& shape, const Recipe& recipe) {
  TrainingSpec spec;
  spec.architecture = recipe.architecture;
  spec.d_sae = shape.d_sae;
  spec.k = TraitsOf(spec).topk_family() ? shape.k : 0;
  spec.batch_size = shape.batch;
  spec.tokens = static_cast<uint64_t>(shape.batch) * 100;
  spec.clip_norm = 0.7;
  if (TraitsOf(spec).topk_family()) spec.auxk_coefficient = 0.25;
  spec.k_aux = 5;
  spec.dead_after_tokens = static_cast<uint64_t>(2 * shape.batch);
  spec.seed = 11;
  spec.l1_coefficient = 0.3;
  spec.bandwidth = 0.3;
  spec.initial_threshold = 0.2;
  spec.target_l0 = 5;
  spec.threshold_learning_rate = 3e-3;
  recipe.change(spec);
  const absl::StatusOr<TrainingSpec> resolved = ResolveForWidths(spec, {shape.d_in, shape.d_in}, 1);
  EXPECT_TRUE(resolved.ok()) << recipe.name << ": " << resolved.status();
  return *resolved;
}
TrainingSpec MakeSpec(const Shape& shape, const char* architecture) {
  return MakeSpec(shape, Recipe{architecture, architecture, [](TrainingSpec&) {}});
}

double RelativeError(const torch::Tensor& actual, const torch::Tensor& expected) {
  const double size = expected.abs().max().item<double>();
  return (actual - expected).abs().max().item<double>() / std::max(size, 1e-12);
}

torch::Tensor Batch(const Shape& shape, int step) {
  torch::manual_seed(100 + step);
  // A few directions dominate, so that some features never fire.
  const torch::Tensor mix = torch::randn({4, shape.d_in});
  return torch::mm(torch::randn({shape.batch, 4}), mix) +
         0.1 * torch::randn({shape.batch, shape.d_in}) + 0.5;
}

// The targets of a transcoder: another width, and no linear function of the input.
torch::Tensor TargetOf(const torch::Tensor& x, int64_t d_out) {
  torch::manual_seed(5);
  return torch::mm(x, torch::randn({x.size(1), d_out}) * 0.3).tanh();
}

TrainState RandomState(const TrainingSpec& spec, const TrainingWidths& widths) {
  TrainState state = InitialState(spec, widths, torch::kCPU);
  torch::manual_seed(7);
  VisitParameters(state, [](const std::string& name, Trained& parameter) {
    if (!parameter.value.defined() || name == "W_enc" || name == "W_dec") return;
    parameter.value.add_(torch::randn_like(parameter.value), name == "threshold" ? 0.05 : 0.1);
  });
  // Encoder and decoder differ, as they do after some steps.
  state.W_enc.value.add_(torch::randn_like(state.W_enc.value), 0.02);
  return state;
}

const Recipe kRecipes[] = {
    {"Standard", "standard", [](TrainingSpec&) {}},
    {"StandardPlainL1", "standard", [](TrainingSpec& s) { s.l1_weighted_by_decoder_norm = false; }},
    {"StandardUnitNorm", "standard",
     [](TrainingSpec& s) {
       s.decoder_norm = DecoderNorm::kUnit;
       s.apply_b_dec_to_input = false;
     }},
    {"StandardMeanLosses", "standard",
     [](TrainingSpec& s) {
       s.reconstruction_scale = ReconstructionScale::kMean;
       s.sparsity_scale = SparsityScale::kMeanAll;
       s.optimizer = Optimizer::kAdamW;
       s.weight_decay = 0.1;
     }},
    {"StandardTanhSummed", "standard",
     [](TrainingSpec& s) {
       s.sparsity_penalty = SparsityPenalty::kTanh;
       s.sparsity_scale = SparsityScale::kSumAll;
       s.l1_coefficient = 0.01;
     }},
    {"TopK", "topk", [](TrainingSpec&) {}},
    {"TopKByDecoderNorm", "topk",
     [](TrainingSpec& s) {
       s.select_by_decoder_norm = true;
       s.decoder_norm = DecoderNorm::kFree;
       s.auxk_scale = AuxKScale::kTokens;
       s.auxk_by_dead_share = true;
     }},
    {"TopKVarianceAnyAuxK", "topk",
     [](TrainingSpec& s) {
       s.reconstruction_scale = ReconstructionScale::kVariance;
       s.auxk_scale = AuxKScale::kTotalVariance;
       s.auxk_relu = false;
       s.decoder_norm = DecoderNorm::kUnitBeforeStep;
     }},
    {"TopKManyAuxK", "topk",
     [](TrainingSpec& s) {
       s.k_aux = 1;
       s.auxk_scale = AuxKScale::kTokensAndWidth;
     }},
    {"TopKSignum", "topk", [](TrainingSpec& s) { s.optimizer = Optimizer::kSignum; }},
    {"BatchTopK", "batchtopk", [](TrainingSpec&) {}},
    {"BatchTopKByDecoderNorm", "batchtopk",
     [](TrainingSpec& s) {
       s.select_by_decoder_norm = true;
       s.decoder_norm = DecoderNorm::kFree;
     }},
    {"Matryoshka", "matryoshka_batchtopk", [](TrainingSpec&) {}},
    {"MatryoshkaTwoGroups", "matryoshka_batchtopk",
     [](TrainingSpec& s) {
       s.group_sizes = {7, s.d_sae - 7};
       s.group_weights = {1, 2};
     }},
    {"JumpReluTarget", "jumprelu", [](TrainingSpec&) {}},
    {"JumpReluPlainOfActivations", "jumprelu",
     [](TrainingSpec& s) {
       s.target_l0 = 0;
       s.l0_coefficient = 0.05;
       s.l0_step_input = L0StepInput::kActivation;
       s.bandwidth = 0.6;
       s.ste_kernel = SteKernel::kTriangle;
     }},
    {"JumpReluTanhPreAct", "jumprelu",
     [](TrainingSpec& s) {
       s.sparsity_penalty = SparsityPenalty::kTanh;
       s.decoder_norm = DecoderNorm::kFree;
       s.pre_act_coefficient = 0.02;
       s.initial_threshold = 1.5;
       s.ste_kernel = SteKernel::kEpanechnikov;
       s.apply_b_dec_to_input = true;
     }},
    {"Gated", "gated", [](TrainingSpec&) {}},
    {"GatedWeightedAttached", "gated",
     [](TrainingSpec& s) {
       s.gated_detach_decoder = false;
       s.decoder_norm = DecoderNorm::kFree;
     }},
    {"Transcoder", "transcoder", [](TrainingSpec&) {}},
    {"SkipTranscoder", "skip_transcoder", [](TrainingSpec&) {}},
    {"TopKSkipTranscoder", "topk_skip_transcoder", [](TrainingSpec&) {}},
    {"JumpReluTranscoder", "jumprelu_transcoder", [](TrainingSpec&) {}},
};

// recipe, shape, whether the dense path is taken, whether LibTorch's operators compute the step
using Case = std::tuple<Recipe, Shape, bool, bool>;
class StepTest : public testing::TestWithParam<Case> {
 protected:
  ~StepTest() override { ComposeOfOperators(false); }
};

TEST_P(StepTest, EqualsTheDenseStepByAutograd) {
  const auto& [recipe, shape, dense, operators] = GetParam();
  const TrainingSpec spec = MakeSpec(shape, recipe);
  const bool transcoder = TraitsOf(spec).transcoder;
  const TrainingWidths widths = {shape.d_in, transcoder ? shape.d_in + 3 : shape.d_in};
  TrainState state = RandomState(spec, widths);
  AutogradTrainer expected(spec, state);
  SaeTrainer actual(spec, std::move(state));
  if (dense && !actual.can_be_dense()) return;  // it has no dense path
  actual.ForcePath(dense);
  ComposeOfOperators(operators);
  int64_t most_dead = 0;
  for (int step = 0; step < 6; ++step) {
    SCOPED_TRACE(step);
    const torch::Tensor x = Batch(shape, step);
    const torch::Tensor y = transcoder ? TargetOf(x, widths.d_out) : x;
    StepSettings settings = SettingsOfStep(spec, 50 + step, TotalSteps(spec));
    settings.learning_rate = 1e-3 * (step + 1);
    settings.sparsity = 0.5 + 0.1 * step;
    const double loss = expected.Step(x, y, settings);
    actual.input().copy_(x);
    if (transcoder) actual.target().copy_(y);
    actual.BeginStep(settings);
    while (!actual.RunFor(absl::ZeroDuration())) {
    }
    EXPECT_NEAR(actual.result().loss, loss, 2e-5 * std::abs(loss));
    const Gradients gradients = actual.CopyGradients();
    VisitParameters(gradients, [&](const std::string& name, const torch::Tensor& g) {
      if (g.defined()) EXPECT_LT(RelativeError(g, expected.gradients.at(name)), 1e-4) << name;
    });
    most_dead = std::max(most_dead, expected.n_dead());
  }
  if (spec.optimizer == Optimizer::kSignum) return;  // a gradient near 0 has either sign
  VisitParameters(actual.state(), [&](const std::string& name, const Trained& p) {
    if (!p.value.defined()) return;
    EXPECT_LT(RelativeError(p.value, expected.values.at(name)), 2e-4) << name;
  });
  if (TraitsOf(spec).topk_family()) EXPECT_GT(most_dead, 0) << "AuxK was never at work";
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  const auto& [recipe, shape, dense, operators] = info.param;
  return std::string(recipe.name) + std::to_string(shape.d_sae) + (dense ? "Dense" : "Sparse") +
         (operators ? "ByOperators" : "");
}

INSTANTIATE_TEST_SUITE_P(Recipes, StepTest,
                         testing::Combine(testing::ValuesIn(kRecipes),
                                          testing::Values(Shape{16, 64, 32, 4},
                                                          Shape{33, 130, 97, 3}),
                                          testing::Bool(), testing::Bool()),
                         CaseName);
// Blocks of rows that are not full, and vectors that no instruction set divides.
INSTANTIATE_TEST_SUITE_P(Shapes, StepTest,
                         testing::Combine(testing::Values(kRecipes[5], kRecipes[10], kRecipes[12]),
                                          testing::Values(Shape{48, 1100, 257, 9},
                                                          Shape{7, 40, 70, 1}),
                                          testing::Values(false), testing::Bool()),
                         CaseName);

TEST(SaeTrainerTest, DenseAndSparsePathsOfAStepAgree) {
  const Shape shape{33, 130, 150, 0};
  for (const char* architecture : {"standard", "jumprelu", "gated", "skip_transcoder"}) {
    SCOPED_TRACE(architecture);
    const TrainingSpec spec = MakeSpec(shape, architecture);
    SaeTrainer dense(spec, RandomState(spec, {shape.d_in, shape.d_in}));
    SaeTrainer sparse(spec, RandomState(spec, {shape.d_in, shape.d_in}));
    for (SaeTrainer* trainer : {&dense, &sparse}) {
      trainer->input().copy_(Batch(shape, 3));
      if (TraitsOf(spec).transcoder) trainer->target().copy_(Batch(shape, 4));
      trainer->ForcePath(trainer == &dense);
      trainer->BeginStep(SettingsOfStep(spec, 40, TotalSteps(spec)));
      ASSERT_TRUE(trainer->RunFor(absl::InfiniteDuration()));
    }
    const StepResult& a = dense.result();
    const StepResult& b = sparse.result();
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);
    EXPECT_NEAR(a.sparsity_loss, b.sparsity_loss, 1e-4 * std::max(a.sparsity_loss, 1.0));
    EXPECT_NEAR(a.total_variance, b.total_variance, 1e-3);
    EXPECT_NEAR(a.cosine, b.cosine, 1e-5);
    EXPECT_NEAR(a.squared_output, b.squared_output, 1e-4 * a.squared_output);
    EXPECT_EQ(a.l0, b.l0);
    EXPECT_EQ(a.dense_share, b.dense_share);
    EXPECT_TRUE(torch::equal(dense.state().tokens_since_fired, sparse.state().tokens_since_fired));
  }
}

// Few dead features, of which some fire after all: their largest activations are known from when
// the rows passed, or have to be computed anew.
TEST(SaeTrainerTest, AuxKFindsTheLargestOfFewDeadFeatures) {
  const Shape shape{33, 640, 97, 20};
  for (const int64_t k_aux : {1, 4, 30}) {
    SCOPED_TRACE(k_aux);
    TrainingSpec spec = MakeSpec(shape, "topk");
    spec.k_aux = k_aux;
    spec.dead_after_tokens = 1000;
    TrainState state = RandomState(spec, {shape.d_in, shape.d_in});
    state.tokens_since_fired.slice(0, 0, 60).fill_(5000);
    state.b_enc.value.slice(0, 0, 60).sub_(1.0);
    AutogradTrainer expected(spec, state);
    SaeTrainer actual(spec, std::move(state));
    for (int step = 0; step < 3; ++step) {
      SCOPED_TRACE(step);
      const torch::Tensor x = Batch(shape, step);
      // So small that Adam, which makes much of gradients that are nothing but rounding, does not
      // lead the two to different selections.
      const StepSettings settings = {1e-6, 0, 1, shape.k};
      const double loss = expected.Step(x, x, settings);
      actual.input().copy_(x);
      actual.BeginStep(settings);
      ASSERT_TRUE(actual.RunFor(absl::InfiniteDuration()));
      EXPECT_NEAR(actual.result().loss, loss, 2e-5 * loss);
      EXPECT_GT(actual.result().auxk_loss, 0);
      EXPECT_LT(RelativeError(actual.CopyGradients().W_enc, expected.gradients.at("W_enc")), 1e-4);
      EXPECT_LT(RelativeError(actual.CopyGradients().W_dec, expected.gradients.at("W_dec")), 1e-4);
      EXPECT_GT(expected.n_dead(), 10);
      EXPECT_LT(expected.n_dead(), 60);
    }
  }
}

TEST(SaeTrainerTest, BFloat16ChangesTheActivationsOnlyByItsRounding) {
  const Shape shape{48, 512, 300, 8};
  for (const bool operators : {false, true}) {
    ComposeOfOperators(operators);
    TrainingSpec spec = MakeSpec(shape, "topk");
    SaeTrainer exact(spec, RandomState(spec, {shape.d_in, shape.d_in}));
    spec.compute_dtype = ComputeDtype::kBFloat16;
    SaeTrainer rounded(spec, RandomState(spec, {shape.d_in, shape.d_in}));
    for (int step = 0; step < 3; ++step) {
      for (SaeTrainer* trainer : {&exact, &rounded}) {
        trainer->input().copy_(Batch(shape, step));
        trainer->BeginStep(SettingsOfStep(spec, 40, TotalSteps(spec)));
        ASSERT_TRUE(trainer->RunFor(absl::InfiniteDuration()));
      }
      EXPECT_NEAR(rounded.result().loss, exact.result().loss, 0.02 * exact.result().loss);
      EXPECT_NE(rounded.result().loss, exact.result().loss);
      EXPECT_LT(RelativeError(rounded.CopyGradients().b_dec, exact.CopyGradients().b_dec), 0.1);
    }
  }
  ComposeOfOperators(false);
}

TEST(SaeTrainerTest, BatchTopKFindsTheLargestWhenItsGuessIsWrong) {
  const Shape shape{33, 130, 97, 3};
  const TrainingSpec spec = MakeSpec(shape, "batchtopk");
  std::vector<torch::Tensor> results;
  for (const double guess : {0.0, 0.05, 1e6}) {
    TrainState state = RandomState(spec, {shape.d_in, shape.d_in});
    state.last_minimum = guess;
    SaeTrainer trainer(spec, std::move(state));
    trainer.input().copy_(Batch(shape, 0));
    trainer.BeginStep(SettingsOfStep(spec, 40, TotalSteps(spec)));
    ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
    EXPECT_EQ(trainer.result().l0, 3);
    results.push_back(trainer.CopyGradients().W_dec);
  }
  EXPECT_LT(RelativeError(results[1], results[0]), 1e-5);
  EXPECT_TRUE(torch::equal(results[2], results[0]));
}

TEST(SaeTrainerTest, DecoderRowsOfTopKStayAtUnitNorm) {
  const Shape shape{33, 130, 97, 3};
  SaeTrainer trainer(MakeSpec(shape, "topk"),
                     InitialState(MakeSpec(shape, "topk"), shape.d_in, torch::kCPU));
  for (int step = 0; step < 3; ++step) {
    trainer.input().copy_(Batch(shape, step));
    trainer.BeginStep({0.05, 0, 0, shape.k});
    trainer.RunFor(absl::InfiniteDuration());
  }
  const torch::Tensor norms = trainer.state().W_dec.value.norm(2, {1});
  EXPECT_LT((norms - 1).abs().max().item<double>(), 1e-5);
}

TEST(SaeTrainerTest, ALossThatIsNotFiniteChangesNothing) {
  const Shape shape{16, 64, 32, 4};
  SaeTrainer trainer(MakeSpec(shape, "topk"),
                     InitialState(MakeSpec(shape, "topk"), shape.d_in, torch::kCPU));
  const torch::Tensor before = trainer.state().W_enc.value.clone();
  trainer.input().copy_(Batch(shape, 0));
  trainer.input()[3][2] = std::numeric_limits<float>::infinity();
  trainer.BeginStep({1e-3, 0, 0, shape.k});
  ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
  EXPECT_FALSE(trainer.result().finite());
  EXPECT_EQ(trainer.state().step, 0);
  EXPECT_TRUE(torch::equal(trainer.state().W_enc.value, before));
}

}  // namespace
}  // namespace featurescope
