#include "server/gateway/http_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace featurescope {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

TEST(HostTest, LocalNamesAndAddressesAreAnswered) {
  HttpPolicy policy;
  policy.allowed_hosts = {"gpu1.lab"};
  for (absl::string_view good : {"localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080",
                                 "10.1.2.3", "gpu1.lab:80", "GPU1.LAB"}) {
    EXPECT_TRUE(IsAllowedHost(policy, good)) << good;
  }
  for (absl::string_view bad :
       {"", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[", "[]", ":80"}) {
    EXPECT_FALSE(IsAllowedHost(policy, bad)) << bad;
  }
  policy.any_host = true;
  EXPECT_TRUE(IsAllowedHost(policy, "evil.example"));
}

TEST(OriginTest, OnlyExactOriginsAreAllowed) {
  HttpPolicy policy;
  EXPECT_FALSE(IsAllowedOrigin(policy, ""));
  policy.allowed_origins = {"http://localhost:5173"};
  EXPECT_TRUE(IsAllowedOrigin(policy, "http://localhost:5173"));
  EXPECT_FALSE(IsAllowedOrigin(policy, "http://localhost:51730"));
  EXPECT_FALSE(IsAllowedOrigin(policy, "null"));
  EXPECT_TRUE(IsForbiddenCrossSite(policy, "cross-site", "https://evil.example"));
  EXPECT_TRUE(IsForbiddenCrossSite(policy, "cross-site", ""));
  EXPECT_FALSE(IsForbiddenCrossSite(policy, "cross-site", "http://localhost:5173"));
  EXPECT_FALSE(IsForbiddenCrossSite(policy, "same-origin", "http://a"));
  EXPECT_FALSE(IsForbiddenCrossSite(policy, "", ""));
}

TEST(OriginTest, AnswersExposeNamesOnlyToAllowedOrigins) {
  HttpPolicy policy;
  policy.allowed_origins = {"http://a"};
  EXPECT_THAT(CorsHeaders(policy, "http://b", {}), IsEmpty());
  EXPECT_THAT(CorsHeaders(policy, "", {}), IsEmpty());
  const auto headers = CorsHeaders(policy, "http://a", {{"x-init", "1"}});
  EXPECT_THAT(headers, Contains(Pair("Access-Control-Allow-Origin", "http://a")));
  EXPECT_THAT(headers, Contains(Pair("Access-Control-Expose-Headers",
                                     "grpc-status,grpc-message,grpc-status-details-bin,x-init")));
  EXPECT_THAT(headers, Contains(Pair("Vary", "Origin")));
}

TEST(OriginTest, PreflightAllowsOurHeadersOnly) {
  const auto headers = PreflightHeaders("http://a", "x-featurescope-view, x-evil,x-sae-b\r\n");
  EXPECT_THAT(headers, Contains(Pair("Access-Control-Allow-Headers",
                                     HasSubstr("grpc-timeout,authorization"))));
  EXPECT_THAT(headers,
              Contains(Pair("Access-Control-Allow-Headers", HasSubstr(",x-featurescope-view"))));
  EXPECT_THAT(headers, Contains(Pair("Access-Control-Allow-Headers", Not(HasSubstr("x-evil")))));
  EXPECT_THAT(headers, Contains(Pair("Access-Control-Max-Age", "7200")));
}

TEST(CallerAddressTest, BelievesOnlyTrustedProxies) {
  HttpPolicy policy;
  EXPECT_EQ(CallerAddress(policy, "10.0.0.9", "1.2.3.4"), "10.0.0.9");
  policy.trusted_proxies = {"10.0.0.9", "10.0.0.8"};
  EXPECT_EQ(CallerAddress(policy, "10.0.0.9", "6.6.6.6, 1.2.3.4"), "1.2.3.4");
  EXPECT_EQ(CallerAddress(policy, "10.0.0.9", "1.2.3.4, 10.0.0.8"), "1.2.3.4");
  EXPECT_EQ(CallerAddress(policy, "10.0.0.9", ""), "10.0.0.9");
  EXPECT_EQ(CallerAddress(policy, "10.0.0.9", "1.2.3.4, not an address"), "10.0.0.9");
  const absl::string_view cut("1.2.3.4\0x", 9);
  EXPECT_EQ(CallerAddress(policy, "10.0.0.9", cut), "10.0.0.9");
}

}  // namespace
}  // namespace featurescope
