#include "server/hub/hub_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace featurescope {
namespace {

using ::testing::HasSubstr;

TEST(HubFilesTest, ParsesRepositoriesWithAndWithoutRevision) {
  const auto plain = HubRepo::Parse("openai-community/gpt2");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->repo, "openai-community/gpt2");
  EXPECT_EQ(plain->revision, "main");
  const auto pinned = HubRepo::Parse("EleutherAI/pythia-70m@step143000");
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_EQ(pinned->revision, "step143000");
  EXPECT_EQ(HubRepo::Parse("gpt2")->repo, "gpt2");
  EXPECT_EQ(HubRepo::Parse("a/b@refs/pr/3")->revision, "refs/pr/3");
}

TEST(HubFilesTest, RefusesNamesThatLeadElsewhere) {
  for (const char* bad :
       {"", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a/b--c", "a/b c", ".a/b", "a/b?x", "a/b#x",
        "a/b%2f", "https://x/y", "a/b@", "a/b@../x", "a/b@x y"}) {
    const auto parsed = HubRepo::Parse(bad);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(HubFilesTest, AcceptsThePathsOfPublishedRepositories) {
  for (const char* good :
       {"config.json", "layer_12/width_16k/average_l0_82/params.npz",
        "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1/cfg.json", "a b/ü.txt", "...", "a/..b"}) {
    EXPECT_TRUE(CheckHubPath(good).ok()) << good;
  }
}

TEST(HubFilesTest, RefusesPathsThatLeaveTheirDirectory) {
  for (const std::string& bad : std::vector<std::string>{
           "", "/etc/passwd", "..", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\\..\\b", "a\nb",
           std::string("a\0b", 3), std::string(2000, 'a'), std::string(300, 'a') + "/b"}) {
    EXPECT_EQ(CheckHubPath(bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_THAT(std::string(CheckHubPath("../../etc/passwd").message()),
              HasSubstr("\"../../etc/passwd\""));
}

TEST(HubFilesTest, ReadsTheHashInAnEtag) {
  const std::string hash(40, 'a');
  EXPECT_EQ(NormalizeEtag("\"" + hash + "\""), hash);
  EXPECT_EQ(NormalizeEtag("W/\"" + hash + "\""), hash);
  EXPECT_EQ(NormalizeEtag(hash), hash);
  EXPECT_TRUE(IsContentHash(hash));
  EXPECT_TRUE(IsContentHash(std::string(64, '0')));
  EXPECT_FALSE(IsContentHash(std::string(41, '0')));
  EXPECT_FALSE(IsContentHash("../../../../../../../../../../../../../x"));
  EXPECT_FALSE(IsCommitHash(std::string(64, '0')));
}

}  // namespace
}  // namespace featurescope
