#include "server/index/queries.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/index/support.h"

namespace featurescope {
namespace {

TEST(CutWindowTest, KeepsTheCentreInItsPlace) {
  ExampleRow full;
  full.position = 7;
  full.window_start = 3;
  for (uint32_t i = 0; i < 10; ++i) {
    full.tokens.push_back(100 + i);
    full.acts.push_back(static_cast<float>(i));
  }
  for (uint32_t window : {1u, 2u, 4u, 5u, 6u, 100u, 0xffffffffu}) {
    ExampleRow cut = full;
    CutWindow(window, &cut);
    ASSERT_EQ(cut.tokens.size(), cut.acts.size());
    const uint32_t centre = cut.position - cut.window_start;
    EXPECT_EQ(cut.tokens[centre], 104u);
    EXPECT_EQ(cut.acts[centre], 4);
    EXPECT_EQ(centre, std::min(4u, window));
    EXPECT_EQ(cut.tokens.size() - centre - 1, std::min(5u, window));
  }
}

class ListExamplesTest : public IndexingTest {
 protected:
  std::shared_ptr<const IndexReader> MakeIndex() {
    const absl::Status status =
        RunIndexing(MakeInputs("standard"), IndexSpec(), run_, dir_ / "index.db");
    EXPECT_TRUE(status.ok()) << status;
    auto index = IndexReader::Open(dir_ / "index.db");
    EXPECT_TRUE(index.ok()) << index.status();
    return index.ok() ? *index : nullptr;
  }
};

TEST_F(ListExamplesTest, TheStrongestComeFirstInTheAskedWindow) {
  const auto index = MakeIndex();
  ASSERT_NE(index, nullptr);
  ExampleQuery query;
  query.feature = 0;
  query.window = 3;
  query.page_size = 4;
  const auto examples = ListExamples(*index, query);
  ASSERT_TRUE(examples.ok()) << examples.status();
  ASSERT_EQ(examples->size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const IndexedExample& e = (*examples)[i];
    EXPECT_LE(e.example.tokens.size(), 7u);
    EXPECT_EQ(e.example.acts[e.example.position - e.example.window_start], e.example.activation);
    EXPECT_EQ(e.band.high, (*examples)[0].example.activation);
    if (i > 0) {
      EXPECT_LE(e.example.activation, (*examples)[i - 1].example.activation);
    }
  }
}

TEST_F(ListExamplesTest, BandsComeHighestFirstWithTheirBounds) {
  const auto index = MakeIndex();
  ASSERT_NE(index, nullptr);
  ExampleQuery query;
  query.bands = true;
  query.page_size = 2;
  const auto examples = ListExamples(*index, query);
  ASSERT_TRUE(examples.ok()) << examples.status();
  ASSERT_GT(examples->size(), 5u);
  uint32_t last = 1;
  for (const IndexedExample& e : *examples) {
    EXPECT_GE(e.example.band, last);
    last = e.example.band;
    EXPECT_GE(e.example.activation, e.band.low);
    EXPECT_LE(e.example.activation, e.band.high);
    EXPECT_GT(e.band.share, 0);
  }
}

TEST_F(ListExamplesTest, DeadFeaturesHaveNone) {
  const auto index = MakeIndex();
  ASSERT_NE(index, nullptr);
  ExampleQuery query;
  query.feature = 95;
  EXPECT_TRUE(ListExamples(*index, query)->empty());
  query.bands = true;
  EXPECT_TRUE(ListExamples(*index, query)->empty());
}

TEST_F(ListExamplesTest, WhatIsOutOfRangeIsRefused) {
  const auto index = MakeIndex();
  ASSERT_NE(index, nullptr);
  ExampleQuery query;
  query.feature = 96;
  EXPECT_EQ(ListExamples(*index, query).status().code(), absl::StatusCode::kOutOfRange);
  query.feature = 0;
  query.page_size = 0;
  EXPECT_EQ(ListExamples(*index, query).status().code(), absl::StatusCode::kInvalidArgument);
  query.page_size = 101;
  EXPECT_EQ(ListExamples(*index, query).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace featurescope
