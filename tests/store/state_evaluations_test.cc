#include <gtest/gtest.h>

#include "server/store/state_db.h"
#include "server/store/state_schema.h"
#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

class StateEvaluationsTest : public ::testing::Test {
 protected:
  StateEvaluationsTest() {
    Reopen();
    ModelRow model;
    model.id = "m";
    EXPECT_TRUE(db_->AddModel(model).ok());
    AddSae("s");
    AddSae("t");
  }
  void Reopen() {
    db_.reset();
    auto db = StateDb::Open(dir_ / "state.db", StateDbOptions());
    ASSERT_TRUE(db.ok()) << db.status();
    db_ = *std::move(db);
  }
  void AddSae(const std::string& id) {
    SaeRow sae;
    sae.id = id;
    sae.model_id = "m";
    ASSERT_TRUE(db_->AddSae(sae).ok());
  }
  // A job that runs.
  JobRow Running() {
    EXPECT_TRUE(db_->SubmitJob({"evaluation", "{}", "", "", {}}).ok());
    return db_->ClaimJob()->value();
  }
  // The job of a new evaluation of `sae_id`, finished.
  std::string Evaluated(const std::string& sae_id, const std::string& result) {
    const JobRow job = Running();
    EXPECT_TRUE(db_->AddEvaluation({job.id, sae_id, "c", "{}", result}, job.lease_epoch).ok());
    EXPECT_TRUE(db_->FinishJob(job.id, job.lease_epoch, JobState::kSucceeded, "").ok());
    return job.id;
  }

  TempDir dir_;
  std::unique_ptr<StateDb> db_;
};

TEST_F(StateEvaluationsTest, ResultsComeBackTheNewestFirst) {
  const std::string first = Evaluated("s", R"({"l0": 1})");
  const std::string other = Evaluated("t", R"({"l0": 2})");
  const std::string second = Evaluated("s", R"({"l0": 3})");
  Reopen();
  const std::vector<EvaluationRow> of_s = db_->ListEvaluations("s").value();
  ASSERT_EQ(of_s.size(), 2u);
  EXPECT_EQ(of_s[0].job_id, second);
  EXPECT_EQ(of_s[0].result, R"({"l0": 3})");
  EXPECT_EQ(of_s[0].corpus_id, "c");
  EXPECT_GT(of_s[0].created_ms, 0);
  EXPECT_EQ(of_s[1].job_id, first);
  EXPECT_EQ(db_->ListEvaluations("")->size(), 3u);
  EXPECT_TRUE(*db_->HasEvaluation(other));
  EXPECT_FALSE(*db_->HasEvaluation("none"));
}

TEST_F(StateEvaluationsTest, AJobStoresItsResultOnce) {
  const JobRow job = Running();
  EXPECT_TRUE(db_->AddEvaluation({job.id, "s", "c", "{}", "first"}, job.lease_epoch).ok());
  EXPECT_TRUE(db_->AddEvaluation({job.id, "s", "c", "{}", "second"}, job.lease_epoch).ok());
  ASSERT_EQ(db_->ListEvaluations("s")->size(), 1u);
  EXPECT_EQ(db_->ListEvaluations("s")->front().result, "first");
}

TEST_F(StateEvaluationsTest, ALostLeaseStoresNothing) {
  const JobRow job = Running();
  EXPECT_TRUE(
      absl::IsAborted(db_->AddEvaluation({job.id, "s", "c", "{}", "{}"}, job.lease_epoch + 1)));
  EXPECT_TRUE(
      absl::IsNotFound(db_->AddEvaluation({job.id, "none", "c", "{}", "{}"}, job.lease_epoch)));
  EXPECT_TRUE(db_->ListEvaluations("")->empty());
}

TEST_F(StateEvaluationsTest, ResultsGoWithTheirSae) {
  Evaluated("s", "{}");
  Evaluated("t", "{}");
  ASSERT_TRUE(db_->DeleteSae("s").ok());
  AddSae("s");
  EXPECT_TRUE(db_->ListEvaluations("s")->empty());
  EXPECT_EQ(db_->ListEvaluations("")->size(), 1u);
}

TEST_F(StateEvaluationsTest, AFileOfTheVersionBeforeIsOpened) {
  const std::string path = dir_ / "before.db";
  {
    auto old = Database::Open(path, OpenMode::kWriter).value();
    ASSERT_TRUE(old->Migrate(absl::MakeConstSpan(kStateMigrations, 2), kStateApplicationId).ok());
    ASSERT_TRUE(old->Execute("INSERT INTO job(id, kind, spec, target, state, created_ms) "
                             "VALUES('01', 'training', '{}', '', 'succeeded', 5)")
                    .ok());
  }
  const auto db = StateDb::Open(path, StateDbOptions());
  ASSERT_TRUE(db.ok()) << db.status();
  EXPECT_TRUE((*db)->ListEvaluations("")->empty());
  EXPECT_EQ((*db)->GetJob("01")->state, JobState::kSucceeded);
}

TEST_F(StateEvaluationsTest, UnfinishedJobsThatMakeOrUseACacheAreNamed) {
  const std::string makes = db_->SubmitJob({"caching", "{}", "", "cache:a", {}})->id;
  const std::string uses =
      db_->SubmitJob({"training", "{}", "", "sae:new", {"model:m", "cache:a"}})->id;
  ASSERT_TRUE(db_->SubmitJob({"training", "{}", "", "sae:newer", {"cache:b"}}).ok());
  EXPECT_EQ(*db_->UnfinishedJobsWith("cache:a"), (std::vector<std::string>{makes, uses}));
  ASSERT_TRUE(db_->RequestCancel(makes).ok());
  EXPECT_EQ(*db_->UnfinishedJobsWith("cache:a"), std::vector<std::string>{uses});
  EXPECT_TRUE(db_->UnfinishedJobsWith("cache:none")->empty());
}

}  // namespace
}  // namespace featurescope
