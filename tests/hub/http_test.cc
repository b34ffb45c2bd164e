#include "server/hub/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/hub/http_test_server.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

HttpRequest To(const std::string& url) {
  HttpRequest request;
  request.url = url;
  return request;
}

TestReply Redirect(const std::string& location) { return {302, {{"Location", location}}, "gone"}; }

TEST(HttpOriginTest, IsSchemeHostAndPort) {
  const auto origin = HttpOrigin::Of("HTTPS://HuggingFace.co/a/b?c");
  ASSERT_TRUE(origin.ok()) << origin.status();
  EXPECT_EQ(*origin, *HttpOrigin::Of("https://huggingface.co:443"));
  EXPECT_NE(*origin, *HttpOrigin::Of("http://huggingface.co:443"));
  EXPECT_NE(*origin, *HttpOrigin::Of("https://huggingface.co.evil.org"));
  EXPECT_NE(*origin, *HttpOrigin::Of("https://huggingface.co:8443"));
}

TEST(HttpTest, EncodesWhatAnAddressCannotHold) {
  EXPECT_EQ(PercentEncode("a b/c#d?e%f:v1", "/"), "a%20b/c%23d%3Fe%25f%3Av1");
  EXPECT_EQ(PercentEncode("refs/pr/1"), "refs%2Fpr%2F1");
  EXPECT_EQ(PercentEncode("\xc3\xbc"), "%C3%BC");
}

TEST(HttpTest, FollowsRedirectsAndRemembersThem) {
  HttpTestServer far([](const TestRequest&) -> TestReply { return {200, {}, "content"}; });
  HttpTestServer near([&](const TestRequest& request) -> TestReply {
    if (request.target == "/a") return {307, {{"Location", "/b"}, {"X-Mark", "1"}}, ""};
    return Redirect(far.origin() + "/c?sig=1");
  });
  HttpSession session({});
  HttpRequest request = To(near.origin() + "/a");
  request.token = "secret";
  const auto response = session.Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "content");
  ASSERT_THAT(response->redirects, SizeIs(2));
  EXPECT_EQ(*response->redirects[0].Find("x-mark"), "1");
  for (const TestRequest& seen : near.requests()) {
    EXPECT_EQ(seen.Header("authorization"), "Bearer secret");
  }
  ASSERT_THAT(far.requests(), SizeIs(1));
  EXPECT_EQ(far.requests()[0].Header("authorization"), "");
}

TEST(HttpTest, ATokenDoesNotComeBackAfterADetourElsewhereOnAnotherPort) {
  HttpTestServer* back = nullptr;
  HttpTestServer far([&](const TestRequest&) { return Redirect(back->origin() + "/end"); });
  HttpTestServer near([&](const TestRequest& request) -> TestReply {
    if (request.target == "/end") return {200, {}, ""};
    return Redirect(far.origin() + "/x");
  });
  back = &near;
  HttpSession session({});
  HttpRequest request = To(near.origin() + "/start");
  request.token = "secret";
  ASSERT_TRUE(session.Send(request).ok());
  ASSERT_THAT(far.requests(), SizeIs(1));
  EXPECT_EQ(far.requests()[0].Header("authorization"), "");
}

TEST(HttpTest, StaysWithTheOriginWhenAsked) {
  HttpTestServer far([](const TestRequest&) -> TestReply { return {200, {}, "content"}; });
  HttpTestServer near([&](const TestRequest&) { return Redirect(far.origin() + "/c"); });
  HttpSession session({});
  HttpRequest request = To(near.origin());
  request.leave_origin = false;
  request.head = true;
  const auto response = session.Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 302);
  EXPECT_THAT(far.requests(), IsEmpty());
}

