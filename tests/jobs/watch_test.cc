#include "server/jobs/watch.h"

#include <gtest/gtest.h>

#include <thread>

namespace featurescope {
namespace {

JobRow Job(const std::string& id, JobState state, double progress = 0) {
  JobRow row;
  row.id = id, row.state = state, row.progress = progress;
  return row;
}

absl::StatusOr<std::optional<JobEvent>> Next(JobWatcher& watcher) {
  return watcher.WaitNext(CancelToken(), absl::ZeroDuration());
}

TEST(JobWatchersTest, ASlowWatcherGetsTheLatestStateOnce) {
  JobWatchers watchers;
  const auto watcher = watchers.Watch({}, {Job("a", JobState::kQueued)});
  for (int i = 0; i < 100; ++i) watchers.Publish(Job("a", JobState::kRunning, i / 100.0));
  const auto event = Next(*watcher);
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->job->progress, 0.99);
  EXPECT_FALSE(Next(*watcher)->has_value());
}

TEST(JobWatchersTest, TheEndComesBehindTheMetrics) {
  JobWatchers watchers;
  const auto watcher = watchers.Watch({{"a"}, true}, {});
  watchers.Publish(Job("a", JobState::kRunning));
  watchers.Publish("a", {MetricRow{1, 1, {}}});
  watchers.Publish("b", {MetricRow{1, 1, {}}});
  watchers.Publish(Job("b", JobState::kRunning));
  watchers.Publish(Job("a", JobState::kSucceeded));
  EXPECT_TRUE((*Next(*watcher))->metrics.has_value());
  EXPECT_EQ((*Next(*watcher))->job->state, JobState::kSucceeded);
  EXPECT_FALSE(Next(*watcher)->has_value());
}

TEST(JobWatchersTest, MetricsKeepTheLatestPointsOnly) {
  JobWatchers watchers;
  const auto watcher = watchers.Watch({{}, true}, {});
  for (uint64_t step = 0; step < 3 * JobWatcher::kMaxPoints; ++step) {
    watchers.Publish("a", {MetricRow{step, 0, {}}});
  }
  const auto event = Next(*watcher);
  ASSERT_EQ((*event)->metrics->points.size(), JobWatcher::kMaxPoints);
  EXPECT_EQ((*event)->metrics->points.back().step, 3 * JobWatcher::kMaxPoints - 1);
}

TEST(JobWatchersTest, WaitingEndsByEventTimeoutCancelAndClose) {
  JobWatchers watchers;
  const auto watcher = watchers.Watch({}, {});
  EXPECT_FALSE(watcher->WaitNext(CancelToken(), absl::Milliseconds(1))->has_value());
  const CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(watcher->WaitNext(cancel, absl::Seconds(60)).status()));
  std::thread publisher([&] { watchers.Publish(Job("a", JobState::kQueued)); });
  EXPECT_TRUE(watcher->WaitNext(CancelToken(), absl::Seconds(60))->has_value());
  publisher.join();
  watchers.Close();
  EXPECT_TRUE(absl::IsUnavailable(watcher->WaitNext(CancelToken(), absl::Seconds(60)).status()));
}

}  // namespace
}  // namespace featurescope
