#include "server/service/training_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>

#include "server/base/status.h"
#include "server/train/spec_fields.h"

namespace featurescope {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;

// What is not the recipe.
const std::set<std::string> kInputs = {"sae_id",       "model_id",      "corpus_id",
                                       "hook_name",    "hook_name_out", "preset",
                                       "more_corpora", "corpus_weight", "activations"};

// Another choice than the default's; empty: the field is no choice.
std::string OtherChoice(const std::string& name) {
  std::string other;
  TrainingSpec spec;
  VisitTrainingSpec(spec, [&](const char* field, const auto& value) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_enum_v<T>) {
      if (name == field)
        other = std::string(EnumName(static_cast<T>(static_cast<int>(value) == 0)));
    }
  });
  return other;
}

// Every field set to something that is not its default.
v1::TrainingSpec Full() {
  v1::TrainingSpec spec;
  const auto* reflection = spec.GetReflection();
  for (int i = 0; i < spec.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = spec.GetDescriptor()->field(i);
    if (field->name() == "preset" || field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
      continue;
    const std::string choice = OtherChoice(field->name());
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        reflection->SetString(&spec, field, choice.empty() ? "text-" + field->name() : choice);
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        reflection->SetInt32(&spec, field, -i);
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        if (field->is_repeated()) {
          reflection->AddInt64(&spec, field, 5 + i);
        } else {
          reflection->SetInt64(&spec, field, int64_t{-1000000000000} - i);
        }
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        reflection->SetUInt32(&spec, field, static_cast<uint32_t>(100 + i));
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection->SetUInt64(&spec, field, ~uint64_t{0} - static_cast<uint64_t>(i));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        if (field->is_repeated()) {
          reflection->AddDouble(&spec, field, 0.1 * i + 0.03);
        } else {
          reflection->SetDouble(&spec, field, 0.1 * i + 0.03);
        }
        break;
      case FieldDescriptor::CPPTYPE_BOOL: {
        const std::string name = field->name();
        const bool on_by_default = name == "scale_inputs" || name == "auxk_relu" ||
                                   name == "clamp_threshold" || name == "gated_detach_decoder" ||
                                   name == "resample_unit_inputs" ||
                                   name == "exclude_special_tokens";
        reflection->SetBool(&spec, field, !on_by_default);
        break;
      }
      default:
        ADD_FAILURE() << "a field of a type that this test does not know: " << field->full_name();
    }
  }
  v1::CorpusShare* share = spec.add_more_corpora();
  share->set_corpus_id("d"), share->set_weight(0.25);
  v1::RawActivations* raw = spec.mutable_activations()->add_channels();
  raw->add_paths("/a"), raw->add_paths("/b"), raw->set_dtype("float32"), raw->set_width(7);
  spec.mutable_activations()->set_cache_id("cache");
  return spec;
}

std::string Error(const v1::TrainingSpec& spec) {
  const absl::Status status = FromProto(spec).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_TRUE(status.GetPayload(kFieldPayload).has_value()) << status;
  return std::string(status.message());
}

TEST(TrainingSpecTest, TheContractHasEveryFieldOfTheCoreAndNoOther) {
  std::set<std::string> expected = kInputs;
  TrainingSpec spec;
  VisitTrainingSpec(spec, [&](const char* name, const auto&) { expected.insert(name); });
  std::set<std::string> fields;
  const auto* descriptor = v1::TrainingSpec::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) fields.insert(descriptor->field(i)->name());
  EXPECT_EQ(fields, expected);
}

TEST(TrainingSpecTest, EveryFieldSurvivesBothWaysAndTheQueue) {
  const v1::TrainingSpec spec = Full();
  const auto job = FromProto(spec);
  ASSERT_TRUE(job.ok()) << job.status();
  const auto stored = TrainingJobFromJson(ToJson(*job));
  ASSERT_TRUE(stored.ok()) << stored.status();
  v1::TrainingSpec back;
  ToProto(*stored, &back);
  EXPECT_TRUE(MessageDifferencer::Equals(spec, back)) << spec.DebugString() << back.DebugString();
  // And none of them was its default.
  v1::TrainingSpec defaults;
  ToProto(TrainingJob(), &defaults);
  for (int i = 0; i < spec.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = spec.GetDescriptor()->field(i);
    v1::TrainingSpec of_spec = spec, a, b;
    v1::TrainingSpec of_defaults = defaults;
    spec.GetReflection()->SwapFields(&of_spec, &a, {field});
    spec.GetReflection()->SwapFields(&of_defaults, &b, {field});
    if (field->name() != "preset") {
      EXPECT_FALSE(MessageDifferencer::Equals(a, b)) << field->name();
    }
  }
}

TEST(TrainingSpecTest, WhatIsNotGivenHasItsDefault) {
  const auto job = FromProto(v1::TrainingSpec());
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(DescribeComputation(job->training), DescribeComputation(TrainingSpec()));
  EXPECT_EQ(job->corpus_weight, 1);
  v1::TrainingSpec zeros;
  zeros.set_clip_norm(0), zeros.set_auxk_coefficient(0), zeros.set_scale_inputs(false);
  const auto with_zeros = FromProto(zeros);
  ASSERT_TRUE(with_zeros.ok());
  EXPECT_EQ(with_zeros->training.clip_norm, 0);
  EXPECT_EQ(with_zeros->training.auxk_coefficient, 0);
  EXPECT_FALSE(with_zeros->training.scale_inputs);
}

