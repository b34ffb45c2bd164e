#include "server/store/state_db.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "server/store/state_schema.h"
#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class StateDbTest : public ::testing::Test {
 protected:
  StateDbTest() { Reopen(); }

  void Reopen() {
    db_.reset();
    auto db = StateDb::Open(path(), options_);
    ASSERT_TRUE(db.ok()) << db.status();
    db_ = *std::move(db);
  }
  // As after kill -9: a copy of the files, taken while they are open.
  void ReopenAfterKill() {
    const std::string copy = dir_ / absl::StrCat("killed", ++kills_, ".db");
    for (const char* suffix : {"", "-wal"}) {
      std::filesystem::copy_file(path() + suffix, copy + suffix);
    }
    db_.reset();
    file_ = copy;
    Reopen();
  }
  std::string path() const { return file_.empty() ? dir_ / "state.db" : file_; }

  void AddModelNamed(const std::string& id) {
    ModelRow row;
    row.id = id;
    row.hook_names = {"hook_embed", "blocks.0.hook_resid_pre"};
    ASSERT_TRUE(db_->AddModel(row).ok());
  }
  JobRow Submit(const std::string& key = "", const std::string& target = "") {
    JobSubmission submission{"training", "{}", key, target, {}};
    auto job = db_->SubmitJob(submission);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *job : JobRow();
  }
  JobRow Claim() {
    auto job = db_->ClaimJob();
    EXPECT_TRUE(job.ok() && job->has_value());
    return job.ok() && job->has_value() ? **job : JobRow();
  }
  JobRow Get(const std::string& id) { return db_->GetJob(id).value(); }

  TempDir dir_;
  std::string file_;
  int kills_ = 0;
  int64_t now_ms_ = 1000;
  StateDbOptions options_{absl::Seconds(30), 3, [this] { return now_ms_; }};
  std::unique_ptr<StateDb> db_;
};

TEST_F(StateDbTest, IdsFollowTheirGrammar) {
  for (const char* good : {"a", "0", "gpt2-small", "a.b_c-d", "x23456789012345678901234567890"}) {
    EXPECT_TRUE(CheckId(good, "model id").ok()) << good;
  }
  const std::string longest(64, 'a');
  EXPECT_TRUE(CheckId(longest, "model id").ok());
  for (const std::string& bad :
       {std::string(), longest + "a", std::string("A"), std::string(".a"), std::string("-a"),
        std::string("a/b"), std::string("a b"), std::string("\xc3\xa9"), std::string("a\0b", 3)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckId(bad, "model id"))) << bad;
  }
}

