// Runs with several SAEs, other sources than a model on one corpus, held-out tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "server/formats/file.h"
#include "server/sae/architectures.h"
#include "server/sae/sae_files.h"
#include "server/train/activation_cache.h"
#include "server/train/activation_files.h"
#include "server/train/run_training.h"
#include "tests/train/training_fixture.h"

namespace featurescope {
namespace {

class SweepTest : public testing::Test {
 protected:
  SweepTest() : inputs_(TinyInputs(directory_ / "corpus")) {
    ctx_.device = &device_;
    ctx_.work_dir = directory_ / "work";
    ctx_.on_metrics = [this](const RunMetrics& point) { points_.push_back(point); };
  }
  SweepMember Member(const std::string& name, const TrainingSpec& spec) {
    SweepMember member;
    member.name = name;
    member.spec = spec;
    member.output_dir = directory_ / ("sae_" + name);
    return member;
  }
  std::shared_ptr<const Sae> Load(const std::string& name) {
    return LoadSae(directory_ / name, torch::kCPU).value();
  }

  TempDir directory_;
  TrainingInputs inputs_;
  DeviceWorker device_{DeviceWorkerOptions()};
  RunContext ctx_;
  std::vector<RunMetrics> points_;
};

bool SameParameters(const Sae& a, const Sae& b) {
  for (const SaeParameterSpec& parameter : kSaeParameterSpecs) {
    const torch::Tensor& one = a.parameters().*parameter.tensor;
    const torch::Tensor& other = b.parameters().*parameter.tensor;
    if (one.defined() != other.defined() || (one.defined() && !torch::equal(one, other))) {
      return false;
    }
  }
  return true;
}

TEST_F(SweepTest, EachMemberBecomesWhatItWouldHaveBecomeAlone) {
  TrainingSpec wide = TinySpec();
  wide.d_sae = 128;
  TrainingSpec standard = TinySpec();
  standard.architecture = "standard";
  standard.k = 0;
  std::vector<SweepMember> members = {Member("k4", TinySpec()), Member("wide", wide),
                                      Member("standard", standard), Member("early", TinySpec())};
  members[3].hook = HookPoint::Parse("blocks.0.hook_resid_post").value();
  ASSERT_TRUE(RunSweep(inputs_, members, ctx_).ok());
  RunContext alone = ctx_;
  alone.work_dir = directory_ / "alone_wide";
  ASSERT_TRUE(RunTraining(inputs_, wide, alone, directory_ / "alone_wide_sae").ok());
  EXPECT_TRUE(SameParameters(*Load("sae_wide"), *Load("alone_wide_sae")));
  alone.work_dir = directory_ / "alone_early";
  TrainingInputs early = inputs_;
  early.hook = *members[3].hook;
  ASSERT_TRUE(RunTraining(early, TinySpec(), alone, directory_ / "alone_early_sae").ok());
  EXPECT_TRUE(SameParameters(*Load("sae_early"), *Load("alone_early_sae")));
  EXPECT_EQ(Load("sae_early")->config().hook_name, "blocks.0.hook_resid_post");
  for (const char* name : {"k4/fvu", "wide/fvu", "standard/l1_loss", "early/auxk_loss"}) {
    ASSERT_EQ(points_.front().values.count(name), 1u) << name;
  }
}

TEST_F(SweepTest, ReportsBetweenTwoMembersTurnsSayNothingOfThoseThatDidNothing) {
  TrainingSpec spec = TinySpec();
  spec.d_sae = 4096;
  spec.k = 4;
  spec.tokens = 256 * static_cast<uint64_t>(spec.batch_size);
  TrainingSpec other = spec;
  other.k = 6;
  ctx_.quantum = absl::ZeroDuration();  // one turn each
  int slow = 0;
  // After a slow report the next is due at once: when one member has done a step.
  ctx_.on_progress = [&slow](const RunProgress&) {
    if (++slow <= 3) absl::SleepFor(absl::Milliseconds(600));
  };
  ASSERT_TRUE(RunSweep(inputs_, {Member("a", spec), Member("b", other)}, ctx_).ok());
  ASSERT_FALSE(points_.empty());
  for (const RunMetrics& point : points_) {
    for (const auto& [name, value] : point.values) EXPECT_TRUE(std::isfinite(value)) << name;
    if (point.values.count("a/k") != 0) EXPECT_EQ(point.values.at("a/k"), 4);
    if (point.values.count("b/k") != 0) EXPECT_EQ(point.values.at("b/k"), 6);
  }
}

TEST_F(SweepTest, ContinuesFromTheNewestStepThatAllMembersHave) {
  TrainingSpec spec = TinySpec();
  spec.checkpoint_steps = 10;
  TrainingSpec other = spec;
  other.k = 6;
  ASSERT_TRUE(RunSweep(inputs_, {Member("a", spec), Member("b", other)}, ctx_).ok());
  const auto a = Load("sae_a");
  const auto b = Load("sae_b");
  // One member's newest checkpoint was not written any more.
  std::filesystem::remove_all(directory_ / "sae_a");
  std::filesystem::remove_all(directory_ / "sae_b");
  std::filesystem::remove(ctx_.work_dir + "/b/checkpoint-000000000030.json");
  points_.clear();
  ASSERT_TRUE(RunSweep(inputs_, {Member("a", spec), Member("b", other)}, ctx_).ok());
  EXPECT_TRUE(SameParameters(*a, *Load("sae_a")));
  EXPECT_TRUE(SameParameters(*b, *Load("sae_b")));
  // Finished, it does nothing.
  points_.clear();
  ASSERT_TRUE(RunSweep(inputs_, {Member("a", spec), Member("b", other)}, ctx_).ok());
  EXPECT_TRUE(points_.empty());
}

TEST_F(SweepTest, MembersThatCannotShareAStreamAreRefused) {
  TrainingSpec other = TinySpec();
  other.batch_size = 64;
  const absl::Status status =
      RunSweep(inputs_, {Member("a", TinySpec()), Member("b", other)}, ctx_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("batch_size"), absl::string_view::npos) << status;
  EXPECT_FALSE(RunSweep(inputs_, {Member("a", TinySpec()), Member("a", TinySpec())}, ctx_).ok());
  EXPECT_FALSE(RunSweep(inputs_, {Member("../a", TinySpec())}, ctx_).ok());
  EXPECT_FALSE(RunSweep(inputs_, {}, ctx_).ok());
}

TEST_F(SweepTest, ARunOnACacheNeedsNoModel) {
  ActivationCacheSpec cache;
  cache.hooks = {inputs_.hook};
  cache.dtype = DType::kBF16;
  ASSERT_TRUE(WriteActivationCache(inputs_, cache, ctx_, directory_ / "cache").ok());
  TrainingInputs from_files;
  from_files.hook = inputs_.hook;
  from_files.activations = ActivationFiles::OpenCache(directory_ / "cache").value();
  TrainingSpec spec = TinySpec();
  spec.checkpoint_steps = 7;
  ASSERT_TRUE(RunTraining(from_files, spec, ctx_, directory_ / "sae").ok());
  EXPECT_EQ(Load("sae")->config().d_in, 48);
  EXPECT_LT(points_.back().values.at("fvu"), 1.0);
  // From a checkpoint on, the same.
  std::filesystem::rename(directory_ / "sae", directory_ / "first");
  ASSERT_TRUE(RunTraining(from_files, spec, ctx_, directory_ / "sae").ok());
  EXPECT_TRUE(SameParameters(*Load("first"), *Load("sae")));
}

TEST_F(SweepTest, ATranscoderTrainsOnRawFiles) {
  torch::manual_seed(2);
  const torch::Tensor x = torch::randn({700, 16});
  const torch::Tensor y = torch::mm(x, torch::randn({16, 5})).relu();
  const auto channel_of = [&](const char* name, const torch::Tensor& rows) {
    std::ofstream(directory_ / name, std::ios::binary)
        .write(static_cast<const char*>(rows.data_ptr()), static_cast<int64_t>(rows.nbytes()));
    ActivationFiles::Channel channel;
    channel.dtype = DType::kF32;
    channel.width = rows.size(1);
    channel.paths = {directory_ / name};
    return channel;
  };
  TrainingInputs inputs;
  inputs.hook = HookPoint::Parse("blocks.3.ln2.hook_normalized").value();
  inputs.hook_out = HookPoint::Parse("blocks.3.hook_mlp_out").value();
  inputs.activations = ActivationFiles::OpenRaw({channel_of("x", x), channel_of("y", y)}).value();
  TrainingSpec spec = TinySpec();
  spec.architecture = "skip_transcoder";
  spec.k = 0;
  spec.l1_coefficient = 0.01;
  spec.tokens = 32 * 300;
  spec.learning_rate = 3e-3;
  ASSERT_TRUE(RunTraining(inputs, spec, ctx_, directory_ / "sae").ok());
  EXPECT_EQ(Load("sae")->config().d_out, 5);
  EXPECT_LT(points_.back().values.at("fvu"), 0.3);
}

TEST_F(SweepTest, HeldOutTokensAreMeasuredAndChangeNothing) {
  TrainingSpec spec = TinySpec();
  spec.heldout_steps = 5;
  const TrainingInputs held = TinyInputs(directory_ / "held_corpus", 600, 0.3);
  ASSERT_GT(held.corpus->heldout_contexts().size(), 0u);
  for (const char* architecture : {"topk", "standard"}) {
    spec.architecture = architecture;
    spec.k = spec.architecture == "topk" ? 4 : 0;
    ctx_.work_dir = directory_ / (std::string("work_") + architecture);
    ASSERT_TRUE(RunTraining(held, spec, ctx_, directory_ / architecture).ok());
    const auto& values = points_.back().values;
    ASSERT_EQ(values.count("heldout_fvu"), 1u);
    EXPECT_GT(values.at("heldout_fvu"), 0);
    EXPECT_LT(values.at("heldout_fvu"), 1.2);
    EXPECT_GT(values.at("heldout_l0"), 0);
    EXPECT_LE(values.at("heldout_explained_variance_legacy"), 1);
    TrainingSpec rarely = spec;
    rarely.heldout_steps = 1000;
    ctx_.work_dir = directory_ / (std::string("work2_") + architecture);
    const std::string second = std::string(architecture) + "2";
    ASSERT_TRUE(RunTraining(held, rarely, ctx_, directory_ / second).ok());
    EXPECT_TRUE(SameParameters(*Load(architecture), *Load(second)));
  }
}

TEST_F(SweepTest, TheLastAndTheBestCheckpointAreSaes) {
  TrainingSpec spec = TinySpec();
  spec.checkpoint_steps = 10;
  ASSERT_TRUE(RunTraining(inputs_, spec, ctx_, directory_ / "sae").ok());
  EXPECT_EQ(Load("work/last")->config().d_sae, 96);
  EXPECT_EQ(Load("work/best")->config().hook_name, "blocks.1.hook_resid_post");
  EXPECT_FALSE(SameParameters(*Load("work/last"), *Load("sae")));
}

TEST_F(SweepTest, ARunThatNeedsTooMuchMemoryNamesWhatWouldFit) {
  TrainingSpec spec = TinySpec();
  spec.d_sae = 1 << 24;
  spec.buffer_tokens = 1024;
  const TrainingSpec resolved = ResolveForWidths(spec, {4096, 4096}, 1).value();
  const absl::Status status = CheckTrainingMemory(resolved, {4096, 4096}, uint64_t{64} << 30);
  EXPECT_NE(status.message().find("d_sae 262144 instead of 16777216"), absl::string_view::npos)
      << status;
  spec.d_sae = 1024;
  spec.buffer_tokens = uint64_t{1} << 30;
  const TrainingSpec buffer = ResolveForWidths(spec, {4096, 4096}, 1).value();
  const absl::Status too_long = CheckTrainingMemory(buffer, {4096, 4096}, uint64_t{64} << 30);
  EXPECT_NE(too_long.message().find("buffer_tokens"), absl::string_view::npos) << too_long;
  EXPECT_TRUE(CheckTrainingMemory(buffer, {4096, 4096}, ~uint64_t{0}).ok());
}

}  // namespace
}  // namespace featurescope
