// The hand-written step against the same loss by LibTorch's autograd and dense operators.
#include "server/train/sae_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>

namespace featurescope {
namespace {

struct Shape {
  int64_t d_in, d_sae, batch, k;
};

TrainingSpec MakeSpec(const Shape& shape, const std::string& architecture) {
  TrainingSpec spec;
  spec.architecture = architecture;
  spec.d_sae = shape.d_sae;
  spec.k = shape.k;
  spec.batch_size = shape.batch;
  spec.clip_norm = 0.7;
  spec.auxk_coefficient = 0.25;
  spec.k_aux = 5;
  spec.dead_after_tokens = static_cast<uint64_t>(2 * shape.batch);
  spec.seed = 11;
  return spec;
}

// The textbook's step: dense, by autograd.
class DenseTrainer {
 public:
  DenseTrainer(const TrainingSpec& spec, const TrainState& state)
      : spec_(spec),
        W_enc(state.W_enc.value.t().clone().requires_grad_()),
        b_enc(state.b_enc.value.clone().requires_grad_()),
        W_dec(state.W_dec.value.clone().requires_grad_()),
        b_dec(state.b_dec.value.clone().requires_grad_()),
        since_fired_(state.tokens_since_fired.clone()),
        adam_({W_enc, b_enc, W_dec, b_dec}, torch::optim::AdamOptions(1.0)) {}

  double Step(const torch::Tensor& x, double lr, double l1) {
    torch::AutoGradMode grad(true);
    static_cast<torch::optim::AdamOptions&>(adam_.param_groups()[0].options()).lr(lr);
    adam_.zero_grad();
    const torch::Tensor pre = torch::relu(torch::mm(x - b_dec, W_enc) + b_enc);
    torch::Tensor loss;
    if (spec_.architecture == "topk") {
      const torch::Tensor acts = KeepTopK(pre, spec_.k);
      const torch::Tensor x_hat = torch::mm(acts, W_dec) + b_dec;
      loss = (x - x_hat).pow(2).sum(1).mean();
      CountFired(acts);
      loss = loss + *spec_.auxk_coefficient * AuxK(pre, (x - x_hat).detach());
    } else {
      const torch::Tensor x_hat = torch::mm(pre, W_dec) + b_dec;
      loss = (x - x_hat).pow(2).sum(1).mean() + l1 * (pre * W_dec.norm(2, {1})).sum(1).mean();
    }
    loss.backward();
    torch::NoGradGuard no_grad;
    if (spec_.architecture == "topk") {
      const torch::Tensor direction = W_dec / W_dec.norm(2, {1}, true);
      W_dec.mutable_grad().sub_((W_dec.grad() * direction).sum(1, true) * direction);
    }
    gradients = {W_enc.grad().t().clone(), b_enc.grad().clone(), W_dec.grad().clone(),
                 b_dec.grad().clone()};
    if (*spec_.clip_norm > 0) {
      torch::nn::utils::clip_grad_norm_(std::vector<torch::Tensor>{W_enc, b_enc, W_dec, b_dec},
                                        *spec_.clip_norm);
    }
    adam_.step();
    if (spec_.architecture == "topk") W_dec.div_(W_dec.norm(2, {1}, true));
    return loss.item<double>();
  }

  int64_t n_dead() const {
    return since_fired_.ge(static_cast<int64_t>(spec_.dead_after_tokens)).sum().item<int64_t>();
  }

 private:
  static torch::Tensor KeepTopK(const torch::Tensor& values, int64_t k) {
    const auto [best, index] = values.topk(k, 1);
    return torch::zeros_like(values).scatter(1, index, best);
  }
  void CountFired(const torch::Tensor& acts) {
    since_fired_ += acts.size(0);
    since_fired_.masked_fill_(acts.gt(0).any(0), 0);
  }
  torch::Tensor AuxK(const torch::Tensor& pre, const torch::Tensor& residual) {
    const torch::Tensor dead =
        since_fired_.ge(static_cast<int64_t>(spec_.dead_after_tokens)).nonzero().view({-1});
    if (dead.numel() == 0) return torch::zeros({});
    const torch::Tensor of_dead = pre.index_select(1, dead);
    const torch::Tensor acts = KeepTopK(of_dead, std::min(spec_.k_aux, dead.numel()));
    const torch::Tensor e_hat = torch::mm(acts, W_dec.index_select(0, dead));
    const torch::Tensor variance = (residual - residual.mean(0)).pow(2).sum();
    return (residual - e_hat).pow(2).sum() / variance;
  }

  TrainingSpec spec_;

 public:
  torch::Tensor W_enc, b_enc, W_dec, b_dec;
  SaeTrainer::Gradients gradients;

