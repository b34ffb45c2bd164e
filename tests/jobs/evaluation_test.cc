// Evaluation jobs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/jobs/jobs_fixture.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

EvaluationJob TinyEvaluation() {
  EvaluationJob job;
  job.sae_id = "s";
  job.corpus_id = "c";
  job.evaluation.max_tokens = 2048;
  return job;
}

class EvaluationJobTest : public JobsTest {};

TEST(EvaluationSpecTest, SpecificationAndResultComeBackFromJson) {
  EvaluationJob job = TinyEvaluation();
  job.evaluation.part = EvaluationPart::kHeldOut;
  job.evaluation.ablations = false;
  job.evaluation.special_tokens = true;
  const EvaluationJob back = EvaluationJobFromJson(ToJson(job)).value();
  EXPECT_EQ(back.sae_id, "s");
  EXPECT_EQ(back.evaluation.part, EvaluationPart::kHeldOut);
  EXPECT_EQ(back.evaluation.max_tokens, 2048u);
  EXPECT_FALSE(back.evaluation.ablations);
  EXPECT_TRUE(back.evaluation.special_tokens);
  EXPECT_EQ(ToJson(back), ToJson(job));

  EvaluationResult result;
  result.n_contexts = 3;
  result.n_tokens = 1ull << 40;
  result.n_predicted = 95;
  result.metrics = {{"fvu", 0.1}, {"kl_score", std::nan("")}};
  result.histograms["l0"] = {{0, 1, 2}, {5, 1ull << 50}};
  const EvaluationResult read = EvaluationResultFromJson(ToJson(result)).value();
  EXPECT_EQ(read.n_tokens, result.n_tokens);
  EXPECT_EQ(read.metrics, (std::map<std::string, double>{{"fvu", 0.1}}));
  EXPECT_EQ(read.histograms.at("l0").edges, result.histograms["l0"].edges);
  EXPECT_EQ(read.histograms.at("l0").counts, result.histograms["l0"].counts);

  EXPECT_TRUE(absl::IsInvalidArgument(EvaluationJobFromJson("[]").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      EvaluationJobFromJson(R"({"sae_id": "s", "corpus_id": "c", "part": "none"})").status()));
  for (const char* bad :
       {"", "{}", R"({"n_contexts": 1, "n_tokens": 1, "n_predicted": 1})",
        R"({"n_contexts": -1, "n_tokens": 1, "n_predicted": 1, "metrics": {}, "histograms": {}})",
        R"({"n_contexts": 1, "n_tokens": 1, "n_predicted": 1, "metrics": {"x": "y"},
            "histograms": {}})",
        R"({"n_contexts": 1, "n_tokens": 1, "n_predicted": 1, "metrics": {},
            "histograms": {"l0": {"edges": [0], "counts": ["many"]}}})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(EvaluationResultFromJson(bad).status())) << bad;
  }
}

TEST_F(EvaluationJobTest, AnEvaluationsResultIsStoredAndListed) {
  Open();
  const auto job = server_->queue->SubmitEvaluation(TinyEvaluation(), "");
  ASSERT_TRUE(job.ok()) << job.status();
  const JobRow end = server_->AwaitEnd(job->id);
  ASSERT_EQ(end.state, JobState::kSucceeded) << end.error;
  EXPECT_EQ(end.progress, 1.0);
  const std::vector<EvaluationRow> rows = server_->queue->Evaluations("s").value();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].job_id, job->id);
  const EvaluationResult result = EvaluationResultFromJson(rows[0].result).value();
  EXPECT_GT(result.n_tokens, 1000u);
  EXPECT_LE(result.n_tokens, 2048u);
  for (const char* name : {"fvu", "l0", "ce_clean", "ce_sae", "ce_zero", "ce_mean"}) {
    EXPECT_TRUE(result.metrics.contains(name)) << name;
  }
  EXPECT_DOUBLE_EQ(result.metrics.at("l0"), 4.0);  // a top-k SAE
  EXPECT_TRUE(result.histograms.contains("density"));
  EXPECT_FALSE(server_->queue->Metrics(job->id, 100)->empty());
  // Every number has a definition.
  std::set<std::string> defined;
  for (const MetricDefinition& definition : EvaluationMetricDefinitions()) {
    defined.insert(std::string(definition.name));
  }
  for (const auto& [name, value] : result.metrics) EXPECT_TRUE(defined.contains(name)) << name;
  EXPECT_TRUE(absl::IsNotFound(server_->queue->Evaluations("none").status()));
  EXPECT_EQ(server_->queue->Evaluations("")->size(), 1u);
  ASSERT_TRUE(server_->catalog->DeleteSae("s").ok());
  EXPECT_TRUE(server_->queue->Evaluations("")->empty());
}