TEST_F(StateDbTest, CatalogRowsComeBackAsTheyWerePut) {
  ModelRow model;
  model.id = "m";
  model.path = "/models/m";
  model.architecture = "gpt2";
  model.n_layers = 1, model.d_model = 2, model.n_heads = 3, model.d_head = 4, model.d_mlp = 5;
  model.d_vocab = 6, model.n_ctx = 7, model.n_parameters = 1ull << 40, model.memory_bytes = 9;
  model.has_tokenizer = true, model.prepend_bos = true;
  model.tokenizer_hash = "th", model.hash = "h";
  model.hook_names = {"hook_embed", "ln_final.hook_normalized"};
  model.tokenizer_kind = "byte-level BPE", model.has_chat_template = true;
  model.source = "org/name@abc", model.warnings = {"one thing", "another"};
  ASSERT_TRUE(db_->AddModel(model).ok());
  SaeRow sae;
  sae.id = "s", sae.model_id = "m", sae.path = "p", sae.hook_name = "hook_embed";
  sae.architecture = "topk", sae.d_in = 2, sae.d_sae = 8, sae.k = 3;
  sae.apply_b_dec_to_input = true, sae.normalize_activations = "none", sae.format = "SAELens 6";
  sae.context_size = 128, sae.prepend_bos = true, sae.vectors_only = true, sae.memory_bytes = 77;
  sae.hash = "sh", sae.training_job_id = "j";
  sae.d_out = 5, sae.hook_name_out = "blocks.0.hook_mlp_out", sae.file_dtype = "float16";
  sae.main_file = "ae.pt", sae.overrides = "{}";
  sae.activation = "ReLU", sae.prepend_bos_known = true, sae.folds = {"W_enc * 0.5"};
  sae.notes = {"of two\nlines", "n"}, sae.warnings = {"a", "b"}, sae.center_writing_weights = true,
  sae.trained_on = "gpt2-small";
  sae.source = "release/id";
  ASSERT_TRUE(db_->AddSae(sae).ok());
  CorpusRow corpus;
  corpus.id = "c", corpus.model_id = "m", corpus.path = "cp", corpus.context_size = 64;
  corpus.n_tokens = 1000, corpus.n_documents = 10, corpus.n_contexts = 16;
  corpus.prepend_bos = true, corpus.hash = "ch", corpus.tokenizer_hash = "th";
  corpus.n_heldout_contexts = 2, corpus.n_heldout_tokens = 100, corpus.layout = "truncated";
  corpus.formats = {"csv.gz"};
  ASSERT_TRUE(db_->AddCorpus(corpus).ok());
  Reopen();

  const ModelRow m = db_->GetModel("m").value();
  EXPECT_EQ(m.path, "/models/m");
  EXPECT_EQ(m.d_mlp, 5u);
  EXPECT_EQ(m.n_parameters, 1ull << 40);
  EXPECT_TRUE(m.has_tokenizer);
  EXPECT_EQ(m.hook_names, model.hook_names);
  EXPECT_EQ(m.tokenizer_kind, "byte-level BPE");
  EXPECT_TRUE(m.has_chat_template);
  EXPECT_EQ(m.source, "org/name@abc");
  EXPECT_EQ(m.warnings, model.warnings);
  EXPECT_GT(m.created_ms, 0);
  const SaeRow s = db_->GetSae("s").value();
  EXPECT_EQ(s.d_sae, 8u);
  EXPECT_EQ(s.k, 3u);
  EXPECT_TRUE(s.vectors_only);
  EXPECT_EQ(s.memory_bytes, 77u);
  EXPECT_EQ(s.training_job_id, "j");
  EXPECT_EQ(s.d_out, 5u);
  EXPECT_EQ(s.hook_name_out, "blocks.0.hook_mlp_out");
  EXPECT_EQ(s.main_file, "ae.pt");
  EXPECT_EQ(s.overrides, "{}");
  EXPECT_EQ(s.file_dtype, "float16");
  EXPECT_EQ(s.activation, "ReLU");
  EXPECT_TRUE(s.prepend_bos_known);
  EXPECT_EQ(s.folds, sae.folds);
  EXPECT_THAT(s.notes, ElementsAre("of two lines", "n"));
  EXPECT_EQ(s.warnings, sae.warnings);
  EXPECT_TRUE(s.center_writing_weights);
  EXPECT_EQ(s.trained_on, "gpt2-small");
  EXPECT_EQ(s.source, "release/id");
  const CorpusRow c = db_->GetCorpus("c").value();
  EXPECT_EQ(c.n_contexts, 16u);
  EXPECT_EQ(c.tokenizer_hash, "th");
  EXPECT_EQ(c.n_heldout_contexts, 2u);
  EXPECT_EQ(c.n_heldout_tokens, 100u);
  EXPECT_EQ(c.layout, "truncated");
  EXPECT_EQ(c.formats, corpus.formats);
  EXPECT_EQ(db_->ListSaes()->size(), 1u);
  EXPECT_EQ(db_->ListCorpora()->size(), 1u);
}

