#include "server/engine/byte_budget.h"

#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST(ByteBudgetTest, RefusesWhatIsNotLeftAndTakesBackWhatGoes) {
  ByteBudget budget(100);
  auto first = budget.Reserve(60, "a cache");
  ASSERT_TRUE(first.ok());
  const auto second = budget.Reserve(50, "a cache");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("a cache needs 50 bytes, others hold 60 of 100"));
  {
    const ByteBudget::Reservation moved = *std::move(first);
    EXPECT_EQ(budget.used(), 60u);
    EXPECT_TRUE(budget.Reserve(40, "a cache").ok());
  }
  EXPECT_EQ(budget.used(), 0u);
}

TEST(ByteBudgetTest, RefusesMoreThanThereIsAtAll) {
  ByteBudget budget(100);
  EXPECT_FALSE(budget.Reserve(101, "a cache").ok());
  EXPECT_FALSE(budget.Reserve(std::numeric_limits<uint64_t>::max(), "a cache").ok());
  EXPECT_TRUE(budget.Reserve(100, "a cache").ok());
}

TEST(ByteBudgetTest, AReservationMayOutliveItsBudget) {
  std::optional<ByteBudget::Reservation> reservation;
  {
    ByteBudget budget(10);
    reservation = *budget.Reserve(5, "a cache");
  }
  reservation.reset();
}

TEST(ByteBudgetTest, ManyThreadsNeverHoldMoreThanTheLimit) {
  ByteBudget budget(10);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&budget] {
      for (int i = 0; i < 500; ++i) {
        const auto reservation = budget.Reserve(4, "a cache");
        EXPECT_LE(budget.used(), 10u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace featurescope
