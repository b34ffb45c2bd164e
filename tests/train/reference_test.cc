// Trajectories of dictionary_learning's trainers (saprmarks/dictionary_learning 60ec6bf), step by
// step: losses, gradients and parameters, as recorded in tests/golden/train.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/tensor/weights.h"
#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

constexpr double kTolerance = 1e-4;  // relative
constexpr int64_t kWidth = 32;
constexpr int64_t kFeatures = 64;
constexpr int64_t kBatch = 64;
constexpr int kRecordedSteps = 5;

using nlohmann::json;

const char* const kTrainers[] = {"StandardTrainer",
                                 "StandardTrainer_schedules",
                                 "StandardTrainerAprilUpdate",
                                 "GatedSAETrainer",
                                 "GatedSAETrainer_schedules",
                                 "JumpReluTrainer",
                                 "JumpReluTrainer_schedules",
                                 "TopKTrainer",
                                 "TopKTrainer_auxk",
                                 "TopKTrainer_k_anneal",
                                 "BatchTopKTrainer",
                                 "BatchTopKTrainer_auxk",
                                 "BatchTopKTrainer_k_anneal",
                                 "MatryoshkaBatchTopKTrainer",
                                 "MatryoshkaBatchTopKTrainer_auxk"};

std::string GoldenDir() { return std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/train/"; }

// How a class of theirs spells our parameter `name`, and whether its tensor is the transpose of
// ours. Empty: it does not have it.
std::pair<std::string, bool> TheirName(const std::string& dict_class, const std::string& name) {
  using Names = std::map<std::string, std::pair<std::string, bool>>;
  static const Names linear = {{"W_enc", {"encoder.weight", false}},
                               {"b_enc", {"encoder.bias", false}},
                               {"W_dec", {"decoder.weight", true}}};
  static const std::map<std::string, Names> by_class = {
      {"AutoEncoder", {{"b_dec", {"bias", false}}}},
      {"AutoEncoderTopK", {{"b_dec", {"b_dec", false}}}},
      {"BatchTopKSAE", {{"b_dec", {"b_dec", false}}}},
      {"GatedAutoEncoder",
       {{"b_dec", {"decoder_bias", false}},
        {"b_gate", {"gate_bias", false}},
        {"b_mag", {"mag_bias", false}},
        {"r_mag", {"r_mag", false}}}},
      {"MatryoshkaBatchTopKSAE",
       {{"W_enc", {"W_enc", true}},
        {"b_enc", {"b_enc", false}},
        {"W_dec", {"W_dec", false}},
        {"b_dec", {"b_dec", false}}}},
      {"JumpReluAutoEncoder",
       {{"W_enc", {"W_enc", true}},
        {"b_enc", {"b_enc", false}},
        {"W_dec", {"W_dec", false}},
        {"b_dec", {"b_dec", false}},
        {"threshold", {"threshold", false}}}}};
  const Names& own = by_class.at(dict_class);
  if (auto it = own.find(name); it != own.end()) return it->second;
  if (auto it = linear.find(name); it != linear.end()) return it->second;
  return {};
}

class Reference {
 public:
  explicit Reference(const std::string& name)
      : trajectory_(SafetensorsFile::Open(GoldenDir() + name + "/trajectory.safetensors").value()),
        config_(ReadJsonFile(GoldenDir() + name + "/config.json").value()) {}

  // Our parameter `name` when `when`, in our layout.
  torch::Tensor Get(const std::string& when, const std::string& name) const {
    const auto [theirs, transposed] = TheirName(dict_class(), name);
    const TensorEntry* entry = trajectory_.Find(when + "." + theirs);
    EXPECT_NE(entry, nullptr) << when << "." << theirs;
    const torch::Tensor tensor =
        LoadTensor(trajectory_, *entry, torch::kFloat32, torch::kCPU).value();
    return transposed ? tensor.t().contiguous() : tensor;
  }
  bool Has(const std::string& when) const {
    return trajectory_.Find(when + "." + TheirName(dict_class(), "W_enc").first) != nullptr;
  }
  bool HasAtFirstLoss() const { return trajectory_.Find("at_first_loss.b_dec") != nullptr; }
  torch::Tensor Activations() const {
    const SafetensorsFile file =
        SafetensorsFile::Open(GoldenDir() + "activations.safetensors").value();
    return LoadTensor(file, "activations", {kRecordedSteps, kBatch, kWidth}, torch::kFloat32,
                      torch::kCPU)
        .value();
  }
  std::string dict_class() const { return config_["trainer"]["dict_class"].get<std::string>(); }
  std::string trainer_class() const {
    return config_["trainer"]["trainer_class"].get<std::string>();
  }
  const json& log(int step) const { return config_["log"][step]; }
  const json& config() const { return config_; }
  // A number among the constructor's arguments; `otherwise` where it is missing or null.
  double Argument(const char* name, double otherwise) const {
    const json& arguments = config_["constructor"];
    const auto it = arguments.find(name);
    return it == arguments.end() || it->is_null() ? otherwise : it->get<double>();
  }

 private:
  SafetensorsFile trajectory_;
  json config_;
};

void SetTopK(const Reference& reference, TrainingSpec* spec) {
  spec->k = static_cast<int64_t>(reference.Argument("k", 0));
  spec->auxk_coefficient = reference.Argument("auxk_alpha", 0);
  spec->k_aux = kWidth / 2;
  spec->threshold_beta = reference.Argument("threshold_beta", 0);
  spec->threshold_start_step = static_cast<int64_t>(reference.Argument("threshold_start_step", 0));
  spec->k_anneal_steps = static_cast<int64_t>(reference.Argument("k_anneal_steps", 0));
  spec->k_anneal_from_second_step = true;
  spec->b_dec_init = DecoderBiasInit::kGeometricMedian;
  const json& overrides = reference.config()["overrides"];
  spec->dead_after_tokens = overrides.value("dead_feature_threshold", 10'000'000);
}

// The recorded trainer's arguments as a specification of ours.
TrainingSpec SpecOf(const Reference& reference) {
  const std::string trainer = reference.trainer_class();
  const auto steps = static_cast<int64_t>(reference.Argument("steps", 0));
  TrainingSpec spec;
  spec.d_sae = kFeatures;
  spec.batch_size = kBatch;
  spec.tokens = static_cast<uint64_t>(steps * kBatch);
  spec.learning_rate = reference.config()["trainer"]["lr"].get<double>();
  spec.adam_beta1 = reference.config()["optimizer"]["betas"][0].get<double>();
  spec.warmup_from_zero = true;
  spec.lr_warmup_steps = static_cast<int64_t>(reference.Argument("warmup_steps", 0));
  const auto decay_start =
      static_cast<int64_t>(reference.Argument("decay_start", static_cast<double>(steps)));
  spec.lr_decay_steps = steps - decay_start;
  spec.l1_warmup_steps = static_cast<int64_t>(reference.Argument("sparsity_warmup_steps", 0));
  spec.input_scaling = InputScaling::kNone;
  spec.b_dec_init = DecoderBiasInit::kZeros;
  spec.l1_coefficient = reference.Argument("l1_penalty", 0);
  spec.decoder_norm = DecoderNorm::kUnit;
  spec.clip_norm = 0;
  if (trainer == "StandardTrainer" || trainer == "StandardTrainerAprilUpdate") {
    spec.architecture = "standard";
    if (trainer == "StandardTrainerAprilUpdate") {
      spec.decoder_norm = DecoderNorm::kFree;
      spec.clip_norm = 1;
    }
  } else if (trainer == "GatedSAETrainer") {
    spec.architecture = "gated";
  } else {
    spec.clip_norm = 1;
    if (trainer == "JumpReluTrainer") {
      spec.architecture = "jumprelu";
      spec.l0_step_input = L0StepInput::kActivation;
      spec.l0_coefficient = reference.Argument("sparsity_penalty", 0);
      spec.target_l0 = reference.Argument("target_l0", 0);
      spec.bandwidth = reference.Argument("bandwidth", 0);
      spec.clamp_threshold = false;
    } else {
      SetTopK(reference, &spec);
      spec.architecture = trainer == "TopKTrainer"        ? "topk"
                          : trainer == "BatchTopKTrainer" ? "batchtopk"
                                                          : "matryoshka_batchtopk";
      if (spec.architecture == "matryoshka_batchtopk") {
        const json& sizes = reference.config()["trainer"]["group_sizes"];
        spec.group_sizes = sizes.get<std::vector<int64_t>>();
        const double n = static_cast<double>(sizes.size());
        for (const json& weight : reference.config()["trainer"]["group_weights"]) {
          spec.group_weights.push_back(weight.get<double>() / n);
        }
      }
    }
  }
  return ResolveForWidths(spec, {kWidth, kWidth}, 1).value();
}

TrainState InitialStateOf(const Reference& reference, const TrainingSpec& spec) {
  TrainState state = InitialState(spec, kWidth, torch::kCPU);
  VisitParameters(state, [&](const char* name, Trained& parameter) {
    if (parameter.value.defined()) parameter = MakeTrained(reference.Get("init", name));
  });
  return state;
}

// |actual - expected| relative to the largest expected value.
double RelativeError(const torch::Tensor& actual, const torch::Tensor& expected) {
  return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item<double>();
}

void ExpectState(const TrainState& state, const Reference& reference, const std::string& when) {
  VisitParameters(state, [&](const char* name, const Trained& parameter) {
    if (!parameter.value.defined()) return;
    EXPECT_LT(RelativeError(parameter.value, reference.Get(when, name)), kTolerance)
        << name << " " << when;
  });
}

// The reference's gradients are from before the projection.
torch::Tensor Projected(const torch::Tensor& gradient, const torch::Tensor& W_dec) {
  const torch::Tensor direction = W_dec / W_dec.norm(2, {1}, true);
  return gradient - (gradient * direction).sum(1, true) * direction;
}

void ExpectGradients(const Gradients& actual, const torch::Tensor& W_dec,
                     const Reference& reference, const std::string& when, bool projected) {
  VisitParameters(actual, [&](const char* name, const torch::Tensor& gradient) {
    if (!gradient.defined()) return;
    torch::Tensor expected = reference.Get(when, name);
    if (projected && std::string(name) == "W_dec") expected = Projected(expected, W_dec);
    EXPECT_LT(RelativeError(gradient, expected), kTolerance) << name << " " << when;
  });
}

void ExpectLosses(const StepResult& result, const TrainingSpec& spec, const json& log) {
  const auto near = [&](double actual, const char* name) {
    if (!log.contains(name)) return;
    const double expected = log[name].get<double>();
    EXPECT_NEAR(actual, expected, kTolerance * std::max(std::abs(expected), 1e-3)) << name;
  };
  near(result.loss, "loss");
  near(result.mse, "mse_loss");
  near(result.l0, "l0");
  near(result.k, "k");
  near(result.auxk_loss, "auxk_loss");
  near(result.gate_mse, "aux_loss");
  const ArchitectureTraits traits = TraitsOf(spec);
  if (traits.family == ActivationFamily::kTopK || traits.family == ActivationFamily::kBatchTopK ||
      traits.family == ActivationFamily::kJumpRelu) {
    near(result.mse, "l2_loss");
  }
  if (traits.topk_family()) {
    near(result.threshold, "threshold_after");
    near(result.dead_share * kFeatures, "dead_features");
  }
  if (spec.sparsity_penalty == SparsityPenalty::kL1) near(result.sparsity_loss, "sparsity_loss");
  if (!*spec.project_decoder_gradient) near(result.grad_norm, "grad_norm_raw");
}

// trainer, whether the dense path is taken, whether LibTorch's operators compute the step
using Case = std::tuple<const char*, bool, bool>;

class ReferenceTest : public testing::TestWithParam<Case> {
 protected:
  ~ReferenceTest() override { ComposeOfOperators(false); }
};

TEST_P(ReferenceTest, StepsAgreeWithDictionaryLearning) {
  const auto& [name, dense, operators] = GetParam();
  const Reference reference(name);
  const TrainingSpec spec = SpecOf(reference);
  SaeTrainer trainer(spec, InitialStateOf(reference, spec));
  if (dense && !trainer.can_be_dense()) return;  // it has no dense path
  ComposeOfOperators(operators);
  trainer.ForcePath(dense);
  const torch::Tensor activations = reference.Activations();
  if (reference.HasAtFirstLoss()) {
    trainer.input().copy_(activations[0]);
    trainer.InitializeFromBatch();
    EXPECT_LT(RelativeError(trainer.state().b_dec.value, reference.Get("at_first_loss", "b_dec")),
              kTolerance);
  }
  for (int step = 0; step < kRecordedSteps; ++step) {
    SCOPED_TRACE(step);
    const json& log = reference.log(step);
    const StepSettings settings = SettingsOfStep(spec, step, TotalSteps(spec));
    EXPECT_NEAR(settings.learning_rate, log["lr"].get<double>(), 1e-12);
    const torch::Tensor W_dec = trainer.state().W_dec.value.clone();
    trainer.input().copy_(activations[step]);
    trainer.BeginStep(settings);
    ASSERT_TRUE(trainer.RunFor(absl::InfiniteDuration()));
    ExpectLosses(trainer.result(), spec, log);
    const std::string when = "grad_step" + std::to_string(step);
    if (reference.Has(when)) {
      ExpectGradients(trainer.CopyGradients(), W_dec, reference, when,
                      *spec.project_decoder_gradient);
    }
    if (step == 0) ExpectState(trainer.state(), reference, "after_step1");
  }
  ExpectState(trainer.state(), reference, "after_step5");
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(std::get<0>(info.param)) + (std::get<1>(info.param) ? "Dense" : "Sparse") +
         (std::get<2>(info.param) ? "ByOperators" : "");
}

INSTANTIATE_TEST_SUITE_P(Trainers, ReferenceTest,
                         testing::Combine(testing::ValuesIn(kTrainers), testing::Bool(),
                                          testing::Bool()),
                         CaseName);

TEST(ReferenceDirectoryTest, EveryRecordedTrainerHasACase) {
  std::set<std::string> recorded;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenDir())) {
    if (entry.is_directory()) recorded.insert(entry.path().filename().string());
  }
  EXPECT_EQ(recorded, std::set<std::string>(std::begin(kTrainers), std::end(kTrainers)));
}

TEST(ReferenceDirectoryTest, EveryTrainerOfTheSharedFixturesIsHere) {
  const char* shared = std::getenv("FEATURESCOPE_SHARED");
  const std::string directory =
      (shared != nullptr ? std::string(shared)
                         : std::string(FEATURESCOPE_SOURCE_DIR) + "/../shared") +
      "/fixtures/train";
  if (!std::filesystem::is_directory(directory)) GTEST_SKIP() << directory << " is not there";
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (!entry.is_directory()) continue;
    EXPECT_TRUE(std::filesystem::exists(GoldenDir() + entry.path().filename().string()))
        << entry.path();
  }
}

}  // namespace
}  // namespace featurescope