TEST_F(StateDbTest, EntriesOfTheFirstVersionAreKept) {
  db_.reset();
  file_ = dir_ / "first.db";
  {
    auto old = Database::Open(file_, OpenMode::kWriter).value();
    ASSERT_TRUE(old->Migrate(absl::MakeConstSpan(kStateMigrations, 1), kStateApplicationId).ok());
    ASSERT_TRUE(old->Execute(R"sql(
        INSERT INTO model VALUES('m', 'p', 'gpt2', 1, 2, 1, 2, 8, 10, 16, 100, 400, 1, 1, 'th', 'h',
                                 'hook_embed', 5);
        INSERT INTO sae VALUES('s', 'm', 'p', 'hook_embed', 'topk', 2, 8, 3, 1, 'none', 'SAELens 6',
                               0, 1, 0, 77, 'sh', '', 5);
        INSERT INTO corpus VALUES('c', 'm', 'p', 16, 100, 10, 7, 1, 'ch', 'th', 5);
        INSERT INTO job(id, kind, spec, target, state, created_ms)
          VALUES('01', 'training', '{}', '', 'queued', 5))sql")
                    .ok());
  }
  Reopen();
  EXPECT_EQ(db_->GetModel("m")->warnings, std::vector<std::string>());
  const SaeRow sae = db_->GetSae("s").value();
  EXPECT_EQ(sae.d_out, 2u);
  EXPECT_EQ(sae.hook_name_out, "hook_embed");
  EXPECT_FALSE(sae.center_writing_weights);
  EXPECT_EQ(db_->GetCorpus("c")->layout, "packed");
  EXPECT_EQ(Get("01").transfer.bytes_total, 0u);
}

TEST_F(StateDbTest, AnIdIsTakenOnceAndAModelMustExist) {
  AddModelNamed("m");
  ModelRow again;
  again.id = "m";
  EXPECT_TRUE(absl::IsAlreadyExists(db_->AddModel(again)));
  SaeRow sae;
  sae.id = "s", sae.model_id = "none";
  const absl::Status status = db_->AddSae(sae);
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(status.message(), "no model \"none\"");
}

TEST_F(StateDbTest, WhatIsNeededCannotBeDeleted) {
  AddModelNamed("m");
  SaeRow sae;
  sae.id = "s", sae.model_id = "m";
  ASSERT_TRUE(db_->AddSae(sae).ok());
  const absl::Status status = db_->DeleteModel("m");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(status.message(), "model \"m\" is needed by SAE s");

  const JobRow job = db_->SubmitJob({"indexing", "{}", "", "", {"sae:s"}}).value();
  EXPECT_THAT(std::string(db_->DeleteSae("s").message()), HasSubstr(job.id));
  ASSERT_TRUE(db_->RequestCancel(job.id).ok());
  EXPECT_TRUE(db_->DeleteSae("s").ok());
  EXPECT_TRUE(db_->DeleteModel("m").ok());
  EXPECT_TRUE(absl::IsNotFound(db_->DeleteModel("m")));
}

TEST_F(StateDbTest, AKeyGivesTheSameJobOrAnError) {
  const JobRow first = Submit("key");
  EXPECT_EQ(Submit("key").id, first.id);
  EXPECT_NE(Submit("other").id, first.id);
  JobSubmission changed{"training", "{\"k\":1}", "key", "", {}};
  EXPECT_TRUE(absl::IsAlreadyExists(db_->SubmitJob(changed).status()));
  EXPECT_EQ(db_->UnfinishedJobs()->size(), 2u);
}

TEST_F(StateDbTest, OnlyOneUnfinishedJobMakesATarget) {
  const JobRow first = Submit("", "sae:x");
  const auto second = db_->SubmitJob({"training", "{}", "", "sae:x", {}});
  EXPECT_TRUE(absl::IsAlreadyExists(second.status()));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(first.id));
  ASSERT_TRUE(db_->RequestCancel(first.id).ok());
  EXPECT_TRUE(db_->SubmitJob({"training", "{}", "", "sae:x", {}}).ok());
}

