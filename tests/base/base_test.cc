#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/bounded_queue.h"
#include "server/base/cancel.h"
#include "server/base/hash.h"
#include "server/base/hook_point.h"
#include "server/base/sha256_block.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

TEST(HookPointTest, EveryKindSurvivesARoundTripThroughItsName) {
  for (int kind = 0; kind <= static_cast<int>(HookKind::kLnFinal); ++kind) {
    HookPoint hook{static_cast<HookKind>(kind), -1};
    if (IsInBlock(hook.kind)) hook.layer = 17;
    absl::StatusOr<HookPoint> parsed = HookPoint::Parse(hook.name());
    ASSERT_TRUE(parsed.ok()) << hook.name();
    EXPECT_EQ(*parsed, hook) << hook.name();
  }
}

TEST(HookPointTest, RefusesWhatIsNoHookPoint) {
  for (absl::string_view name :
       {"", "blocks", "blocks.", "blocks.1", "blocks.1.", "blocks..hook_resid_pre",
        "blocks.x.hook_z", "blocks.-1.hook_resid_pre", "blocks.+1.hook_resid_pre",
        "blocks.99999.hook_resid_pre", "hook_resid_pre", "blocks.0.hook_embed",
        "blocks.0.attn.hook_z ", "Blocks.0.hook_mlp_out"}) {
    EXPECT_EQ(HookPoint::Parse(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(HookPointTest, ExecutionOrderFollowsTheForwardPass) {
  const std::vector<std::string> names = {"hook_embed",
                                          "hook_pos_embed",
                                          "blocks.0.hook_resid_pre",
                                          "blocks.0.attn.hook_z",
                                          "blocks.0.hook_resid_mid",
                                          "blocks.0.hook_resid_post",
                                          "blocks.1.hook_resid_pre",
                                          "blocks.2.hook_mlp_out",
                                          "ln_final.hook_normalized"};
  for (size_t i = 1; i < names.size(); ++i) {
    EXPECT_LT(ExecutionOrder(*HookPoint::Parse(names[i - 1]), 3),
              ExecutionOrder(*HookPoint::Parse(names[i]), 3))
        << names[i];
  }
}

TEST(Sha256Test, AgreesWithTheStandardsVectors) {
  // FIPS 180-4 examples, and a million 'a'.
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  Sha256 sha;
  for (int i = 0; i < 1000; ++i) sha.Update(std::string(1000, 'a'));
  EXPECT_EQ(sha.HexDigest(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, TheProcessorsInstructionsGiveWhatPortableCodeGives) {
  std::string bytes(64 * 9, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(Mix64(i));
  const auto* blocks = reinterpret_cast<const uint8_t*>(bytes.data());
  Sha256State best{1, 2, 3, 4, 5, 6, 7, 0xffffffff};
  Sha256State portable = best;
  BestSha256Compress()(best, blocks, 9);
  CompressPortably(portable, blocks, 9);
  EXPECT_EQ(best, portable);
}

TEST(Sha256Test, DoesNotDependOnHowTheInputIsCut) {
  std::string text;
  for (int i = 0; i < 300; ++i) text.push_back(static_cast<char>(i * 7));
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Sha256 sha;
    sha.Update(absl::string_view(text).substr(0, cut));
    sha.Update(absl::string_view(text).substr(cut));
    ASSERT_EQ(sha.HexDigest(), Sha256Hex(text)) << cut;
  }
}

TEST(CancelTokenTest, CopiesShareOneCancellation) {
  CancelToken token;
  CancelToken copy = token;
  EXPECT_TRUE(copy.Check().ok());
  token.Cancel();
  EXPECT_EQ(copy.Check().code(), absl::StatusCode::kCancelled);
}

TEST(CancelTokenTest, PastDeadlineCountsAsCancelled) {
  EXPECT_EQ(CancelToken(absl::Now() - absl::Seconds(1)).Check().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(CancelToken(absl::Now() + absl::Hours(1)).Check().ok());
}

TEST(BoundedQueueTest, RefusesWhenFullAndKeepsOrder) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), 2);
  EXPECT_EQ(queue.Pop(absl::ZeroDuration()), std::nullopt);
}

TEST(BoundedQueueTest, CloseWakesEveryoneAndLeavesWhatIsInside) {
  BoundedQueue<int> queue(4);
  ASSERT_TRUE(queue.TryPush(7));
  std::vector<std::optional<int>> got(3);
  std::vector<std::thread> threads;
  for (auto& slot : got) threads.emplace_back([&] { slot = queue.Pop(); });
  queue.Close();
  for (auto& t : threads) t.join();
  EXPECT_EQ(std::count(got.begin(), got.end(), std::optional<int>(7)), 1);
  EXPECT_FALSE(queue.TryPush(8));
}

TEST(StatusTest, AnnotateKeepsCodeAndPayload) {
  absl::Status status = InvalidArgument("feature ", 70000, " is out of range [0, 24576)");
  status.SetPayload("u", absl::Cord("p"));
  const absl::Status annotated = Annotate(status, "cfg.json");
  EXPECT_EQ(annotated.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(annotated.message(), "cfg.json: feature 70000 is out of range [0, 24576)");
  EXPECT_EQ(*annotated.GetPayload("u"), "p");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

}  // namespace
}  // namespace featurescope
