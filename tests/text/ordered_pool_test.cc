#include "server/text/ordered_pool.h"

#include <atomic>
#include <memory>
#include <random>

#include "gtest/gtest.h"

namespace featurescope {
namespace {

TEST(OrderedPoolTest, ResultsComeInTheOrderOfTheWork) {
  for (int n_threads : {0, 1, 2, 8}) {
    OrderedPool<std::unique_ptr<int>, std::unique_ptr<int>> pool(
        n_threads, [](std::unique_ptr<int> in) {
          if (*in % 7 == 0) std::this_thread::yield();
          return std::make_unique<int>(*in * 2);
        });
    std::mt19937 random(5);
    int pushed = 0;
    int popped = 0;
    while (popped < 5000) {
      if (pool.size() == 0 || (random() % 2 == 0 && pool.size() < 50)) {
        pool.Push(std::make_unique<int>(pushed++));
      } else {
        ASSERT_EQ(*pool.Pop(), 2 * popped++);
      }
      ASSERT_EQ(pool.size(), static_cast<size_t>(pushed - popped));
    }
  }
}

TEST(OrderedPoolTest, WhatIsNotPoppedIsDropped) {
  std::atomic<int> n_done = 0;
  for (int round = 0; round < 50; ++round) {
    OrderedPool<int, int> pool(3, [&n_done](int in) {
      ++n_done;
      return in;
    });
    for (int i = 0; i < 100; ++i) pool.Push(i);
    if (round % 2 == 0) {
      EXPECT_EQ(pool.Pop(), 0);
    }
  }
  EXPECT_GE(n_done, 25);
  EXPECT_LE(n_done, 5000);
}

}  // namespace
}  // namespace featurescope
