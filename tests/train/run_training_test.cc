#include "server/train/run_training.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/formats/file.h"
#include "server/sae/architectures.h"
#include "server/sae/sae_files.h"
#include "server/train/activation_files.h"
#include "server/train/checkpoint.h"
#include "tests/train/training_fixture.h"

namespace featurescope {
namespace {

class RunTrainingTest : public testing::Test {
 protected:
  RunTrainingTest() : inputs_(TinyInputs(directory_ / "corpus")), device_(DeviceWorkerOptions()) {
    ctx_.device = &device_;
    ctx_.work_dir = directory_ / "work";
    ctx_.on_metrics = [this](const RunMetrics& point) { points_.push_back(point); };
  }

  std::shared_ptr<const Sae> LoadResult(const std::string& name) {
    return LoadSae(directory_ / name, torch::kCPU).value();
  }

  // Trains as `spec` says, but cancels the run after some quanta and starts it anew, until it ends.
  // Returns how many starts it took.
  int TrainWithInterruptions(const TrainingSpec& spec, const std::string& output) {
    for (int start = 1;; ++start) {
      RunContext ctx = ctx_;
      ctx.work_dir = directory_ / (output + "_work");
      ctx.quantum = absl::ZeroDuration();  // a turn for every block of a step
      CancelToken cancel;
      ctx.cancel = cancel;
      // Some places to stop in the middle of blocks and steps, later with every start.
      const int quanta = 25 + 13 * start;
      InterruptingWorker interrupter(&device_, cancel, quanta);
      std::thread thread([&] { interrupter.Run(); });
      const absl::Status status = RunTraining(inputs_, spec, ctx, directory_ / output);
      interrupter.Stop();
      thread.join();
      if (status.ok()) return start;
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
      if (start > 200) {
        ADD_FAILURE() << "the run does not get on";
        return start;
      }
    }
  }

  // Cancels after the device has run a number of quanta.
  class InterruptingWorker {
   public:
    InterruptingWorker(const DeviceWorker* device, CancelToken cancel, int quanta)
        : device_(device), cancel_(std::move(cancel)) {
      until_ = device->stats().background_quanta + static_cast<uint64_t>(quanta);
    }
    void Run() {
      while (!stopped_.load()) {
        if (device_->stats().background_quanta >= until_) {
          cancel_.Cancel();
          return;
        }
        std::this_thread::yield();
      }
    }
    void Stop() { stopped_.store(true); }

   private:
    const DeviceWorker* device_;
    CancelToken cancel_;
    uint64_t until_ = 0;
    std::atomic<bool> stopped_{false};
  };

