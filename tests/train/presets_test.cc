#include "server/train/presets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "server/sae/sae_files.h"
#include "server/train/run_training.h"
#include "server/train/schedule.h"
#include "tests/train/training_fixture.h"

namespace featurescope {

void PrintTo(const Preset& preset, std::ostream* out) { *out << preset.name; }

namespace {

class PresetTest : public testing::TestWithParam<Preset> {};

TEST_P(PresetTest, IsCompleteAtItsOwnSize) {
  TrainingSpec spec = PresetSpec(GetParam().name).value();
  if (spec.tokens == 0 && spec.epochs == 0) spec.tokens = 100'000'000;
  if (spec.d_sae == 0 && spec.expansion == 0) spec.d_sae = 16384;
  const absl::StatusOr<TrainingSpec> resolved = ResolveForWidths(spec, {768, 768}, 5'000'000);
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_FALSE(GetParam().title.empty());
  EXPECT_FALSE(GetParam().source.empty());
  // A resolved spec is a fixed point.
  const absl::StatusOr<TrainingSpec> again = ResolveForWidths(*resolved, {768, 768}, 5'000'000);
  ASSERT_TRUE(again.ok()) << again.status();
}

TEST_P(PresetTest, TrainsATinyModel) {
  TempDir directory;
  const TrainingInputs inputs = TinyInputs(directory / "corpus");
  TrainingSpec spec = PresetSpec(GetParam().name).value();
  spec.expansion = 0;
  spec.d_sae = 96;
  if (TraitsOf(spec).topk_family()) spec.k = 4;
  spec.k_aux = std::min<int64_t>(spec.k_aux, 16);
  spec.tokens = 32 * 20;
  spec.epochs = 0;
  if (spec.batch_size != -1) {
    spec.batch_size = 32;
    spec.buffer_tokens = 128;
  }
  if (spec.resample_tokens != 0) {
    spec.resample_tokens = 200;
    spec.resample_dead_after_tokens = 100;
    spec.resample_from_tokens = 64;
  }
  DeviceWorker device{DeviceWorkerOptions()};
  RunContext ctx;
  ctx.device = &device;
  ctx.work_dir = directory / "work";
  std::map<std::string, double> last;
  ctx.on_metrics = [&](const RunMetrics& point) { last = point.values; };
  const absl::Status status = RunTraining(inputs, spec, ctx, directory / "sae");
  ASSERT_TRUE(status.ok()) << status;
  const auto sae = LoadSae(directory / "sae", torch::kCPU);
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_EQ((*sae)->config().architecture, spec.architecture);
  EXPECT_TRUE(std::isfinite(last.at("loss")));
  EXPECT_GT(last.at("l0"), 0);
}

INSTANTIATE_TEST_SUITE_P(All, PresetTest,
                         testing::ValuesIn(AllPresets().begin(), AllPresets().end()),
                         [](const testing::TestParamInfo<Preset>& info) {
                           std::string name(info.param.name);
                           for (char& c : name) {
                             if (!absl::ascii_isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return name;
                         });

TEST(PresetsTest, NamesAreDistinctAndUnknownOnesListThem) {
  std::set<std::string> names;
  for (const Preset& preset : AllPresets()) names.insert(std::string(preset.name));
  EXPECT_EQ(names.size(), AllPresets().size());
  const absl::Status status = PresetSpec("nonsense").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("gemma-scope"), absl::string_view::npos);
}

// The numbers of AIRI-Institute/SAE-Reasoning, training/configs/r1-distill-llama-8b.yaml.
TEST(PresetsTest, Arxiv250318878IsAsPublished) {
  const TrainingSpec spec =
      ResolveForWidths(PresetSpec("arxiv-2503.18878").value(), {4096, 4096}, 1).value();
  EXPECT_EQ(TotalSteps(spec), 200'000);
  EXPECT_EQ(*spec.l1_warmup_steps, 10'000);
  EXPECT_EQ(*spec.lr_decay_steps, 40'000);
  EXPECT_EQ(*spec.lr_warmup_steps, 0);
  EXPECT_EQ(spec.d_sae, 16 * 4096);
  EXPECT_TRUE(*spec.l1_weighted_by_decoder_norm);
  EXPECT_EQ(spec.decoder_norm, DecoderNorm::kFree);
  EXPECT_DOUBLE_EQ(SettingsOfStep(spec, 0, 200'000).learning_rate, 5e-5);
  EXPECT_NEAR(SettingsOfStep(spec, 180'000, 200'000).learning_rate, 2.5e-5, 1e-9);
  EXPECT_NEAR(SettingsOfStep(spec, 4'999, 200'000).sparsity, 0.5, 1e-9);
}

}  // namespace
}  // namespace featurescope