TEST_F(StateDbTest, AJobMustFindWhatItUses) {
  const auto job = db_->SubmitJob({"training", "{}", "", "", {"model:m"}});
  EXPECT_TRUE(absl::IsNotFound(job.status()));
  EXPECT_TRUE(db_->UnfinishedJobs()->empty());
}

TEST_F(StateDbTest, JobsAreClaimedInOrderOfSubmissionAndOnce) {
  const std::string a = Submit().id, b = Submit().id, c = Submit().id;
  EXPECT_EQ(Claim().id, a);
  EXPECT_EQ(Claim().id, b);
  EXPECT_EQ(Claim().id, c);
  EXPECT_FALSE(db_->ClaimJob()->has_value());
}

TEST_F(StateDbTest, ThreadsNeverClaimTheSameJob) {
  constexpr int kJobs = 60;
  for (int i = 0; i < kJobs; ++i) Submit();
  Mutex mutex;
  std::multiset<std::string> claimed;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (true) {
        const auto job = db_->ClaimJob();
        ASSERT_TRUE(job.ok()) << job.status();
        if (!job->has_value()) return;
        MutexLock lock(&mutex);
        claimed.insert((*job)->id);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(claimed.size(), kJobs);
  EXPECT_EQ(std::set<std::string>(claimed.begin(), claimed.end()).size(), kJobs);
}

TEST_F(StateDbTest, ALostLeaseCanWriteNothing) {
  const std::string id = Submit().id;
  const JobRow first = Claim();
  now_ms_ += 31000;  // the lease runs out
  const JobRow second = Claim();
  ASSERT_EQ(second.id, id);
  EXPECT_GT(second.lease_epoch, first.lease_epoch);
  EXPECT_EQ(second.attempt, 2u);

  EXPECT_TRUE(absl::IsAborted(db_->Heartbeat(id, first.lease_epoch)));
  EXPECT_TRUE(absl::IsAborted(db_->UpdateProgress(id, first.lease_epoch, {0.9, "old", 1, 1, 1})));
  EXPECT_TRUE(absl::IsAborted(db_->FinishJob(id, first.lease_epoch, JobState::kFailed, "old")));
  EXPECT_TRUE(absl::IsAborted(db_->ReleaseJob(id, first.lease_epoch, JobState::kQueued, "")));
  EXPECT_TRUE(absl::IsAborted(db_->AppendMetrics(id, first.lease_epoch, {MetricRow{1, 1, {}}})));
  EXPECT_EQ(Get(id).state, JobState::kRunning);
  EXPECT_TRUE(db_->GetMetrics(id, 10)->empty());
  EXPECT_TRUE(db_->FinishJob(id, second.lease_epoch, JobState::kSucceeded, "").ok());
  EXPECT_EQ(Get(id).progress, 1.0);
  EXPECT_TRUE(absl::IsAborted(db_->Heartbeat(id, second.lease_epoch)));
}

TEST_F(StateDbTest, AHeartbeatKeepsTheLease) {
  Submit();
  const JobRow job = Claim();
  for (int i = 0; i < 5; ++i) {
    now_ms_ += 20000;
    ASSERT_TRUE(db_->Heartbeat(job.id, job.lease_epoch).ok());
    EXPECT_FALSE(db_->ClaimJob()->has_value());
  }
}

TEST_F(StateDbTest, AKilledServersJobIsQueuedAgainWithItsProgress) {
  const std::string id = Submit().id;
  const JobRow job = Claim();
  ASSERT_TRUE(db_->UpdateProgress(id, job.lease_epoch, {0.4, "training", 40, 10, 6}).ok());
  ReopenAfterKill();
  const JobRow after = Get(id);
  EXPECT_EQ(after.state, JobState::kQueued);
  EXPECT_EQ(after.progress, 0.4);
  EXPECT_EQ(after.crashes, 1u);
  EXPECT_TRUE(absl::IsAborted(db_->Heartbeat(id, job.lease_epoch)));
  EXPECT_EQ(Claim().attempt, 2u);
}

TEST_F(StateDbTest, AJobThatStopsTheServerAgainAndAgainFails) {
  const std::string id = Submit().id;
  for (int i = 0; i < 3; ++i) {
    const JobRow job = Claim();
    ASSERT_EQ(job.id, id);
    ASSERT_TRUE(db_->UpdateProgress(id, job.lease_epoch, {0.5, "training", 1, 1, 1}).ok());
    ReopenAfterKill();
  }
  const JobRow job = Get(id);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error, "the server stopped 3 times while running this job");
  EXPECT_GT(job.finished_ms, 0);
}