  TempDir directory_;
  TrainingInputs inputs_;
  DeviceWorker device_;
  RunContext ctx_;
  std::vector<RunMetrics> points_;
};

void ExpectSameParameters(const Sae& a, const Sae& b) {
  for (const SaeParameterSpec& parameter : kSaeParameterSpecs) {
    const torch::Tensor& one = a.parameters().*parameter.tensor;
    const torch::Tensor& other = b.parameters().*parameter.tensor;
    ASSERT_EQ(one.defined(), other.defined()) << parameter.name;
    if (one.defined()) EXPECT_TRUE(torch::equal(one, other)) << parameter.name;
  }
}

TEST_F(RunTrainingTest, WritesAnSaeThatLoadsAndSaysWhereItBelongs) {
  ASSERT_TRUE(RunTraining(inputs_, TinySpec(), ctx_, directory_ / "sae").ok());
  const std::shared_ptr<const Sae> sae = LoadResult("sae");
  EXPECT_EQ(sae->config().architecture, "topk");
  EXPECT_EQ(sae->config().d_sae, 96);
  EXPECT_EQ(sae->config().d_in, inputs_.model->config().d_model);
  EXPECT_EQ(sae->config().k, 4);
  EXPECT_EQ(sae->config().hook_name, "blocks.1.hook_resid_post");
  EXPECT_EQ(sae->config().model_name, "tiny");
  EXPECT_EQ(sae->config().context_size, 16);
  EXPECT_TRUE(sae->config().prepend_bos);
  EXPECT_FALSE(FileExists(directory_ / "sae.partial/cfg.json"));
}

TEST_F(RunTrainingTest, LearnsAndReportsIt) {
  TrainingSpec spec = TinySpec();
  spec.tokens = 32 * 600;
  spec.k = 12;
  spec.learning_rate = 3e-3;
  ASSERT_TRUE(RunTraining(inputs_, spec, ctx_, directory_ / "sae").ok());
  ASSERT_FALSE(points_.empty());
  const RunMetrics& last = points_.back();
  EXPECT_EQ(last.step, 600u);
  EXPECT_EQ(last.tokens, 32u * 600u);
  for (const char* name : {"loss", "mse", "fvu", "explained_variance", "l0", "dead_share",
                           "auxk_loss", "learning_rate", "grad_norm", "tokens_per_second"}) {
    ASSERT_EQ(last.values.count(name), 1u) << name;
    EXPECT_TRUE(std::isfinite(last.values.at(name))) << name;
  }
  EXPECT_LE(last.values.at("l0"), 12.0);
  EXPECT_GT(last.values.at("l0"), 6.0);
  EXPECT_NEAR(last.values.at("fvu") + last.values.at("explained_variance"), 1, 1e-9);
}

// What an architecture's run needs besides its name.
TrainingSpec SpecOf(const std::string& architecture) {
  TrainingSpec spec = TinySpec();
  spec.architecture = architecture;
  if (!TraitsOf(spec).topk_family()) spec.k = 0;
  spec.threshold_start_step = 5;
  spec.initial_threshold = 0.05;
  spec.bandwidth = 0.2;
  return spec;
}

class ArchitectureRunTest : public RunTrainingTest,
                            public testing::WithParamInterface<const char*> {
 protected:
  ArchitectureRunTest() : spec_(SpecOf(GetParam())) {
    if (!TraitsOf(spec_).transcoder) return;
    inputs_.hook = HookPoint::Parse("blocks.1.hook_resid_mid").value();
    inputs_.hook_out = HookPoint::Parse("blocks.1.mlp.hook_post").value();
  }

  TrainingSpec spec_;
};

TEST_P(ArchitectureRunTest, InterruptionsDoNotChangeASingleBit) {
  spec_.checkpoint_steps = 3;
  spec_.tokens = 32 * 22;
  if (spec_.architecture == "standard") {  // a window of draws that checkpoints fall into
    spec_.resample_tokens = 32 * 10;
    spec_.resample_dead_after_tokens = 64;
    spec_.resample_from_tokens = 32 * 7;
    spec_.l1_coefficient = 100;
  }
  ASSERT_TRUE(RunTraining(inputs_, spec_, ctx_, directory_ / "whole").ok());
  // On a busy machine the run may be through before it is interrupted.
  std::string name = "interrupted";
  while (TrainWithInterruptions(spec_, name) <= 2 && name.size() < 20) name += "_";
  EXPECT_LT(name.size(), 20u);
  ExpectSameParameters(*LoadResult("whole"), *LoadResult(name));
}

// The model's activations at the run's hook points on held-out contexts, BOS left out.
std::pair<torch::Tensor, torch::Tensor> HeldOutRowsOf(const TrainingInputs& inputs) {
  torch::Tensor x;
  torch::Tensor y;
  HookSet hooks;
  hooks.Add(inputs.hook, [&](const HookContext&, torch::Tensor& value) { x = value.clone(); });
  if (inputs.hook_out) {
    hooks.Add(*inputs.hook_out,
              [&](const HookContext&, torch::Tensor& value) { y = value.clone(); });
  }
  SequenceBatch batch;
  std::vector<uint32_t> ids;
  const ContextRange contexts = inputs.corpus->heldout_contexts();
  for (uint64_t i = contexts.begin; i < contexts.end; ++i) {
    EXPECT_TRUE(inputs.corpus->Context(i, &ids).ok());
    batch.Append(ids);
  }
  ForwardOptions options;
  options.hooks = &hooks;
  EXPECT_TRUE(inputs.model->Forward(batch, options).ok());
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < batch.n_tokens(); ++i) {
    if (batch.tokens[i] != 0) kept.push_back(i);
  }
  const torch::Tensor index = torch::tensor(kept);
  if (!y.defined()) y = x;
  return {x.index_select(0, index), y.index_select(0, index)};
}

// What is written does on plain activations what training measured on scaled ones at its end: only
// so are scales, thresholds and what is folded into the result right.
TEST_P(ArchitectureRunTest, TheResultDoesWhatTrainingMeasured) {
  const TrainingInputs with_held_out = TinyInputs(directory_ / "held_corpus", 800, 0.3);
  inputs_.corpus = with_held_out.corpus;
  spec_.tokens = 32 * 200;
  spec_.learning_rate = 3e-3;
  spec_.k = spec_.k > 0 ? 12 : 0;
  spec_.l1_coefficient = 0.5;
  spec_.target_l0 = 12;
  spec_.threshold_beta = 0.9;
  ASSERT_TRUE(RunTraining(inputs_, spec_, ctx_, directory_ / "sae").ok());
  const auto [x, y] = HeldOutRowsOf(inputs_);
  constexpr int64_t kRows = 128;  // heldout_tokens: four batches
  ASSERT_GE(x.size(0), kRows);
  const std::shared_ptr<const Sae> sae = LoadResult("sae");
  const EncodedRows encoded = sae->Encode(x.slice(0, 0, kRows)).value();
  const torch::Tensor error = (y.slice(0, 0, kRows) - sae->Decode(encoded)).pow(2).sum(1);
  double variance = 0;
  for (int64_t i = 0; i < kRows; i += 32) {  // of each batch, as training measures it
    const torch::Tensor rows = y.slice(0, i, i + 32);
    variance += (rows - rows.mean(0)).pow(2).sum().item<double>();
  }
  const double fvu = error.sum().item<double>() / variance;
  const double l0 = static_cast<double>(encoded.acts.nnz()) / kRows;
  const auto& measured = points_.back().values;
  // A threshold stands in for the whole batch.
  const double tolerance = TraitsOf(spec_).batch_topk() ? 0.2 : 1e-3;
  EXPECT_NEAR(fvu, measured.at("heldout_fvu"), tolerance * fvu + 1e-6);
  EXPECT_NEAR(l0, measured.at("heldout_l0"), tolerance * l0);
  EXPECT_LT(fvu, 0.95);
  EXPECT_LT(measured.at("fvu"), 1.0);
}

INSTANTIATE_TEST_SUITE_P(All, ArchitectureRunTest,
                         testing::Values("standard", "topk", "batchtopk", "matryoshka_batchtopk",
                                         "jumprelu", "gated", "transcoder", "skip_transcoder",
                                         "topk_transcoder", "topk_skip_transcoder",
                                         "jumprelu_transcoder", "jumprelu_skip_transcoder"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(RunTrainingTest, ADamagedCheckpointIsPassedOver) {
  TrainingSpec spec = TinySpec();
  spec.checkpoint_steps = 10;
  ASSERT_TRUE(RunTraining(inputs_, spec, ctx_, directory_ / "whole").ok());
  // Checkpoints of steps 20 and 30 are left.
  const std::string newest = ctx_.work_dir + "/checkpoint-000000000030.safetensors";
  ASSERT_TRUE(FileExists(newest));
  EXPECT_FALSE(FileExists(ctx_.work_dir + "/checkpoint-000000000010.json"));
  std::filesystem::resize_file(newest, std::filesystem::file_size(newest) / 2);
  ASSERT_TRUE(RunTraining(inputs_, spec, ctx_, directory_ / "again").ok());
  ExpectSameParameters(*LoadResult("whole"), *LoadResult("again"));
}

TEST_F(RunTrainingTest, AnotherSeedIsAnotherRun) {
  TrainingSpec spec = TinySpec();
  spec.checkpoint_steps = 10;
  ASSERT_TRUE(RunTraining(inputs_, spec, ctx_, directory_ / "one").ok());
  spec.seed = 4;
  ASSERT_TRUE(RunTraining(inputs_, spec, ctx_, directory_ / "two").ok());
  EXPECT_FALSE(
      torch::equal(LoadResult("one")->parameters().W_dec, LoadResult("two")->parameters().W_dec));
}

TEST_F(RunTrainingTest, AFinishedRunIsNotRepeatedAndNothingForeignIsOverwritten) {
  ASSERT_TRUE(RunTraining(inputs_, TinySpec(), ctx_, directory_ / "sae").ok());
  points_.clear();
  EXPECT_TRUE(RunTraining(inputs_, TinySpec(), ctx_, directory_ / "sae").ok());
  EXPECT_TRUE(points_.empty());
  ASSERT_TRUE(EnsureDir(directory_ / "foreign").ok());
  EXPECT_EQ(RunTraining(inputs_, TinySpec(), ctx_, directory_ / "foreign").code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(RunTrainingTest, ALossThatExplodesStopsTheRunNamingTheStep) {
  TrainingSpec spec = TinySpec();
  spec.architecture = "standard";
  spec.learning_rate = 1000;
  spec.l1_coefficient = 1e9;
  spec.clip_norm = 0;
  spec.tokens = 32 * 4000;
  spec.lr_warmup_steps = 0;
  spec.l1_warmup_steps = 0;
  spec.adam_beta2 = 0;
  const absl::Status status = RunTraining(inputs_, spec, ctx_, directory_ / "sae");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("at step"), absl::string_view::npos) << status;
  EXPECT_FALSE(FileExists(directory_ / "sae/cfg.json"));
}

// One bad value in a file, met some steps after the first checkpoints.
TEST_F(RunTrainingTest, AnInputThatIsNotFiniteLeavesTheLastGoodCheckpoint) {
  torch::manual_seed(3);
  torch::Tensor rows = torch::randn({32 * 40, 16});
  rows[32 * 30][5] = std::numeric_limits<float>::quiet_NaN();
  const std::string path = directory_ / "x.bin";
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(rows.data_ptr()), static_cast<int64_t>(rows.nbytes()));
  ActivationFiles::Channel channel;
  channel.dtype = DType::kF32;
  channel.width = 16;
  channel.paths = {path};
  TrainingInputs inputs;
  inputs.hook = inputs_.hook;
  inputs.activations = ActivationFiles::OpenRaw({channel}).value();
  for (const char* architecture : {"topk", "standard", "jumprelu", "gated"}) {
    SCOPED_TRACE(architecture);
    TrainingSpec spec = SpecOf(architecture);
    spec.checkpoint_steps = 1;
    // A scale is measured on the first block, which must not hold the bad row.
    spec.input_scaling = InputScaling::kNone;
    spec.b_dec_init = DecoderBiasInit::kZeros;
    ctx_.work_dir = directory_ / (std::string(architecture) + "_work");
    const std::string output = directory_ / architecture;
    const absl::Status status = RunTraining(inputs, spec, ctx_, output);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_FALSE(FileExists(output + "/cfg.json"));
    const std::vector<int64_t> steps = CheckpointSteps(ctx_.work_dir);
    if (steps.empty()) continue;  // the bad row came in the first step
    const std::shared_ptr<const Sae> last = LoadSae(ctx_.work_dir + "/last", torch::kCPU).value();
    for (const SaeParameterSpec& parameter : kSaeParameterSpecs) {
      const torch::Tensor& value = last->parameters().*parameter.tensor;
      if (value.defined()) EXPECT_TRUE(value.isfinite().all().item<bool>()) << parameter.name;
    }
    // Started again it goes on from there, and meets the same.
    EXPECT_EQ(RunTraining(inputs, spec, ctx_, output).code(),
              absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(CheckpointSteps(ctx_.work_dir), steps);
  }
}

TEST_F(RunTrainingTest, CancellingStopsIt) {
  ctx_.cancel.Cancel();
  EXPECT_EQ(RunTraining(inputs_, TinySpec(), ctx_, directory_ / "sae").code(),
            absl::StatusCode::kCancelled);
  EXPECT_FALSE(FileExists(directory_ / "sae/cfg.json"));
}

}  // namespace
}  // namespace featurescope
