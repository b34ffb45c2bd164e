// Trajectories of dictionary_learning's trainers (saprmarks/dictionary_learning 60ec6bf), step by
// step: losses, gradients and parameters.
#include <gtest/gtest.h>

#include <string>

#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/tensor/weights.h"
#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

constexpr double kTolerance = 1e-4;  // relative

class Reference {
 public:
  explicit Reference(const std::string& name)
      : directory_(std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/train/"),
        trajectory_(SafetensorsFile::Open(directory_ + name + "/trajectory.safetensors").value()),
        config_(ReadJsonFile(directory_ + name + "/config.json").value()) {}

  torch::Tensor Get(const std::string& name) const {
    const TensorEntry* entry = trajectory_.Find(name);
    EXPECT_NE(entry, nullptr) << name;
    return LoadTensor(trajectory_, *entry, torch::kFloat32, torch::kCPU).value();
  }
  torch::Tensor Activations() const {
    const SafetensorsFile file =
        SafetensorsFile::Open(directory_ + "activations.safetensors").value();
    return LoadTensor(file, "activations", {5, 64, 32}, torch::kFloat32, torch::kCPU).value();
  }
  const nlohmann::json& log(int step) const { return config_["log"][step]; }
  const nlohmann::json& trainer() const { return config_["trainer"]; }

 private:
  std::string directory_;
  SafetensorsFile trajectory_;
  nlohmann::json config_;
};

TrainingSpec SpecOf(const Reference& reference) {
  TrainingSpec spec;
  spec.d_sae = 64;
  spec.batch_size = 64;
  spec.clip_norm = 1;
  spec.auxk_coefficient = reference.trainer().value("auxk_alpha", 0.0);
  spec.k = reference.trainer().value("k", 0);
  spec.k_aux = 16;
  spec.architecture = spec.k > 0 ? "topk" : "standard";
  spec.dead_after_tokens = 10'000'000;
  return spec;
}

TrainState InitialStateOf(const Reference& reference, const std::string& b_dec) {
  TrainState state;
  state.W_enc = MakeTrained(reference.Get("init.encoder.weight"));
  state.b_enc = MakeTrained(reference.Get("init.encoder.bias"));
  state.W_dec = MakeTrained(reference.Get("init.decoder.weight").t().contiguous());
  state.b_dec = MakeTrained(reference.Get(b_dec));
  state.tokens_since_fired = torch::zeros({64}, torch::kInt64);
  return state;
}

// |actual - expected| relative to the largest expected value.
double RelativeError(const torch::Tensor& actual, const torch::Tensor& expected) {
  return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item<double>();
}

void ExpectState(const TrainState& state, const Reference& reference, const std::string& when,
                 const std::string& bias) {
  EXPECT_LT(RelativeError(state.W_enc.value, reference.Get(when + ".encoder.weight")), kTolerance);
  EXPECT_LT(RelativeError(state.b_enc.value, reference.Get(when + ".encoder.bias")), kTolerance);
  EXPECT_LT(RelativeError(state.W_dec.value.t(), reference.Get(when + ".decoder.weight")),
            kTolerance);
  EXPECT_LT(RelativeError(state.b_dec.value, reference.Get(when + "." + bias)), kTolerance);
}

// The reference's gradients are from before the projection.
torch::Tensor Projected(const torch::Tensor& gradient, const torch::Tensor& W_dec) {
  const torch::Tensor direction = W_dec / W_dec.norm(2, {1}, true);
  return gradient - (gradient * direction).sum(1, true) * direction;
}

void ExpectGradients(const SaeTrainer::Gradients& actual, const torch::Tensor& W_dec,
                     const Reference& reference, const std::string& when, const std::string& bias,
                     bool projected) {
  torch::Tensor expected = reference.Get(when + ".decoder.weight").t();
  if (projected) expected = Projected(expected, W_dec);
  EXPECT_LT(RelativeError(actual.W_dec, expected), kTolerance);
  EXPECT_LT(RelativeError(actual.W_enc, reference.Get(when + ".encoder.weight")), kTolerance);
  EXPECT_LT(RelativeError(actual.b_enc, reference.Get(when + ".encoder.bias")), kTolerance);
  EXPECT_LT(RelativeError(actual.b_dec, reference.Get(when + "." + bias)), kTolerance);
}

void RunTrajectory(SaeTrainer& trainer, const Reference& reference, const std::string& bias,
                   double l1_coefficient) {
  const bool topk = reference.trainer().contains("k");
  const torch::Tensor activations = reference.Activations();
  for (int step = 0; step < 5; ++step) {
    SCOPED_TRACE(step);
    const nlohmann::json& log = reference.log(step);
    const torch::Tensor W_dec = trainer.state().W_dec.value.clone();
    trainer.input().copy_(activations[step]);
    trainer.BeginStep(log["lr"].get<double>(), l1_coefficient);
    ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
    const StepResult& result = trainer.result();
    EXPECT_NEAR(result.loss, log["loss"].get<double>(), kTolerance * result.loss);
    EXPECT_NEAR(result.l0, log["l0"].get<double>(), 1e-6);
    if (topk) {
      EXPECT_NEAR(result.mse, log["l2_loss"].get<double>(), kTolerance * result.mse);
      EXPECT_NEAR(result.auxk_loss, log["auxk_loss"].get<double>(), kTolerance);
      EXPECT_NEAR(result.dead_share * 64, log["dead_features"].get<double>(), 1e-6);
    } else {
      EXPECT_NEAR(result.mse, log["mse_loss"].get<double>(), kTolerance * result.mse);
      EXPECT_NEAR(result.l1_loss, log["sparsity_loss"].get<double>(), kTolerance);
      EXPECT_NEAR(result.grad_norm, log["grad_norm_raw"].get<double>(), 1e-3);
    }
    if (step == 0) {
      ExpectGradients(trainer.CopyGradients(), W_dec, reference, "grad_step0", bias, topk);
      ExpectState(trainer.state(), reference, "after_step1", bias);
    }
  }
  ExpectState(trainer.state(), reference, "after_step5", bias);
}

TEST(ReferenceTest, TopKStepsAgreeWithDictionaryLearning) {
  const Reference reference("TopKTrainer");
  SaeTrainer trainer(SpecOf(reference), InitialStateOf(reference, "at_first_loss.b_dec"));
  RunTrajectory(trainer, reference, "b_dec", 0);
}

TEST(ReferenceTest, TopKStepsWithDeadFeaturesAgreeWithDictionaryLearning) {
  const Reference reference("TopKTrainer_auxk");
  TrainingSpec spec = SpecOf(reference);
  spec.dead_after_tokens = 64;
  SaeTrainer trainer(spec, InitialStateOf(reference, "at_first_loss.b_dec"));
  RunTrajectory(trainer, reference, "b_dec", 0);
}

TEST(ReferenceTest, TopKStepsByOperatorsAgreeWithDictionaryLearning) {
  const Reference reference("TopKTrainer_auxk");
  TrainingSpec spec = SpecOf(reference);
  spec.dead_after_tokens = 64;
  SaeTrainer trainer(spec, InitialStateOf(reference, "at_first_loss.b_dec"));
  trainer.UseOperators();
  RunTrajectory(trainer, reference, "b_dec", 0);
}

TEST(ReferenceTest, StandardStepsAgreeWithDictionaryLearningsAprilUpdate) {
  const Reference reference("StandardTrainerAprilUpdate");
  SaeTrainer trainer(SpecOf(reference), InitialStateOf(reference, "init.bias"));
  RunTrajectory(trainer, reference, "bias", reference.trainer()["l1_penalty"].get<double>());
}

TEST(ReferenceTest, GeometricMedianAgreesWithDictionaryLearning) {
  const Reference reference("TopKTrainer");
  const torch::Tensor median =
      InitialDecoderBias(DecoderBiasInit::kGeometricMedian, reference.Activations()[0]);
  EXPECT_LT(RelativeError(median, reference.Get("at_first_loss.b_dec")), kTolerance);
}

}  // namespace
}  // namespace featurescope