TEST_F(StateDbTest, ProgressBetweenStopsKeepsAJobAlive) {
  const std::string id = Submit().id;
  for (int i = 0; i < 8; ++i) {
    const JobRow job = Claim();
    ASSERT_EQ(job.id, id);
    ASSERT_TRUE(
        db_->UpdateProgress(id, job.lease_epoch, {0.1 * (i + 1), "training", 1, 1, 1}).ok());
    ReopenAfterKill();
  }
  EXPECT_EQ(Get(id).state, JobState::kQueued);
}

TEST_F(StateDbTest, WaitingJobsAreCancelledAtOnceRunningOnesAreMarked) {
  const std::string waiting = Submit().id;
  EXPECT_EQ(db_->RequestCancel(waiting)->state, JobState::kCancelled);
  EXPECT_TRUE(absl::IsFailedPrecondition(db_->RequestCancel(waiting).status()));
  EXPECT_TRUE(absl::IsNotFound(db_->RequestCancel("none").status()));

  const std::string running = Submit().id;
  const JobRow job = Claim();
  const JobRow marked = db_->RequestCancel(running).value();
  EXPECT_EQ(marked.state, JobState::kRunning);
  EXPECT_TRUE(marked.cancel_requested);
  ReopenAfterKill();
  EXPECT_EQ(Get(running).state, JobState::kCancelled);
}

TEST_F(StateDbTest, ReleasedJobsWaitOrPauseAndResume) {
  const std::string id = Submit().id;
  JobRow job = Claim();
  ASSERT_TRUE(db_->ReleaseJob(id, job.lease_epoch, JobState::kPaused, "the disk is full").ok());
  EXPECT_EQ(Get(id).error, "the disk is full");
  EXPECT_FALSE(db_->ClaimJob()->has_value());
  Reopen();
  EXPECT_EQ(Get(id).state, JobState::kPaused);
  ASSERT_TRUE(db_->ResumeJob(id).ok());
  job = Claim();
  EXPECT_EQ(job.id, id);
  EXPECT_EQ(job.error, "");
  ASSERT_TRUE(db_->RequestCancel(id).ok());
  ASSERT_TRUE(db_->ReleaseJob(id, job.lease_epoch, JobState::kQueued, "").ok());
  EXPECT_EQ(Get(id).state, JobState::kCancelled);
}

