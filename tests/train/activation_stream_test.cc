#include "server/train/activation_stream.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "server/train/shuffle.h"
#include "tests/train/training_fixture.h"

namespace featurescope {
namespace {

TEST(PermutationTest, VisitsEveryPlaceOnce) {
  for (uint64_t n : {1, 2, 3, 5, 64, 100, 1000}) {
    const Permutation permutation(n, 42);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < n; ++i) seen.insert(permutation(i));
    EXPECT_EQ(seen.size(), n);
    EXPECT_EQ(*seen.rbegin(), n - 1);
  }
}

TEST(PermutationTest, DependsOnTheSeed) {
  const Permutation a(1000, 1);
  const Permutation b(1000, 2);
  int equal = 0;
  for (uint64_t i = 0; i < 1000; ++i) equal += static_cast<int>(a(i) == b(i));
  EXPECT_LT(equal, 20);
}

class ActivationStreamTest : public testing::Test {
 protected:
  ActivationStreamTest()
      : inputs_(TinyInputs(directory_ / "corpus")), spec_(Resolve(TinySpec(), inputs_).value()) {}

  void Fill(ActivationStream& stream, uint64_t block) {
    stream.BeginBlock(block);
    while (true) {
      const absl::StatusOr<bool> full = stream.FillSome(CancelToken());
      ASSERT_TRUE(full.ok()) << full.status();
      if (*full) return;
    }
  }
  torch::Tensor Batch(const ActivationStream& stream, int64_t i, double scale = 1) {
    torch::Tensor out = torch::empty({spec_.batch_size, stream.widths()[0]});
    stream.CopyBatch(i, 0, InputScaling::kNone, scale, out);
    return out;
  }

  TempDir directory_;
  TrainingInputs inputs_;
  TrainingSpec spec_;
};

TEST_F(ActivationStreamTest, ABlockDependsOnItsNumberAlone) {
  auto through = ActivationStream::Create(inputs_, {inputs_.hook}, spec_).value();
  for (uint64_t block = 0; block <= 7; ++block) Fill(*through, block);
  auto straight = ActivationStream::Create(inputs_, {inputs_.hook}, spec_).value();
  Fill(*straight, 7);
  ASSERT_GE(straight->n_batches(), 4);
  EXPECT_TRUE(torch::equal(Batch(*through, 2), Batch(*straight, 2)));
  Fill(*straight, 6);
  EXPECT_FALSE(torch::equal(Batch(*through, 2), Batch(*straight, 2)));
}

TEST_F(ActivationStreamTest, RowsOfABlockAreDistinctAndScaled) {
  auto stream = ActivationStream::Create(inputs_, {inputs_.hook}, spec_).value();
  Fill(*stream, 0);
  const torch::Tensor both = torch::cat({Batch(*stream, 0), Batch(*stream, 1)});
  const torch::Tensor distances = torch::cdist(both, both) + 1e3 * torch::eye(both.size(0));
  EXPECT_GT(distances.min().item<float>(), 1e-4);
  EXPECT_TRUE(torch::allclose(Batch(*stream, 1, 2.5), 2.5 * Batch(*stream, 1)));
}

TEST_F(ActivationStreamTest, SpecialTokensAreLeftOut) {
  // Only ids below 10 are kept.
  for (uint32_t id = 10; id < inputs_.model->config().d_vocab; ++id) {
    inputs_.special_tokens.push_back(id);
  }
  auto stream = ActivationStream::Create(inputs_, {inputs_.hook}, spec_).value();
  stream->BeginBlock(0);
  absl::StatusOr<bool> full = false;
  while (full.ok() && !*full) full = stream->FillSome(CancelToken());
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.status().code(), absl::StatusCode::kFailedPrecondition) << full.status();
}

TEST(SpecTest, RefusalsNameTheField) {
  TempDir directory;
  const TrainingInputs inputs = TinyInputs(directory / "corpus");
  const auto message = [&](void (*change)(TrainingSpec&)) {
    TrainingSpec spec = TinySpec();
    change(spec);
    return std::string(Resolve(spec, inputs).status().message());
  };
  EXPECT_NE(message([](TrainingSpec& s) { s.k = 97; }).find("k is 97, out of range [1, 96]"),
            std::string::npos);
  EXPECT_NE(message([](TrainingSpec& s) { s.d_sae = 0; }).find("d_sae"), std::string::npos);
  EXPECT_NE(message([](TrainingSpec& s) { s.tokens = 0; }).find("tokens"), std::string::npos);
  EXPECT_NE(message([](TrainingSpec& s) { s.learning_rate = -1; }).find("learning_rate"),
            std::string::npos);
  EXPECT_NE(message([](TrainingSpec& s) { s.clip_norm = std::nan(""); }).find("clip_norm"),
            std::string::npos);
  EXPECT_NE(message([](TrainingSpec& s) { s.buffer_tokens = 31; }).find("buffer_tokens"),
            std::string::npos);
  EXPECT_NE(message([](TrainingSpec& s) { s.architecture = "groupmax"; }).find("groupmax"),
            std::string::npos);
  TrainingInputs other = inputs;
  other.hook = HookPoint::Parse("blocks.7.hook_resid_post").value();
  EXPECT_NE(std::string(Resolve(TinySpec(), other).status().message()).find("hook_name"),
            std::string::npos);
}

TEST(SpecTest, DefaultsFollowTheDocumentation) {
  TempDir directory;
  const TrainingInputs inputs = TinyInputs(directory / "corpus");
  TrainingSpec spec;
  spec.d_sae = 16384;
  spec.k = 32;
  spec.tokens = 100'000'000;
  const TrainingSpec resolved = Resolve(spec, inputs).value();
  EXPECT_EQ(resolved.batch_size, 4096);
  EXPECT_EQ(TotalSteps(resolved), 24415);
  EXPECT_DOUBLE_EQ(resolved.learning_rate, 2e-4);
  EXPECT_EQ(*resolved.lr_warmup_steps, 1000);
  EXPECT_EQ(*resolved.lr_decay_steps, 4883);
  EXPECT_EQ(resolved.k_aux, 24);
  EXPECT_EQ(resolved.dead_after_tokens, 10'000'000u);
  EXPECT_EQ(resolved.buffer_tokens, 64u * 4096u);
  EXPECT_GT(TrainingMemoryBytes(resolved, 48), 4u * 48u * 64u * 4096u);
}

}  // namespace
}  // namespace featurescope
