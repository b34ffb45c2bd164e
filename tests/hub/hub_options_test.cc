#include "server/hub/hub_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<HubOptions> From(const std::map<std::string, std::string>& variables) {
  return HubOptions::FromEnvironment([&](absl::string_view name) -> std::optional<std::string> {
    const auto found = variables.find(std::string(name));
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

TEST(HubOptionsTest, DefaultsAreThoseOfThePythonTools) {
  const auto options = From({{"HOME", "/home/me"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->endpoint, "https://huggingface.co");
  EXPECT_EQ(options->cache_dir, "/home/me/.cache/huggingface/hub");
  EXPECT_EQ(options->token, "");
  EXPECT_FALSE(options->offline);
}

TEST(HubOptionsTest, EveryVariableMovesTheCacheAsItShould) {
  EXPECT_EQ(From({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}})->cache_dir, "/x/huggingface/hub");
  EXPECT_EQ(From({{"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "/hf"}})->cache_dir, "/hf/hub");
  EXPECT_EQ(From({{"HOME", "/h"}, {"HF_HOME", "~/hf"}})->cache_dir, "/h/hf/hub");
  EXPECT_EQ(From({{"HF_HOME", "/hf"}, {"HF_HUB_CACHE", "/c"}})->cache_dir, "/c");
  EXPECT_EQ(From({}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(HubOptionsTest, TheTokenComesFromTheVariableElseTheFile) {
  TempDir home;
  std::ofstream(home / "token") << "hf_file\n";
  auto options = From({{"HF_HOME", home.path()}});
  EXPECT_EQ(options->token, "hf_file");
  EXPECT_EQ(options->token_source, home / "token");
  options = From({{"HF_HOME", home.path()}, {"HF_TOKEN", " hf_variable "}});
  EXPECT_EQ(options->token, "hf_variable");
  EXPECT_EQ(options->token_source, "HF_TOKEN");
  std::ofstream(home / "elsewhere") << "hf_elsewhere";
  options = From({{"HF_HOME", home.path()}, {"HF_TOKEN_PATH", home / "elsewhere"}});
  EXPECT_EQ(options->token, "hf_elsewhere");
}

TEST(HubOptionsTest, ATokenThatWouldBreakTheHeaderIsRefusedWithoutShowingIt) {
  const auto options = From({{"HF_HOME", "/hf"}, {"HF_TOKEN", "hf_x\r\nEvil: 1"}});
  EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(options.status().message()), Not(HasSubstr("hf_x")));
}

TEST(HubOptionsTest, TheEndpointIsAnHttpAddress) {
  EXPECT_EQ(From({{"HF_HOME", "/hf"}, {"HF_ENDPOINT", "https://mirror.org/hub/"}})->endpoint,
            "https://mirror.org/hub");
  for (const char* bad :
       {"mirror", "ftp://mirror.org", "file:///etc", "https://me:pw@mirror.org"}) {
    EXPECT_EQ(From({{"HF_HOME", "/hf"}, {"HF_ENDPOINT", bad}}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST(HubOptionsTest, OfflineIsOneOfTheUsualWords) {
  for (const char* yes : {"1", "ON", "yes", "True"}) {
    EXPECT_TRUE(From({{"HF_HOME", "/hf"}, {"HF_HUB_OFFLINE", yes}})->offline) << yes;
  }
  for (const char* no : {"", "0", "off", "no"}) {
    EXPECT_FALSE(From({{"HF_HOME", "/hf"}, {"HF_HUB_OFFLINE", no}})->offline) << no;
  }
}

}  // namespace
}  // namespace featurescope
