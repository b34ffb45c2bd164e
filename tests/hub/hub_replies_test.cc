#include "server/hub/hub_replies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(HubRepliesTest, ReadsATreeWithLargeAndSmallFiles) {
  const std::string sha256(64, 'b'), sha1(40, 'a');
  std::vector<HubFile> files;
  ASSERT_TRUE(
      AppendTree(absl::StrCat(R"([
      {"type": "directory", "oid": "x", "size": 0, "path": "d"},
      {"type": "file", "oid": ")",
                              sha1, R"(", "size": 5, "path": "a.json"},
      {"type": "file", "oid": ")",
                              sha1, R"(", "size": 134, "path": "w.safetensors",
       "lfs": {"oid": ")",
                              sha256, R"(", "size": 500, "pointerSize": 134}, "xetHash": "y"}])"),
                 "hub", &files)
          .ok());
  ASSERT_THAT(files, SizeIs(2));
  EXPECT_EQ(files[0].etag, sha1);
  EXPECT_EQ(files[0].size, 5u);
  EXPECT_EQ(files[1].etag, sha256);
  EXPECT_EQ(files[1].size, 500u);
}

TEST(HubRepliesTest, RefusesWhatIsNoList) {
  for (const char* bad :
       {"", "{}", "[1]", "[{}]", R"([{"type": "file"}])", R"([{"type": "file", "path": 1}])",
        R"([{"type": "file", "path": "a", "size": -1}])",
        R"([{"type": "file", "path": "a", "size": 1e9}])",
        R"([{"type": "file", "path": "../a", "size": 1}])",
        R"([{"type": "file", "path": "a", "size": 1, "lfs": {"size": 1}}])",
        R"([{"type": "file", "path": "a", "size": 9223372036854775807}])"}) {
    std::vector<HubFile> files;
    EXPECT_EQ(AppendTree(bad, "hub", &files).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  std::vector<HubFile> files;
  EXPECT_FALSE(AppendSiblings(R"({"siblings": 1})", "hub", &files).ok());
  EXPECT_FALSE(ParseCommit(R"({"sha": "../../x"})", "hub").ok());
  EXPECT_FALSE(ParseCommit(R"({})", "hub").ok());
}

TEST(HubRepliesTest, AHashThatIsNoneIsLeftOut) {
  std::vector<HubFile> files;
  ASSERT_TRUE(
      AppendTree(R"([{"type": "file", "path": "a", "size": 1, "oid": "../x"}])", "hub", &files)
          .ok());
  EXPECT_EQ(files[0].etag, "");
}

TEST(HubRepliesTest, AnEndlessListIsRefused) {
  std::string page = "[";
  for (int i = 0; i < 50000; ++i) {
    absl::StrAppend(&page, i == 0 ? "" : ",", R"({"type":"file","size":1,"path":")", i, "\"}");
  }
  page += "]";
  std::vector<HubFile> files;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(AppendTree(page, "hub", &files).ok());
  EXPECT_EQ(AppendTree(page, "hub", &files).code(), absl::StatusCode::kResourceExhausted);
}

TEST(HubRepliesTest, FindsTheNextPage) {
  EXPECT_EQ(NextPage(R"(<https://h/a?cursor=x>; rel="next")"), "https://h/a?cursor=x");
  EXPECT_EQ(NextPage(R"(<https://h/0>; rel="first", <https://h/2>; rel="next")"), "https://h/2");
  EXPECT_EQ(NextPage(R"(<https://h/0>; rel="first")"), "");
  EXPECT_EQ(NextPage("> nonsense <; rel=\"next\""), "");
}

TEST(HubRepliesTest, ReadsHowLongToWait) {
  const absl::Time now = absl::FromUnixSeconds(1700000000);
  const auto wait = [&](const std::string& name, const std::string& value) {
    HttpHeaders headers;
    headers.Add(name, value);
    return RetryAfter(headers, now);
  };
  EXPECT_EQ(wait("retry-after", "7"), absl::Seconds(7));
  EXPECT_EQ(wait("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT"), absl::Seconds(10));
  EXPECT_EQ(wait("retry-after", "Tue, 14 Nov 2022 22:13:30 GMT"), absl::ZeroDuration());
  EXPECT_EQ(wait("retry-after", "-3"), absl::ZeroDuration());
  EXPECT_EQ(wait("retry-after", "soon"), absl::ZeroDuration());
  EXPECT_EQ(wait("ratelimit", "\"api\";r=0;t=55"), absl::Seconds(55));
  EXPECT_EQ(wait("other", "5"), absl::ZeroDuration());
}

TEST(HubRepliesTest, ARangeMustBeTheOneAskedFor) {
  const HubFile file = {"w", 100, std::string(64, 'a')};
  const auto check = [&](const std::string& range) {
    HttpAnswer response;
    response.status = 206;
    response.headers.Add("content-range", range);
    return CheckRange(response, 40, file).code();
  };
  EXPECT_EQ(check("bytes 40-99/100"), absl::StatusCode::kOk);
  for (const char* bad : {"bytes 0-99/100", "bytes 40-99/101", "bytes 40-99/*", "40-99/100", "",
                          "bytes 40/100", "bytes x-y/z"}) {
    EXPECT_EQ(check(bad), absl::StatusCode::kDataLoss) << bad;
  }
}

TEST(HubRepliesTest, TheHubsOwnWordsAreShownInOneSafeLine) {
  HttpAnswer response;
  response.body = R"({"error": "bad\n\u001b[31mthing"})";
  const std::string text = ErrorText(response);
  EXPECT_THAT(text, HasSubstr("bad\\n"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  response.body = "<html>";
  EXPECT_EQ(ErrorText(response), "");
}

}  // namespace
}  // namespace featurescope
