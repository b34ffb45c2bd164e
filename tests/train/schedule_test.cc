#include "server/train/schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace featurescope {
namespace {

TrainingSpec Spec(void (*change)(TrainingSpec&)) {
  TrainingSpec spec;
  spec.architecture = "topk";
  spec.d_sae = 64;
  spec.k = 4;
  spec.batch_size = 10;
  spec.tokens = 1000;  // 100 steps
  spec.learning_rate = 1;
  spec.lr_warmup_steps = 0;
  spec.lr_decay_steps = 0;
  change(spec);
  return ResolveForWidths(spec, {32, 32}, 1).value();
}

std::vector<double> Rates(const TrainingSpec& spec) {
  std::vector<double> rates;
  for (int64_t step = 0; step < 100; ++step) {
    rates.push_back(SettingsOfStep(spec, step, 100).learning_rate);
  }
  return rates;
}

TEST(ScheduleTest, WarmUpBeginsWithOneShareOrWithNothing) {
  const auto rates = Rates(Spec([](TrainingSpec& s) { s.lr_warmup_steps = 4; }));
  EXPECT_DOUBLE_EQ(rates[0], 0.25);
  EXPECT_DOUBLE_EQ(rates[3], 1);
  const auto from_zero = Rates(Spec([](TrainingSpec& s) {
    s.lr_warmup_steps = 4;
    s.warmup_from_zero = true;
  }));
  EXPECT_DOUBLE_EQ(from_zero[0], 0);
  EXPECT_DOUBLE_EQ(from_zero[3], 0.75);
  EXPECT_DOUBLE_EQ(from_zero[4], 1);
  const auto from_tenth = Rates(Spec([](TrainingSpec& s) {
    s.lr_warmup_steps = 4;
    s.lr_start_fraction = 0.1;
    s.warmup_from_zero = true;
  }));
  EXPECT_DOUBLE_EQ(from_tenth[0], 0.1);
  EXPECT_DOUBLE_EQ(from_tenth[2], 0.55);
}

TEST(ScheduleTest, DecayEndsOneStepBeforeItsEnd) {
  const auto rates = Rates(Spec([](TrainingSpec& s) {
    s.lr_decay_fraction = 0.2;
    s.lr_decay_steps.reset();
  }));
  EXPECT_DOUBLE_EQ(rates[79], 1);
  EXPECT_DOUBLE_EQ(rates[80], 1);
  EXPECT_DOUBLE_EQ(rates[90], 0.5);
  EXPECT_DOUBLE_EQ(rates[99], 0.05);
  const auto to_tenth = Rates(Spec([](TrainingSpec& s) {
    s.lr_decay_steps = 20;
    s.lr_end_fraction = 0.1;
  }));
  EXPECT_NEAR(to_tenth[90], 0.55, 1e-12);
}

TEST(ScheduleTest, CosineGoesFromTheRateToItsEnd) {
  const auto rates = Rates(Spec([](TrainingSpec& s) {
    s.lr_schedule = LrSchedule::kCosine;
    s.lr_warmup_steps = 20;
    s.lr_end_fraction = 0.2;
  }));
  EXPECT_DOUBLE_EQ(rates[19], 1);
  EXPECT_NEAR(rates[20], 1, 1e-12);
  EXPECT_NEAR(rates[60], 0.6, 1e-12);
  EXPECT_NEAR(rates[99], 0.2, 1e-3);
}

TEST(ScheduleTest, SawtoothWarmsUpAgainAfterEachResampling) {
  const auto rates = Rates(Spec([](TrainingSpec& s) {
    s.architecture = "standard";
    s.k = 0;
    s.lr_schedule = LrSchedule::kSawtooth;
    s.lr_warmup_steps = 5;
    s.resample_tokens = 300;
    s.resample_times = 2;
  }));
  for (const int start : {0, 30, 60}) {
    EXPECT_DOUBLE_EQ(rates[start], 0.2) << start;
    EXPECT_DOUBLE_EQ(rates[start + 4], 1) << start;
  }
  EXPECT_DOUBLE_EQ(rates[90], 1);  // there was no third resampling
}

TEST(ScheduleTest, KFallsToItsFinalValue) {
  const TrainingSpec linear = Spec([](TrainingSpec& s) {
    s.k_anneal_steps = 10;
    s.k_initial = 24;
  });
  const auto k = [](const TrainingSpec& spec, int64_t step) {
    return SettingsOfStep(spec, step, 100).k;
  };
  EXPECT_EQ(k(linear, 0), 24);
  EXPECT_EQ(k(linear, 5), 14);
  EXPECT_EQ(k(linear, 10), 4);
  EXPECT_EQ(k(linear, 99), 4);
  TrainingSpec exponential = linear;
  exponential.k_anneal_shape = AnnealShape::kExponential;
  EXPECT_EQ(k(exponential, 0), 24);
  EXPECT_EQ(k(exponential, 5), 9);
  EXPECT_EQ(k(exponential, 10), 4);
}

TEST(ResolveTest, ContradictionsNameTheField) {
  const auto message = [](void (*change)(TrainingSpec&)) {
    TrainingSpec spec;
    spec.architecture = "standard";
    spec.d_sae = 64;
    spec.tokens = 1000;
    change(spec);
    return std::string(ResolveForWidths(spec, {32, 32}, 1000).status().message());
  };
  EXPECT_EQ(message([](TrainingSpec&) {}), "");
  const std::pair<const char*, void (*)(TrainingSpec&)> cases[] = {
      {"sparsity_penalty", [](TrainingSpec& s) { s.sparsity_penalty = SparsityPenalty::kL0; }},
      {"sparsity_penalty",
       [](TrainingSpec& s) {
         s.architecture = "topk";
         s.k = 3;
         s.sparsity_penalty = SparsityPenalty::kL1;
       }},
      {"auxk_coefficient", [](TrainingSpec& s) { s.auxk_coefficient = 0.1; }},
      {"epochs", [](TrainingSpec& s) { s.epochs = 3; }},
      {"expansion", [](TrainingSpec& s) { s.expansion = 4; }},
      {"weight_decay", [](TrainingSpec& s) { s.weight_decay = 0.1; }},
      {"lr_schedule", [](TrainingSpec& s) { s.lr_schedule = LrSchedule::kSawtooth; }},
      {"decoder_init",
       [](TrainingSpec& s) {
         s.decoder_init = DecoderInit::kZeros;
         s.decoder_norm = DecoderNorm::kUnit;
       }},
      {"apply_b_dec_to_input",
       [](TrainingSpec& s) {
         s.architecture = "transcoder";
         s.apply_b_dec_to_input = true;
       }},
      {"resample_tokens",
       [](TrainingSpec& s) {
         s.architecture = "transcoder";
         s.resample_tokens = 100'000;
       }},
      {"group_sizes",
       [](TrainingSpec& s) {
         s.group_sizes = {32, 32};
       }},
      {"group_sizes",
       [](TrainingSpec& s) {
         s.architecture = "matryoshka_batchtopk";
         s.k = 2;
         s.group_sizes = {32, 31};
       }},
      {"target_l0",
       [](TrainingSpec& s) {
         s.architecture = "jumprelu";
         s.target_l0 = 65;
       }},
      {"bandwidth", [](TrainingSpec& s) { s.bandwidth = 0; }},
  };
  for (const auto& [field, change] : cases) {
    EXPECT_NE(message(change).find(field), std::string::npos) << field << ": " << message(change);
  }
}

TEST(ResolveTest, EpochsAndExpansionBecomeTokensAndFeatures) {
  TrainingSpec spec;
  spec.architecture = "standard";
  spec.expansion = 16;
  spec.epochs = 2.5;
  const TrainingSpec resolved = ResolveForWidths(spec, {32, 32}, 1000).value();
  EXPECT_EQ(resolved.d_sae, 512);
  EXPECT_EQ(resolved.tokens, 2500u);
  spec.batch_size = -1;
  EXPECT_EQ(ResolveForWidths(spec, {32, 32}, 1000).value().batch_size, 1000);
}

TEST(ResolveTest, EnumNamesAreReversible) {
  EXPECT_EQ(FindEnum<DecoderNorm>("unit_before_step"), DecoderNorm::kUnitBeforeStep);
  EXPECT_EQ(EnumName(SteKernel::kEpanechnikov), "epanechnikov");
  EXPECT_EQ(FindEnum<Optimizer>("sgd"), std::nullopt);
}

}  // namespace
}  // namespace featurescope