 private:
  torch::Tensor since_fired_;
  torch::optim::Adam adam_;
};

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

// architecture, shape, whether LibTorch's operators compute the step
using Case = std::tuple<std::string, Shape, bool>;
class StepTest : public testing::TestWithParam<Case> {};

TEST_P(StepTest, EqualsTheDenseStepByAutograd) {
  const auto& [architecture, shape, operators] = GetParam();
  const TrainingSpec spec = MakeSpec(shape, architecture);
  TrainState state = InitialState(spec, shape.d_in, torch::kCPU);
  torch::manual_seed(7);
  state.b_enc.value.normal_(0, 0.1);
  state.b_dec.value.normal_(0, 0.3);
  if (architecture == "standard") state.density = 0;  // the sparse path
  DenseTrainer dense(spec, state);
  SaeTrainer sparse(spec, std::move(state));
  if (operators) sparse.UseOperators();
  int64_t most_dead = 0;
  for (int step = 0; step < 6; ++step) {
    SCOPED_TRACE(step);
    const torch::Tensor x = Batch(shape, step);
    const double lr = 1e-3 * (step + 1);
    const double l1 = 0.3;
    const double loss = dense.Step(x, lr, l1);
    sparse.input().copy_(x);
    sparse.BeginStep(lr, l1);
    while (!sparse.RunFor(absl::ZeroDuration())) {
    }
    EXPECT_NEAR(sparse.result().loss, loss, 1e-5 * loss);
    const SaeTrainer::Gradients actual = sparse.CopyGradients();
    EXPECT_LT(RelativeError(actual.W_enc, dense.gradients.W_enc), 1e-4);
    EXPECT_LT(RelativeError(actual.b_enc, dense.gradients.b_enc), 1e-4);
    EXPECT_LT(RelativeError(actual.W_dec, dense.gradients.W_dec), 1e-4);
    EXPECT_LT(RelativeError(actual.b_dec, dense.gradients.b_dec), 1e-4);
    most_dead = std::max(most_dead, dense.n_dead());
  }
  EXPECT_LT(RelativeError(sparse.state().W_enc.value.t(), dense.W_enc), 2e-4);
  EXPECT_LT(RelativeError(sparse.state().b_enc.value, dense.b_enc), 2e-4);
  EXPECT_LT(RelativeError(sparse.state().W_dec.value, dense.W_dec), 2e-4);
  EXPECT_LT(RelativeError(sparse.state().b_dec.value, dense.b_dec), 2e-4);
  if (architecture == "topk") EXPECT_GT(most_dead, 0) << "AuxK was never at work";
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, StepTest,
    testing::Combine(testing::Values("topk", "standard"),
                     testing::Values(Shape{16, 64, 32, 4}, Shape{33, 130, 97, 3},
                                     Shape{48, 1100, 257, 9}, Shape{7, 40, 70, 1}),
                     testing::Bool()));

TEST(SaeTrainerTest, DenseAndSparsePathsOfAStandardStepAgree) {
  const Shape shape{33, 130, 150, 0};
  const TrainingSpec spec = MakeSpec(shape, "standard");
  TrainState for_dense = InitialState(spec, shape.d_in, torch::kCPU);
  TrainState for_sparse = InitialState(spec, shape.d_in, torch::kCPU);
  for_dense.density = 1;
  for_sparse.density = 0;
  SaeTrainer dense(spec, std::move(for_dense));
  SaeTrainer sparse(spec, std::move(for_sparse));
  for (SaeTrainer* trainer : {&dense, &sparse}) {
    trainer->input().copy_(Batch(shape, 3));
    trainer->BeginStep(1e-3, 0.2);
    ASSERT_TRUE(trainer->RunFor(absl::InfiniteDuration()));
  }
  EXPECT_NEAR(dense.result().loss, sparse.result().loss, 1e-5 * dense.result().loss);
  EXPECT_NEAR(dense.result().l1_loss, sparse.result().l1_loss, 1e-4);
  EXPECT_NEAR(dense.result().total_variance, sparse.result().total_variance, 1e-3);
  EXPECT_EQ(dense.result().l0, sparse.result().l0);
  EXPECT_LT(RelativeError(dense.CopyGradients().W_enc, sparse.CopyGradients().W_enc), 1e-4);
  EXPECT_LT(RelativeError(dense.CopyGradients().W_dec, sparse.CopyGradients().W_dec), 1e-4);
  EXPECT_TRUE(torch::equal(dense.state().tokens_since_fired, sparse.state().tokens_since_fired));
}

TEST(SaeTrainerTest, DecoderRowsOfTopKStayAtUnitNorm) {
  const Shape shape{33, 130, 97, 3};
  SaeTrainer trainer(MakeSpec(shape, "topk"),
                     InitialState(MakeSpec(shape, "topk"), shape.d_in, torch::kCPU));
  for (int step = 0; step < 3; ++step) {
    trainer.input().copy_(Batch(shape, step));
    trainer.BeginStep(0.05, 0);
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
  trainer.BeginStep(1e-3, 0);
  ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
  EXPECT_FALSE(trainer.result().finite());
  EXPECT_EQ(trainer.state().step, 0);
  EXPECT_TRUE(torch::equal(trainer.state().W_enc.value, before));
}

// Tokens are sums of a few of 64 known directions; training has to find them.
TEST(SaeTrainerTest, RecoversTheDirectionsOfASyntheticMixture) {
  constexpr int64_t kDirections = 64;
  const Shape shape{32, 128, 512, 4};
  TrainingSpec spec = MakeSpec(shape, "topk");
  spec.clip_norm = 1;
  spec.auxk_coefficient = 1.0 / 32;
  spec.dead_after_tokens = 20'000;
  spec.k_aux = 16;
  torch::manual_seed(5);
  torch::Tensor directions = torch::randn({kDirections, shape.d_in});
  directions = directions / directions.norm(2, {1}, true);
  SaeTrainer trainer(spec, InitialState(spec, shape.d_in, torch::kCPU));
  constexpr int kSteps = 1500;
  for (int step = 0; step < kSteps; ++step) {
    const torch::Tensor index = torch::randint(kDirections, {shape.batch, 3});
    const torch::Tensor strength = torch::rand({shape.batch, 3}) + 0.5;
    const torch::Tensor mixture =
        torch::zeros({shape.batch, kDirections}).scatter_(1, index, strength);
    trainer.input().copy_(torch::mm(mixture, directions));
    trainer.BeginStep(4e-3 * std::min(1.0, 2.0 * (kSteps - step) / kSteps), 0);
    trainer.RunFor(absl::InfiniteDuration());
  }
  const torch::Tensor cosines = torch::mm(directions, trainer.state().W_dec.value.t());
  EXPECT_GT(std::get<0>(cosines.max(1)).mean().item<double>(), 0.9);
}

}  // namespace
}  // namespace featurescope
