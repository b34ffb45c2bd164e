#include "server/index/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/index/synthetic.h"

namespace featurescope {
namespace {

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : path_(testing::TempDir() + "/index_checkpoint"), state_(12, {}) {
    std::filesystem::remove(path_);
    state_.next_context = 40;
    state_.tokens_done = 1234;
    state_.seconds = 5.5;
    state_.reconstruction.n_tokens = 7;
    state_.reconstruction.inputs = {1, 2, 3};
    state_.features = Accumulate(MakeCorpus(), {}, 0, 40, 3);
  }
  ~CheckpointTest() override { std::filesystem::remove(path_); }

  std::string path_;
  IndexingState state_;
};

TEST_F(CheckpointTest, ComesBackUnchanged) {
  ASSERT_TRUE(SaveIndexingState(path_, "print", state_).ok());
  IndexingState back(12, {});
  const absl::Status status = LoadIndexingState(path_, "print", &back);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(back.next_context, 40u);
  EXPECT_EQ(back.tokens_done, 1234u);
  EXPECT_EQ(back.seconds, 5.5);
  EXPECT_EQ(back.reconstruction.n_tokens, 7u);
  EXPECT_EQ(back.reconstruction.inputs, state_.reconstruction.inputs);
  EXPECT_EQ(back.features.n_activations(), state_.features.n_activations());
  EXPECT_EQ(back.features.feature(2)->samples, state_.features.feature(2)->samples);
}

TEST_F(CheckpointTest, OfSomethingElseIsNotTaken) {
  IndexingState back(12, {});
  EXPECT_EQ(LoadIndexingState(path_, "print", &back).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(SaveIndexingState(path_, "print", state_).ok());
  EXPECT_EQ(LoadIndexingState(path_, "other", &back).code(), absl::StatusCode::kFailedPrecondition);
  IndexingState narrow(11, {});
  EXPECT_EQ(LoadIndexingState(path_, "print", &narrow).code(), absl::StatusCode::kDataLoss);
}

TEST_F(CheckpointTest, CutShortIsDataLoss) {
  ASSERT_TRUE(SaveIndexingState(path_, "print", state_).ok());
  const auto size = std::filesystem::file_size(path_);
  for (uintmax_t n : {size - 1, size / 2, uintmax_t{9}, uintmax_t{0}}) {
    std::filesystem::resize_file(path_, n);
    IndexingState back(12, {});
    EXPECT_EQ(LoadIndexingState(path_, "print", &back).code(), absl::StatusCode::kDataLoss) << n;
  }
}

TEST_F(CheckpointTest, AnUnwritablePlaceIsAnErrorThatNamesIt) {
  const absl::Status status = SaveIndexingState("/nonexistent/dir/checkpoint", "print", state_);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nonexistent/dir/checkpoint"), absl::string_view::npos);
}

}  // namespace
}  // namespace featurescope