TEST_F(StateDbTest, JobPagesAreCompleteAndTheNewestFirst) {
  std::vector<std::string> ids;
  for (int i = 0; i < 25; ++i) ids.push_back(Submit().id);
  ASSERT_TRUE(db_->RequestCancel(ids[3]).ok());
  std::vector<std::string> seen;
  std::string token;
  do {
    const JobPage page = db_->ListJobs({}, 7, token).value();
    for (const JobRow& job : page.jobs) seen.push_back(job.id);
    token = page.next_page_token;
  } while (!token.empty());
  EXPECT_EQ(seen, std::vector<std::string>(ids.rbegin(), ids.rend()));
  const JobPage cancelled = db_->ListJobs({JobState::kCancelled}, 7, "").value();
  ASSERT_EQ(cancelled.jobs.size(), 1u);
  EXPECT_EQ(cancelled.jobs[0].id, ids[3]);
  EXPECT_TRUE(absl::IsInvalidArgument(db_->ListJobs({}, 7, "'; DROP TABLE job").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(db_->ListJobs({}, 0, "").status()));
}

TEST_F(StateDbTest, MetricsAreThinnedBetweenFirstAndLast) {
  const std::string id = Submit().id;
  const JobRow job = Claim();
  std::vector<MetricRow> points;
  for (uint64_t step = 1; step <= 1000; ++step)
    points.push_back({step, step * 10, {{"loss", 0.1}}});
  ASSERT_TRUE(db_->AppendMetrics(id, job.lease_epoch, points).ok());
  EXPECT_EQ(db_->GetMetrics(id, 5000)->size(), 1000u);
  const std::vector<MetricRow> thin = db_->GetMetrics(id, 7).value();
  ASSERT_EQ(thin.size(), 7u);
  EXPECT_EQ(thin.front().step, 1u);
  EXPECT_EQ(thin.back().step, 1000u);
  EXPECT_EQ(thin.back().tokens, 10000u);
  EXPECT_EQ(thin.back().values.at("loss"), 0.1);
}

TEST_F(StateDbTest, MetricsThatAreMeasuredNowAndThenOutliveThinning) {
  const std::string id = Submit().id;
  const JobRow job = Claim();
  std::vector<MetricRow> points;
  for (uint64_t step = 1; step <= 1000; ++step) {
    points.push_back({step, 0, {{"loss", static_cast<double>(step)}}});
    if (step % 250 == 3) points.back().values["heldout_l0"] = static_cast<double>(step);
  }
  ASSERT_TRUE(db_->AppendMetrics(id, job.lease_epoch, points).ok());
  std::vector<double> seen;
  const std::vector<MetricRow> thin = db_->GetMetrics(id, 20).value();
  for (const MetricRow& point : thin) {
    EXPECT_EQ(point.values.at("loss"), static_cast<double>(point.step));
    if (point.values.contains("heldout_l0")) seen.push_back(point.values.at("heldout_l0"));
  }
  EXPECT_THAT(seen, ElementsAre(3, 253, 503, 753));
}

TEST_F(StateDbTest, PointsOfManySaesAreFewerThanAskedFor) {
  const std::string id = Submit().id;
  const JobRow job = Claim();
  std::map<std::string, double> values;
  for (int i = 0; i < 20'000; ++i) values[absl::StrCat("member-", i, "/metric")] = 0.1;
  std::vector<MetricRow> points;
  for (uint64_t step = 1; step <= 40; ++step) points.push_back({step, 0, values});
  ASSERT_TRUE(db_->AppendMetrics(id, job.lease_epoch, points).ok());
  const std::vector<MetricRow> thin = db_->GetMetrics(id, 1000).value();
  EXPECT_GE(thin.size(), 10u);
  EXPECT_LT(thin.size(), 30u);
  EXPECT_EQ(thin.front().step, 1u);
  EXPECT_EQ(thin.back().step, 40u);
}

TEST_F(StateDbTest, AResumedJobsMetricsReplaceThoseItRepeats) {
  const std::string id = Submit().id;
  const JobRow job = Claim();
  ASSERT_TRUE(db_->AppendMetrics(id, job.lease_epoch,
                                 {{10, 0, {{"l", 1}}}, {21, 0, {{"l", 2}}}, {29, 0, {{"l", 3}}}})
                  .ok());
  ASSERT_TRUE(db_->AppendMetrics(id, job.lease_epoch, {{20, 0, {{"l", 4}}}}).ok());
  std::vector<uint64_t> steps;
  const std::vector<MetricRow> points = db_->GetMetrics(id, 10).value();
  for (const MetricRow& point : points) steps.push_back(point.step);
  EXPECT_THAT(steps, ElementsAre(10, 20));
}

TEST_F(StateDbTest, ADamagedFileSaysWhatToDo) {
  for (int i = 0; i < 200; ++i) Submit();
  db_.reset();
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) / 2);
  const auto db = StateDb::Open(path(), options_);
  ASSERT_TRUE(absl::IsDataLoss(db.status())) << db.status();
  EXPECT_THAT(std::string(db.status().message()), HasSubstr(path()));
  EXPECT_THAT(std::string(db.status().message()), HasSubstr("restore"));
}

