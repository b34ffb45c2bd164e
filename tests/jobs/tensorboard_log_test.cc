// Jobs' curves in TensorBoard's event files.
#include "server/jobs/tensorboard_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "tests/formats/event_file_reader.h"
#include "tests/jobs/jobs_fixture.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class TensorBoardLogTest : public JobsTest {
 protected:
  std::string Root() const { return dir_ / "data/tensorboard"; }
  std::set<std::string> Runs() const { return Names(Root()); }
  static std::set<std::string> Names(const std::string& dir) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
  // What TensorBoard shows of a run: each start but the first forgets what was there from its step
  // on.
  std::vector<Event> Shown(const std::string& run) const {
    std::vector<Event> shown;
    bool started = false;
    for (const std::string& name : Names(Root() + "/" + run)) {
      for (const Event& event : ReadEvents(Root() + "/" + run + "/" + name)) {
        if (event.session_start && std::exchange(started, true)) {
          std::erase_if(shown, [&](const Event& e) { return e.step >= event.step; });
        }
        if (!event.scalars.empty()) shown.push_back(event);
      }
    }
    return shown;
  }
  // That TensorBoard shows what the database has.
  void ExpectAsStored(const std::string& job_id, const std::string& run) {
    const std::vector<Event> shown = Shown(run);
    const std::vector<MetricRow> stored = server_->queue->Metrics(job_id, 100000).value();
    ASSERT_EQ(shown.size(), stored.size());
    for (size_t i = 0; i < shown.size(); ++i) {
      EXPECT_EQ(shown[i].step, stored[i].step);
      ASSERT_EQ(shown[i].scalars.size(), stored[i].values.size());
      for (const auto& [name, value] : stored[i].values) {
        EXPECT_EQ(shown[i].scalars.at(name), static_cast<float>(value)) << name;
      }
    }
  }
};

TEST_F(TensorBoardLogTest, ATrainingsCurvesAreOneRun) {
  Open();
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  const std::string index = server_->queue->SubmitIndexing(TinyIndexing(), "")->id;
  ASSERT_EQ(server_->AwaitEnd(index).state, JobState::kSucceeded);
  EXPECT_THAT(Runs(), ElementsAre("new-" + id));
  ExpectAsStored(id, "new-" + id);
  EXPECT_TRUE(Shown("new-" + id).front().scalars.contains("loss"));
}

TEST_F(TensorBoardLogTest, EachSaeOfASweepIsARun) {
  Open();
  SweepJob sweep;
  sweep.members = {TinyTraining("a"), TinyTraining("b")};
  sweep.members[1].training.k = 8;
  const auto job = server_->queue->SubmitSweep(sweep, "");
  ASSERT_TRUE(job.ok()) << job.status();
  ASSERT_EQ(server_->AwaitEnd(job->id).state, JobState::kSucceeded);
  EXPECT_THAT(Runs(), ElementsAre("a-" + job->id, "b-" + job->id));
  const std::vector<MetricRow> stored = server_->queue->Metrics(job->id, 100000).value();
  for (const std::string name : {"a", "b"}) {
    const std::vector<Event> shown = Shown(absl::StrCat(name, "-", job->id));
    ASSERT_THAT(shown, SizeIs(stored.size()));
    const double loss = stored.back().values.at(name + "/loss");
    EXPECT_EQ(shown.back().scalars.at("loss"), static_cast<float>(loss));
    EXPECT_TRUE(shown.back().scalars.contains("tokens_per_second"));
  }
}

TEST_F(TensorBoardLogTest, AfterKillStepsThatAreRepeatedAreShownOnce) {
  Open(false);
  TrainingJob job = TinyTraining("killed", 150'000);
  job.training.checkpoint_steps = 40;
  const std::string id = server_->queue->SubmitTraining(job, "")->id;
  Close();
  RunUntilKilled(dir_ / "data", id, "progress >= 0.5");
  Open();
  ASSERT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  const std::vector<Event> shown = Shown("killed-" + id);
  ASSERT_FALSE(shown.empty());
  EXPECT_TRUE(std::is_sorted(shown.begin(), shown.end(),
                             [](const Event& a, const Event& b) { return a.step < b.step; }));
  EXPECT_EQ(shown.back().step, server_->queue->Metrics(id, 100000)->back().step);
}

TEST_F(TensorBoardLogTest, StepsThatARunRepeatsAreShownOnce) {
  Open(false);
  JobRow job;
  job.id = "j";
  job.kind = kTrainingKind;
  job.target = "sae:s";
  TensorBoardLog log(*server_->catalog, job);
  const auto point = [](uint64_t step, double loss) {
    return MetricRow{step, step * 10, {{"loss", loss}}};
  };
  log.Write({point(10, 1), point(20, 2), point(30, 3)});
  log.Write({point(20, 4), point(40, 5)});
  std::vector<uint64_t> steps;
  std::vector<float> losses;
  for (const Event& event : Shown("s-j")) {
    steps.push_back(event.step);
    losses.push_back(event.scalars.at("loss"));
  }
  EXPECT_THAT(steps, ElementsAre(10, 20, 40));
  EXPECT_THAT(losses, ElementsAre(1, 4, 5));
}

TEST_F(TensorBoardLogTest, WhereNothingCanBeWrittenTheJobRunsOn) {
  Open(false);
  std::filesystem::remove_all(Root());
  ASSERT_TRUE(WriteFileAtomically(Root(), "in the way").ok());
  server_->Start();
  const std::string id = server_->queue->SubmitTraining(TinyTraining("new"), "")->id;
  EXPECT_EQ(server_->AwaitEnd(id).state, JobState::kSucceeded);
  EXPECT_FALSE(server_->queue->Metrics(id, 100)->empty());
}

}  // namespace
}  // namespace featurescope