TEST_F(EvaluationJobTest, SubmissionRefusesWhatCannotWork) {
  Open(false);
  const auto refused = [this](const std::function<void(EvaluationJob*)>& change) {
    EvaluationJob job = TinyEvaluation();
    change(&job);
    return server_->queue->SubmitEvaluation(job, "").status();
  };
  EXPECT_TRUE(absl::IsNotFound(refused([](EvaluationJob* j) { j->sae_id = "none"; })));
  EXPECT_TRUE(absl::IsNotFound(refused([](EvaluationJob* j) { j->corpus_id = "none"; })));
  EXPECT_TRUE(
      absl::IsInvalidArgument(refused([](EvaluationJob* j) { j->evaluation.max_tokens = 0; })));
  const absl::Status nothing_held_out =
      refused([](EvaluationJob* j) { j->evaluation.part = EvaluationPart::kHeldOut; });
  EXPECT_TRUE(absl::IsFailedPrecondition(nothing_held_out)) << nothing_held_out;
  EXPECT_THAT(std::string(nothing_held_out.message()), HasSubstr("holdout"));

  WriteTinySae(dir_ / "wide", kTinyWidth * 2, kHook);
  ASSERT_TRUE(server_->catalog->AddSae("wide", dir_ / "wide", {"m", "", true}).ok());
  const absl::Status vectors_only = refused([](EvaluationJob* j) { j->sae_id = "wide"; });
  EXPECT_TRUE(absl::IsFailedPrecondition(vectors_only)) << vectors_only;
  EXPECT_THAT(std::string(vectors_only.message()), HasSubstr("vectors only"));

  WriteTinyModel(dir_ / "n", false, 2);
  ASSERT_TRUE(server_->catalog->AddModel("n", dir_ / "n").ok());
  ASSERT_TRUE(server_->catalog->AddSae("of-n", dir_ / "s", {"n", "", false}).ok());
  const absl::Status other_tokenizer = refused([](EvaluationJob* j) { j->sae_id = "of-n"; });
  EXPECT_TRUE(absl::IsFailedPrecondition(other_tokenizer)) << other_tokenizer;
  EXPECT_THAT(std::string(other_tokenizer.message()), HasSubstr("tokenizer"));
  EXPECT_TRUE(server_->queue->List({}, 10, "")->jobs.empty());
}

TEST_F(EvaluationJobTest, ACancelledEvaluationStoresNothing) {
  Open(false);
  EvaluationJob job = TinyEvaluation();
  job.evaluation.max_tokens = 1 << 20;
  const std::string id = server_->queue->SubmitEvaluation(job, "")->id;
  EXPECT_TRUE(absl::IsFailedPrecondition(server_->catalog->DeleteSae("s")));
  server_->Start();
  server_->Await(id, [](const JobRow& row) { return row.progress > 0; });
  // It may have ended before it was cancelled.
  if (server_->queue->Cancel(id).ok() && server_->AwaitEnd(id).state == JobState::kCancelled) {
    EXPECT_TRUE(server_->queue->Evaluations("s")->empty());
  }
  EXPECT_TRUE(server_->catalog->DeleteSae("s").ok());
}

TEST_F(EvaluationJobTest, AfterKillAnEvaluationFindsTheSameAndStoresItOnce) {
  Open(false);
  EvaluationJob job = TinyEvaluation();
  job.evaluation.max_tokens = 1 << 20;
  const std::string id = server_->queue->SubmitEvaluation(job, "")->id;
  Close();
  RunUntilKilled(dir_ / "data", id, "progress >= 0.3");
  Open();
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  const std::string twin = server_->queue->SubmitEvaluation(job, "")->id;
  ASSERT_EQ(server_->AwaitEnd(twin).state, JobState::kSucceeded);
  const std::vector<EvaluationRow> rows = server_->queue->Evaluations("s").value();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].result, rows[1].result);
}

TEST_F(EvaluationJobTest, AStoredResultIsNotComputedAgain) {
  Open(false);
  const std::string id = server_->queue->SubmitEvaluation(TinyEvaluation(), "")->id;
  StateDb& state = server_->catalog->state();
  const JobRow claimed = state.ClaimJob()->value();
  ASSERT_TRUE(
      state.AddEvaluation({id, "s", "c", claimed.spec, "as stored"}, claimed.lease_epoch).ok());
  // As if the server had been killed before it could end the job.
  Close();
  Open();
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  ASSERT_EQ(server_->queue->Evaluations("s")->size(), 1u);
  EXPECT_EQ(server_->queue->Evaluations("s")->front().result, "as stored");
}

}  // namespace
}  // namespace featurescope
