#include "client/cli/training_flags.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/training_fields.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

absl::StatusOr<v1::SweepSpec> Parsed(std::vector<std::string> words) {
  Command command;
  command.noun = "train";
  command.flags = TrainingSpecFlags();
  words.insert(words.end(), {"--id", "x"});
  const absl::StatusOr<Args> args = Args::Parse(command, words);
  if (!args.ok()) return args.status();
  return TrainingFromFlags(*args);
}

std::vector<std::string> Ids(const v1::SweepSpec& sweep) {
  std::vector<std::string> ids;
  for (const v1::TrainingSpec& member : sweep.members()) ids.push_back(member.sae_id());
  return ids;
}

TEST(TrainingFlagsTest, EveryFlagAndEveryOtherFieldSetsItsField) {
  const auto sweep =
      Parsed({"--model", "m", "--tokens", "5e7", "--dtype", "bf16", "--batch-size", "-1", "--set",
              "adam_beta1=0.5", "--set", "auxk-relu=false", "--set", "group_sizes=8,24"});
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  const v1::TrainingSpec& spec = sweep->base();
  EXPECT_EQ(spec.sae_id(), "x");
  EXPECT_EQ(spec.tokens(), 50'000'000u);
  EXPECT_EQ(spec.compute_dtype(), "bfloat16");
  EXPECT_EQ(spec.batch_size(), -1);
  EXPECT_EQ(spec.adam_beta1(), 0.5);
  EXPECT_TRUE(spec.has_auxk_relu());
  EXPECT_FALSE(spec.auxk_relu());
  EXPECT_THAT(spec.group_sizes(), ElementsAre(8, 24));
  EXPECT_TRUE(sweep->members().empty());
}

TEST(TrainingFlagsTest, EveryFieldOfTheContractIsSetOrSaysWhatSetsIt) {
  for (int i = 0; i < v1::TrainingSpec::descriptor()->field_count(); ++i) {
    const SpecField& field = *v1::TrainingSpec::descriptor()->field(i);
    v1::TrainingSpec spec;
    const absl::Status status = SetSpecField(field, field.name(), "1", &spec);
    if (field.cpp_type() == SpecField::CPPTYPE_MESSAGE) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("--")) << field.name();
    } else {
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(SetFields(spec).size(), 1u) << field.name();
      EXPECT_EQ(SetFields(spec)[0].first, field.name());
    }
  }
}

TEST(TrainingFlagsTest, SweepsMakeAGridWhoseIdsSayWhatDiffers) {
  const auto sweep = Parsed({"--sweep", "k=4,8", "--sweep", "architecture=topk,BatchTopK"});
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  EXPECT_THAT(Ids(*sweep),
              ElementsAre("x-k4-topk", "x-k4-batchtopk", "x-k8-topk", "x-k8-batchtopk"));
  EXPECT_EQ(sweep->members(3).k(), 8u);
  EXPECT_EQ(sweep->members(3).architecture(), "BatchTopK");
  EXPECT_THAT(Ids(*Parsed({"--sweep", "l1=0.5,5", "--sweep", "learning_rate=1e-3"})),
              ElementsAre("x-l1_0.5-lr1e-3", "x-l1_5-lr1e-3"));
}

TEST(TrainingFlagsTest, MixturesGiveTheFirstCorpusItsWeightByItsName) {
  const auto mixed = Parsed({"--corpus", "a", "--mix", "b:2", "--mix", "a:3", "--mix", "c"});
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  EXPECT_EQ(mixed->base().corpus_id(), "a");
  EXPECT_EQ(mixed->base().corpus_weight(), 3);
  ASSERT_EQ(mixed->base().more_corpora_size(), 2);
  EXPECT_EQ(mixed->base().more_corpora(0).weight(), 2);
  EXPECT_EQ(mixed->base().more_corpora(1).corpus_id(), "c");
  EXPECT_EQ(Parsed({"--mix", "b:2"})->base().corpus_id(), "b");
}

TEST(TrainingFlagsTest, ActivationsAreACacheOrFiles) {
  EXPECT_EQ(Parsed({"--activations", "acts.v1"})->base().activations().cache_id(), "acts.v1");
  const auto raw = Parsed({"--activations", "/a/1.bin", "--activations", "/a/2.bin",
                           "--target-activations", "/a/t.bin", "--activations-dtype", "fp32"});
  ASSERT_TRUE(raw.ok()) << raw.status();
  ASSERT_EQ(raw->base().activations().channels_size(), 2);
  EXPECT_THAT(raw->base().activations().channels(0).paths(), ElementsAre("/a/1.bin", "/a/2.bin"));
  EXPECT_EQ(raw->base().activations().channels(1).dtype(), "float32");
}

TEST(TrainingFlagsTest, SaysWhatIsWrong) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--set", "lerning_rate=1"}, "near it: learning_rate"},
      {{"--set", "qqqqqq=1"}, "there are: sae_id"},
      {{"--set", "k"}, "FIELD=VALUE"},
      {{"--k", "1.5"}, "--k must be a whole number from 0 to 4294967295"},
      {{"--tokens", "1e30"}, "whole number"},
      {{"--lr", "nan"}, "--lr must be a number"},
      {{"--set", "scale_inputs=maybe"}, "true or false"},
      {{"--k", "3", "--set", "k=4"}, "set already"},
      {{"--k", "3", "--sweep", "k=4,5"}, "set already"},
      {{"--sweep", "k=4,4"}, "x-k4"},
      {{"--sweep", "k=4,"}, "whole number"},
      {{"--sweep", "group_sizes=1,2"}, "cannot be swept"},
      {{"--set", "more_corpora=x"}, "--mix"},
      {{"--mix", "a:0"}, "over 0"},
      {{"--mix", "a", "--mix", "a"}, "twice"},
      {{"--activations-dtype", "fp16"}, "--activations FILE"},
      {{"--activations", "a", "--activations", "b"}, "one cache"},
  };
  for (const auto& [words, message] : cases) {
    const absl::Status status = Parsed(words).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << words[1];
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(TrainingFlagsTest, FieldsArePrintedAsTheyAreWritten) {
  const auto sweep = Parsed({"--lr", "0.0005", "--mix", "a", "--mix", "b:2", "--set",
                             "group_weights=0.5,0.25", "--set", "clip_norm=0"});
  ASSERT_TRUE(sweep.ok());
  EXPECT_THAT(SetFields(sweep->base()),
              ElementsAre(Pair("sae_id", "x"), Pair("corpus_id", "a"), Pair("more_corpora", "b:2"),
                          Pair("learning_rate", "0.0005"), Pair("clip_norm", "0"),
                          Pair("group_weights", "0.5,0.25")));
}

}  // namespace
}  // namespace featurescope
