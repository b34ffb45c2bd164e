#include "server/jobs/spec_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST(SpecJsonTest, TrainingComesBackAsItWas) {
  TrainingJob job;
  job.sae_id = "a", job.model_id = "b", job.corpus_id = "c", job.hook_name = "hook_embed";
  TrainingSpec& s = job.training;
  s.architecture = "standard", s.d_sae = 1 << 20, s.k = 3, s.tokens = 1ull << 40;
  s.batch_size = 17, s.seed = ~0ull, s.learning_rate = 0.1, s.lr_warmup_steps = 0;
  s.clip_norm = 0.0, s.l1_coefficient = 1e-300, s.b_dec_init = DecoderBiasInit::kZeros;
  s.scale_inputs = false, s.checkpoint_steps = 9;
  const auto back = TrainingJobFromJson(ToJson(job));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->hook_name, "hook_embed");
  EXPECT_EQ(back->training.seed, ~0ull);
  EXPECT_EQ(back->training.learning_rate, 0.1);
  EXPECT_EQ(back->training.lr_warmup_steps, 0);
  EXPECT_EQ(back->training.lr_decay_steps, std::nullopt);
  EXPECT_EQ(back->training.clip_norm, 0.0);
  EXPECT_EQ(back->training.b_dec_init, DecoderBiasInit::kZeros);
  EXPECT_FALSE(back->training.scale_inputs);
  EXPECT_EQ(ToJson(*back), ToJson(job));
}

TEST(SpecJsonTest, IndexingComesBackAsItWas) {
  IndexingJob job;
  job.sae_id = "a", job.corpus_id = "c";
  job.indexing.max_tokens = 5, job.indexing.bands = 3, job.indexing.window = 0;
  job.indexing.checkpoint_interval = absl::Milliseconds(1500);
  const auto back = IndexingJobFromJson(ToJson(job));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->indexing.window, 0u);
  EXPECT_EQ(back->indexing.checkpoint_interval, absl::Milliseconds(1500));
  EXPECT_EQ(ToJson(*back), ToJson(job));
}

TEST(SpecJsonTest, ImportsComeBackAsTheyWere) {
  ImportJob job;
  job.what = ImportOf::kSae;
  job.id = "a", job.source = "release/id", job.revision = "v1", job.include = {"*.json", "x"};
  job.model_id = "m", job.hook_name = "hook_embed", job.center_writing_weights = false;
  job.any_width = true;
  const auto back = ImportJobFromJson(ToJson(job));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->what, ImportOf::kSae);
  EXPECT_EQ(back->include, job.include);
  EXPECT_EQ(back->center_writing_weights, false);
  EXPECT_EQ(ToJson(*back), ToJson(job));
  job.center_writing_weights.reset();
  EXPECT_EQ(ImportJobFromJson(ToJson(job))->center_writing_weights, std::nullopt);
  for (const char* bad : {R"({"what": "corpus"})", R"({"include": "x"})", R"({"include": [1]})",
                          R"({"any_width": 1})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ImportJobFromJson(bad).status())) << bad;
  }
}

TEST(SpecJsonTest, FieldsOfTheWrongTypeAreNamed) {
  for (const char* bad : {R"({"k": "4"})", R"({"k": 4.5})", R"({"k": 99999999999999999999})",
                          R"({"tokens": -1})", R"({"scale_inputs": 1})", R"({"sae_id": 5})",
                          R"({"b_dec_init": "median"})", R"({"clip_norm": []})"}) {
    const auto job = TrainingJobFromJson(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(job.status())) << bad;
    EXPECT_THAT(std::string(job.status().message()), HasSubstr("field ")) << bad;
  }
  EXPECT_FALSE(TrainingJobFromJson("[]").ok());
  EXPECT_FALSE(TrainingJobFromJson("{").ok());
  EXPECT_FALSE(IndexingJobFromJson(R"({"bands": 5000000000})").ok());
}

TEST(SpecJsonTest, SweepsComeBackAsTheyWere) {
  SweepJob job;
  job.members.resize(2);
  job.members[0].sae_id = "a", job.members[0].preset = "guide";
  job.members[0].more_corpora = {{"d", 0.1}, {"e", 2}};
  job.members[0].training.group_sizes = {1, 2}, job.members[0].training.group_weights = {0.1};
  job.members[0].training.ste_kernel = SteKernel::kTriangle;
  job.members[1].sae_id = "b", job.members[1].activation_files = {{{"x", "y"}, "float32", 7}};
  job.members[1].hook_name_out = "hook_embed", job.members[1].corpus_weight = 0.3;
  const auto back = SweepJobFromJson(ToJson(job));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->members.size(), 2u);
  EXPECT_EQ(back->members[0].more_corpora[0].weight, 0.1);
  EXPECT_EQ(back->members[0].training.ste_kernel, SteKernel::kTriangle);
  EXPECT_EQ(back->members[1].activation_files[0].paths[1], "y");
  EXPECT_EQ(ToJson(*back), ToJson(job));
  for (const char* bad :
       {R"({"members": [{"k": "4"}]})", R"({"members": [{"more_corpora": [{"weight": "k"}]}]})",
        R"({"members": {}})", R"({"members": [5]})", R"({"members": [{"group_sizes": [1.5]}]})"}) {
    const absl::Status status = SweepJobFromJson(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("field ")) << bad;
  }
  EXPECT_THAT(std::string(SweepJobFromJson(R"({"members": [{"k": "4"}]})").status().message()),
              HasSubstr("field k has the value \"4\""));
}

TEST(SpecJsonTest, FieldsAnOlderVersionDidNotKnowHaveTheirDefault) {
  const auto job = TrainingJobFromJson(R"({"sae_id": "a"})");
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->training.adam_beta2, TrainingSpec().adam_beta2);
}

}  // namespace
}  // namespace featurescope