TEST(HttpTest, RedirectsThatLeadNowhereAreErrors) {
  std::string location;
  HttpTestServer server([&](const TestRequest&) { return Redirect(location); });
  HttpSession session({});
  for (const char* bad :
       {"/again", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "gopher:x"}) {
    location = bad;
    EXPECT_EQ(session.Send(To(server.origin())).status().code(),
              absl::StatusCode::kFailedPrecondition)
        << bad;
  }
}

TEST(HttpTest, ABodyBeyondItsLimitIsAnErrorButAnErrorPageIsCut) {
  int status = 200;
  HttpTestServer server([&](const TestRequest&) -> TestReply {
    return {status, {}, std::string(1 << 20, 'x')};
  });
  HttpSession session({});
  HttpRequest request = To(server.origin());
  request.max_body_bytes = 1000;
  EXPECT_EQ(session.Send(request).status().code(), absl::StatusCode::kResourceExhausted);
  status = 404;
  const auto page = session.Send(request);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->status, 404);
  EXPECT_LE(page->body.size(), 1000u);
}

TEST(HttpTest, AnEndlessHeaderIsAnError) {
  HttpTestServer server([](const TestRequest&) -> TestReply {
    TestReply reply;
    for (int i = 0; i < 40; ++i) reply.headers.push_back({"X-Long", std::string(8000, 'x')});
    return reply;
  });
  HttpSession session({});
  EXPECT_EQ(session.Send(To(server.origin())).status().code(), absl::StatusCode::kUnavailable);
}

TEST(HttpTest, ABodyCutShortIsWorthAnotherTry) {
  HttpTestServer server([](const TestRequest&) -> TestReply {
    TestReply reply{200, {}, std::string(1000, 'x')};
    reply.break_after = 10;
    return reply;
  });
  HttpSession session({});
  EXPECT_EQ(session.Send(To(server.origin())).status().code(), absl::StatusCode::kUnavailable);
}

TEST(HttpTest, NoServerIsUnavailableAndNoSecretIsShown) {
  HttpSession session({});
  const absl::Status status = session.Send(To("http://127.0.0.1:1/x?sig=secret")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("http://127.0.0.1:1/x"), Not(HasSubstr("secret"))));
}

TEST(HttpTest, ErrorsOfTheReceiverEndTheExchange) {
  HttpTestServer server([](const TestRequest&) -> TestReply {
    return {200, {}, std::string(1 << 20, 'x')};
  });
  HttpSession session({});
  HttpRequest request = To(server.origin());
  request.on_body = [](absl::string_view) { return absl::ResourceExhaustedError("disk full"); };
  EXPECT_EQ(session.Send(request).status(), absl::ResourceExhaustedError("disk full"));
  std::string got;
  request.on_body = [&](absl::string_view bytes) {
    got.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  };
  ASSERT_TRUE(session.Send(request).ok());  // the session is still good
  EXPECT_EQ(got.size(), size_t{1} << 20);
}

TEST(HttpTest, ConnectionsAreKept) {
  HttpTestServer server([](const TestRequest&) -> TestReply { return {200, {}, "x"}; });
  HttpSession session({});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(session.Send(To(server.origin())).ok());
  EXPECT_THAT(server.requests(), SizeIs(3));
}

TEST(HttpTest, GoesThroughTheProxyOfTheEnvironment) {
  HttpTestServer proxy([](const TestRequest&) -> TestReply { return {200, {}, "by proxy"}; });
  ::setenv("http_proxy", proxy.origin().c_str(), 1);
  HttpSession session({});
  const auto response = session.Send(To("http://hub.invalid/x"));
  ::unsetenv("http_proxy");
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "by proxy");
  ASSERT_THAT(proxy.requests(), SizeIs(1));
  EXPECT_EQ(proxy.requests()[0].target, "http://hub.invalid/x");
}

// The other tests talk to the loopback, whatever proxy this machine needs.
const bool kNoProxy = [] {
  for (const char* name : {"http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"}) {
    ::unsetenv(name);
  }
  return true;
}();

}  // namespace
}  // namespace featurescope