TEST_F(StateDbTest, ANewerFileIsLeftAlone) {
  db_.reset();
  {
    auto db = Database::Open(path(), OpenMode::kWriter);
    ASSERT_TRUE((*db)->Execute("PRAGMA user_version=99").ok());
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(StateDb::Open(path(), options_).status()));
}

TEST_F(StateDbTest, JobIdsRiseEvenWhenTheClockDoesNot) {
  std::string last;
  for (int i = 0; i < 100; ++i) {
    const std::string id = Submit().id;
    EXPECT_GT(id, last);
    last = id;
  }
  Reopen();
  EXPECT_GT(Submit().id, last);
}

// Every job whose submission was reported is there after kill -9.
TEST_F(StateDbTest, KilledWhileSubmittingNoAcceptedJobIsLost) {
  db_.reset();
  for (int round = 0; round < 5; ++round) {
    const std::string report = dir_ / absl::StrCat("report", round);
    const pid_t child = ::fork();
    if (child == 0) {
      auto db = StateDb::Open(path(), {});
      if (!db.ok()) ::_exit(1);
      const int fd = ::open(report.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
      while (true) {
        const auto job = (*db)->SubmitJob({"training", "{}", "", "", {}});
        if (!job.ok()) ::_exit(2);
        const std::string line = job->id + "\n";
        if (::write(fd, line.data(), line.size()) < 0) ::_exit(3);
      }
    }
    // Kill at a moment that differs from round to round.
    std::error_code none;
    while (!std::filesystem::exists(report, none) ||
           std::filesystem::file_size(report, none) < static_cast<size_t>(27 * (3 + 5 * round))) {
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, WNOHANG), 0) << "the child ended by itself";
      std::this_thread::yield();
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    Reopen();
    std::ifstream lines(report);
    std::string id;
    while (lines >> id) {
      if (id.size() == 26) EXPECT_TRUE(db_->GetJob(id).ok()) << id;
    }
    db_.reset();
  }
}

TEST_F(StateDbTest, AClaimTakesOnlyJobsOfItsKinds) {
  const std::string training = Submit().id;
  const std::string import = db_->SubmitJob({"import", "{}", "", "", {}})->id;
  const std::vector<std::string> imports = {"import"};
  const std::vector<std::string> others = {"training", "indexing"};
  EXPECT_EQ((*db_->ClaimJob(imports))->id, import);
  EXPECT_FALSE(db_->ClaimJob(imports)->has_value());
  EXPECT_EQ((*db_->ClaimJob(others))->id, training);
  const std::vector<std::string> part = {"port"};
  Submit();
  EXPECT_FALSE(db_->ClaimJob(part)->has_value()) << "kinds are compared whole";
}

TEST_F(StateDbTest, WhatAJobHasDownloadedIsKept) {
  Submit();
  const JobRow job = Claim();
  JobProgress progress;
  progress.progress = 0.25;
  progress.transfer = {1ull << 33, 1ull << 35, 2.5e6, 1, 4};
  ASSERT_TRUE(db_->UpdateProgress(job.id, job.lease_epoch, progress).ok());
  const JobTransfer transfer = Get(job.id).transfer;
  EXPECT_EQ(transfer.bytes_done, 1ull << 33);
  EXPECT_EQ(transfer.bytes_total, 1ull << 35);
  EXPECT_EQ(transfer.bytes_per_second, 2.5e6);
  EXPECT_EQ(transfer.files_done, 1u);
  EXPECT_EQ(transfer.files_total, 4u);
}

}  // namespace
}  // namespace featurescope
