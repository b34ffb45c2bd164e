#include "server/service/request_pool.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

TEST(RequestPoolTest, RefusesAtOnceWhenThreadsAndQueueAreFull) {
  RequestPool pool("calls", 2, 1);
  absl::Notification release;
  absl::Notification started[2];
  for (auto& notification : started) {
    ASSERT_TRUE(pool.Submit([&] {
                      notification.Notify();
                      release.WaitForNotification();
                    })
                    .ok());
  }
  for (auto& notification : started) notification.WaitForNotification();
  std::atomic<bool> ran{false};
  ASSERT_TRUE(pool.Submit([&] { ran = true; }).ok());
  const absl::Status refused = pool.Submit([] {});
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pool.in_flight(), 3u);
  release.Notify();
  EXPECT_TRUE(pool.Drain(absl::Seconds(30)));
  EXPECT_TRUE(ran);
}

TEST(RequestPoolTest, DrainRefusesNewBodiesAndSaysWhenItGaveUp) {
  RequestPool pool("calls", 1, 0);
  absl::Notification release;
  ASSERT_TRUE(pool.Submit([&] { release.WaitForNotification(); }).ok());
  EXPECT_FALSE(pool.Drain(absl::Milliseconds(5)));
  EXPECT_EQ(pool.Submit([] {}).code(), absl::StatusCode::kUnavailable);
  release.Notify();
  EXPECT_TRUE(pool.Drain(absl::Seconds(30)));
}

TEST(RequestPoolTest, DestructionWaitsForWhatWasAccepted) {
  std::atomic<int> ran{0};
  {
    RequestPool pool("calls", 2, 100);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(pool.Submit([&] { ++ran; }).ok());
  }
  EXPECT_EQ(ran, 50);
}

}  // namespace
}  // namespace featurescope
