// What trainings that have ended leave: the SAEs of their last and best checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/jobs/jobs_fixture.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

class KeptCheckpointsTest : public JobsTest {
 protected:
  std::string Kept(const std::string& job_id) { return server_->catalog->KeptCheckpoints(job_id); }
  // Adds a checkpoint as an SAE, and deletes it again.
  void ExpectLoads(const std::string& path) {
    const auto sae = server_->catalog->AddSae("checkpoint", path, AddSaeOptions());
    ASSERT_TRUE(sae.ok()) << sae.status();
    EXPECT_EQ(sae->model_id, "m");
    EXPECT_EQ(sae->hook_name, kHook);
    EXPECT_EQ(sae->d_sae, 64u);
    EXPECT_TRUE(server_->catalog->LoadedSae("checkpoint").ok());
    EXPECT_TRUE(server_->catalog->DeleteSae("checkpoint").ok());
  }
};

TEST_F(KeptCheckpointsTest, LastAndBestOutliveATrainingAndGoWithItsSae) {
  Open();
  TrainingJob job = TinyTraining("new");
  job.training.checkpoint_steps = 10;
  const std::string id = server_->queue->SubmitTraining(job, "")->id;
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  EXPECT_FALSE(fs::exists(server_->catalog->JobDir(id)));
  ASSERT_NE(Kept(id), "");
  ExpectLoads(Kept(id) + "/last");
  ExpectLoads(Kept(id) + "/best");
  Close();
  Open();
  EXPECT_NE(Kept(id), "");
  ASSERT_TRUE(server_->catalog->DeleteSae("new").ok());
  EXPECT_EQ(Kept(id), "");
}

TEST_F(KeptCheckpointsTest, ACancelledTrainingsLastCheckpointLoads) {
  Open();
  TrainingJob job = TinyTraining("new", kEndless);
  job.training.checkpoint_steps = 5;
  const std::string id = server_->queue->SubmitTraining(job, "")->id;
  const std::string last = server_->catalog->JobDir(id) + "/work/last/cfg.json";
  server_->Await(id, [&](const JobRow&) { return fs::exists(last); });
  ASSERT_TRUE(server_->queue->Cancel(id).ok());
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kCancelled);
  ASSERT_NE(Kept(id), "");
  ExpectLoads(Kept(id) + "/last");
}

TEST_F(KeptCheckpointsTest, ALossThatIsNotFiniteEndsTheJobAndTheLastGoodCheckpointLoads) {
  Open();
  TrainingJob job = TinyTraining("new", 60'000);
  // Parameters grow a thousandfold at every step.
  job.training.optimizer = Optimizer::kAdamW;
  job.training.learning_rate = 1000;
  job.training.weight_decay = 1;
  job.training.lr_warmup_steps = 0;
  job.training.decoder_norm = DecoderNorm::kFree;
  job.training.checkpoint_steps = 1;
  const auto submitted = server_->queue->SubmitTraining(job, "");
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  const JobRow end = server_->AwaitEnd(submitted->id);
  ASSERT_EQ(end.state, JobState::kFailed);
  EXPECT_THAT(end.error, HasSubstr("not finite at step"));
  ASSERT_NE(Kept(end.id), "");
  ExpectLoads(Kept(end.id) + "/last");
  EXPECT_TRUE(absl::IsNotFound(server_->catalog->GetSae("new").status()));
}

TEST_F(KeptCheckpointsTest, ASweepsCheckpointsGoWithTheirSaes) {
  Open();
  SweepJob sweep;
  for (const char* name : {"a", "last"}) {
    sweep.members.push_back(TinyTraining(name));
    sweep.members.back().training.checkpoint_steps = 10;
  }
  sweep.members[1].training.k = 8;
  const auto submitted = server_->queue->SubmitSweep(sweep, "");
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  ASSERT_EQ(server_->AwaitEnd(submitted->id).state, JobState::kSucceeded);
  const std::string kept = Kept(submitted->id);
  ASSERT_NE(kept, "");
  ExpectLoads(kept + "/a/last");
  ExpectLoads(kept + "/last/best");
  ASSERT_TRUE(server_->catalog->DeleteSae("a").ok());
  EXPECT_FALSE(fs::exists(kept + "/a"));
  EXPECT_TRUE(fs::exists(kept + "/last/last/cfg.json"));
  ASSERT_TRUE(server_->catalog->DeleteSae("last").ok());
  EXPECT_EQ(Kept(submitted->id), "");
}

TEST_F(KeptCheckpointsTest, ATrainingCancelledWhileItWaitedKeepsThemToo) {
  Open(false);
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  StateDb& state = server_->catalog->state();
  const JobRow claimed = state.ClaimJob()->value();
  WriteTinySae(server_->catalog->JobDir(id) + "/work/last", kTinyWidth, kHook);
  ASSERT_TRUE(state.ReleaseJob(id, claimed.lease_epoch, JobState::kPaused, "no room").ok());
  ASSERT_EQ(server_->queue->Cancel(id)->state, JobState::kCancelled);
  EXPECT_TRUE(fs::exists(Kept(id) + "/last/cfg.json"));
  EXPECT_FALSE(fs::exists(server_->catalog->JobDir(id)));
}

TEST_F(KeptCheckpointsTest, AServerKilledBeforeItMovedThemMovesThemAtItsNextStart) {
  Open(false);
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  WriteTinySae(server_->catalog->JobDir(id) + "/work/best", kTinyWidth, kHook);
  ASSERT_TRUE(server_->catalog->state().RequestCancel(id).ok());
  Close();
  Open(false);
  EXPECT_TRUE(fs::exists(Kept(id) + "/best/cfg.json"));
  EXPECT_FALSE(fs::exists(server_->catalog->JobDir(id)));
}

TEST_F(KeptCheckpointsTest, ThoseWithoutAnSaeAreLimited) {
  Open(false);
  std::vector<std::string> ids;
  for (size_t i = 0; i < Catalog::kMaxKeptCheckpoints + 2; ++i) {
    ids.push_back(server_->queue->SubmitTraining(TinyTraining("new"), "")->id);
    fs::create_directories(server_->catalog->JobDir(ids.back()) + "/work/last");
    WriteFileAtomically(server_->catalog->JobDir(ids.back()) + "/work/last/cfg.json", "{}")
        .IgnoreError();
    ASSERT_TRUE(server_->queue->Cancel(ids.back()).ok());
  }
  EXPECT_EQ(Kept(ids[0]), "");
  EXPECT_EQ(Kept(ids[1]), "");
  for (size_t i = 2; i < ids.size(); ++i) EXPECT_NE(Kept(ids[i]), "") << i;
}

}  // namespace
}  // namespace featurescope