TEST(TrainingSpecTest, EveryPresetIsTheBaseOfWhatIsGiven) {
  for (const Preset& preset : AllPresets()) {
    v1::TrainingSpec spec;
    spec.set_preset(std::string(preset.name));
    const auto job = FromProto(spec);
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_EQ(DescribeComputation(job->training), DescribeComputation(*PresetSpec(preset.name)));
    // A stored specification, sent again, is the same although it names the preset.
    v1::TrainingSpec stored;
    ToProto(*job, &stored);
    EXPECT_EQ(ToJson(*FromProto(stored)), ToJson(*job)) << preset.name;
    // The list has what the preset sets, and that alone is enough.
    v1::Preset listed;
    ToProto(preset, &listed);
    EXPECT_EQ(listed.name(), preset.name);
    EXPECT_FALSE(listed.title().empty());
    const auto rebuilt = FromProto(listed.spec());
    ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
    EXPECT_EQ(DescribeComputation(rebuilt->training), DescribeComputation(job->training));
    spec.set_learning_rate(0.125);
    EXPECT_EQ(FromProto(spec)->training.learning_rate, 0.125);
  }
}

TEST(TrainingSpecTest, GivingOneOfTwoAlternativesDropsThePresetsOther) {
  v1::TrainingSpec spec;
  spec.set_preset("gpt2-tutorial");  // d_sae 6144, 12 epochs, no warm-up steps, inputs as they are
  spec.set_expansion(2), spec.set_tokens(1000), spec.set_lr_warmup_fraction(0.1);
  spec.set_scale_inputs(true);
  const auto job = FromProto(spec);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->training.d_sae, 0);
  EXPECT_EQ(job->training.expansion, 2);
  EXPECT_EQ(job->training.epochs, 0);
  EXPECT_EQ(job->training.tokens, 1000u);
  EXPECT_EQ(job->training.lr_warmup_steps, std::nullopt);
  EXPECT_EQ(job->training.input_scaling, InputScaling::kAuto);
  v1::TrainingSpec stored;
  ToProto(*job, &stored);
  EXPECT_EQ(ToJson(*FromProto(stored)), ToJson(*job));
  spec.Clear();
  spec.set_preset("guide"), spec.set_d_sae(64);  // expansion 16
  const auto other = FromProto(spec);
  EXPECT_EQ(other->training.expansion, 0);
  ToProto(*other, &stored);
  stored.Clear(), ToProto(*other, &stored);
  EXPECT_EQ(ToJson(*FromProto(stored)), ToJson(*other));
}

TEST(TrainingSpecTest, UnknownNamesAreAnsweredWithThoseThereAre) {
  v1::TrainingSpec spec;
  spec.set_optimizer("sgd");
  EXPECT_EQ(Error(spec), "optimizer is \"sgd\", it may be adam, adamw, signum");
  spec.Clear(), spec.set_preset("none");
  const absl::Status status = FromProto(spec).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("gemma-scope"));
}

TEST(TrainingSpecTest, NumbersThatAreNoneAreRefusedByField) {
  const auto* descriptor = v1::TrainingSpec::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_DOUBLE) continue;
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
          -std::numeric_limits<double>::infinity()}) {
      v1::TrainingSpec spec;
      if (field->is_repeated()) {
        spec.GetReflection()->AddDouble(&spec, field, bad);
      } else {
        spec.GetReflection()->SetDouble(&spec, field, bad);
      }
      EXPECT_THAT(Error(spec), HasSubstr(field->name()));
    }
  }
}

TEST(TrainingSpecTest, ASweepIsWhatItsMembersAreOverTheBase) {
  v1::SweepSpec spec;
  v1::TrainingSpec& base = *spec.mutable_base();
  base.set_sae_id("ignored"), base.set_model_id("m"), base.set_corpus_id("c");
  base.set_preset("dictionary_learning-matryoshka"), base.set_d_sae(64), base.set_k(8);
  base.add_group_sizes(32), base.add_group_sizes(32);
  base.add_more_corpora()->set_corpus_id("d");
  v1::TrainingSpec* a = spec.add_members();
  a->set_sae_id("a");
  v1::TrainingSpec* b = spec.add_members();
  b->set_sae_id("b"), b->set_k(4), b->add_group_sizes(64);
  v1::TrainingSpec* c = spec.add_members();
  c->set_sae_id("c"), c->set_expansion(8), c->set_architecture("topk"), c->set_clip_norm(0);
  const auto sweep = FromProto(spec);
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  ASSERT_EQ(sweep->members.size(), 3u);
  EXPECT_EQ(sweep->members[0].training.k, 8);
  EXPECT_EQ(sweep->members[1].training.k, 4);
  EXPECT_EQ(sweep->members[1].training.group_sizes, std::vector<int64_t>{64});
  EXPECT_EQ(sweep->members[2].training.d_sae, 0);
  EXPECT_EQ(sweep->members[2].training.clip_norm, 0);
  EXPECT_EQ(sweep->members[2].more_corpora.size(), 1u);
  // Stored and sent again it is the same; the base has what is common.
  const auto stored = SweepJobFromJson(ToJson(*sweep));
  ASSERT_TRUE(stored.ok()) << stored.status();
  v1::SweepSpec back;
  ToProto(*stored, &back);
  EXPECT_EQ(back.base().model_id(), "m");
  EXPECT_EQ(back.base().sae_id(), "");
  EXPECT_EQ(back.base().seed(), 0u);
  EXPECT_TRUE(back.members(0).model_id().empty());
  EXPECT_EQ(back.members(1).sae_id(), "b");
  const auto again = FromProto(back);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ToJson(*again), ToJson(*sweep));
  b->set_optimizer("sgd");
  EXPECT_THAT(std::string(FromProto(spec).status().message()), HasSubstr("b: optimizer is"));
  for (int i = 0; i < 62; ++i) spec.add_members();
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(spec).status()));
}

}  // namespace
}  // namespace featurescope
