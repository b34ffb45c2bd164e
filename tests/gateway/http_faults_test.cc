// What the gateway refuses, and that it keeps serving after it: sizes, slowness, malformed and
// contradictory HTTP, foreign hosts.
#include <chrono>

#include "tests/gateway/gateway_fixture.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class HttpFaultsTest : public GatewayTest {
 protected:
  void ExpectStillServing() {
    EXPECT_THAT(TakeApart(Call("Unary", "alive")).messages, ElementsAre("alive"));
  }
  // The status of a request that must end the connection.
  int RefusalOf(absl::string_view request) {
    RawClient client(port_);
    client.Send(request);
    const RawResponse response = client.ReadResponse();
    EXPECT_EQ(response.headers.count("connection"), 1u) << response.head;
    EXPECT_TRUE(client.AwaitClose());
    return response.status;
  }
};

TEST_F(HttpFaultsTest, OnlyPostIsAllowedOnCalls) {
  Start();
  for (absl::string_view method : {"GET", "PUT", "DELETE", "PATCH"}) {
    const RawResponse response = Exchange(
        port_, absl::StrCat(method, " /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    EXPECT_EQ(response.status, 405) << method;
    EXPECT_EQ(response.headers.at("allow"), "POST, OPTIONS");
  }
  EXPECT_EQ(Exchange(port_, "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 405);
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, OtherContentTypesAre415) {
  Start();
  for (absl::string_view type :
       {"application/json", "application/grpc", "text/plain", "application/grpc-web+json"}) {
    EXPECT_EQ(Exchange(port_, PostRequest("/test.Echo/Unary", Envelope("x"), "", type)).status,
              415);
  }
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, WrongNumberOfMessagesIsStatus12) {
  Start();
  EXPECT_EQ(StatusOf(Exchange(port_, PostRequest("/test.Echo/Unary", ""))), 12);
  EXPECT_EQ(
      StatusOf(Exchange(port_, PostRequest("/test.Echo/Unary", Envelope("a") + Envelope("b")))),
      12);
  EXPECT_EQ(backend_.counts().started, 0);
}

TEST_F(HttpFaultsTest, TruncatedEnvelopeIsStatus3) {
  Start();
  EXPECT_EQ(
      StatusOf(Exchange(port_, PostRequest("/test.Echo/Unary", Envelope("abc").substr(0, 7)))), 3);
}

TEST_F(HttpFaultsTest, MessageSizeLimitIsExact) {
  Start();
  const std::string largest(options_.max_message_bytes, 'x');
  EXPECT_EQ(StatusOf(Call("Unary", largest)), 0);
  EXPECT_EQ(StatusOf(Call("Unary", largest + "x")), 8);
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, OversizeIsStatus8HoweverItIsAnnounced) {
  Start();
  // A length nobody will send: answered at once.
  EXPECT_EQ(StatusOf(Exchange(port_,
                              "POST /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                              "application/grpc-web\r\nContent-Length: 99999999999\r\n\r\nab")),
            8);
  // An envelope that lies.
  EXPECT_EQ(StatusOf(Exchange(
                port_, PostRequest("/test.Echo/Unary", std::string("\0\xff\xff\xff\xff", 5)))),
            8);
  // A chunk.
  EXPECT_EQ(StatusOf(Exchange(port_,
                              "POST /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                              "application/grpc-web\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "7fffffff\r\nab")),
            8);
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, OversizeBodyThatIsReallySentStillGetsItsAnswer) {
  Start();
  const std::string body = Envelope(std::string(8 << 20, 'x'));
  EXPECT_EQ(StatusOf(Exchange(port_, PostRequest("/test.Echo/Unary", body))), 8);
}

TEST_F(HttpFaultsTest, BodiesInMemoryAreBounded) {
  options_.max_buffered_bytes = 100 << 10;
  Start();
  const std::string body = Envelope(std::string(60 << 10, 'x'));
  const std::string request = PostRequest("/test.Echo/Unary", body);
  RawClient first(port_);
  const std::string head = PostRequest("/test.Echo/Unary", body, "Expect: 100-continue\r\n");
  first.Send(head.substr(0, head.size() - body.size()));
  ASSERT_THAT(first.ReadHead(), HasSubstr("100 Continue"));  // its share is taken
  EXPECT_EQ(StatusOf(Exchange(port_, request)), 8);
  first.Send(body);
  EXPECT_EQ(StatusOf(first.ReadResponse()), 0);
  EXPECT_EQ(StatusOf(Exchange(port_, request)), 0);
}

TEST_F(HttpFaultsTest, ContradictoryLengthsAreRefused) {
  Start();
  const std::string head =
      "POST /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web\r\n";
  const std::string smuggled = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
  for (absl::string_view lengths :
       {"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 7\r\n", "Content-Length: 6\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n", "Content-Length: 0x6\r\n", "Content-Length: 6 6\r\n",
        "Content-Length: 99999999999999999999999\r\n", "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n", "Transfer-Encoding: xchunked\r\n"}) {
    EXPECT_EQ(RefusalOf(absl::StrCat(head, lengths, "\r\n", smuggled)), 400) << lengths;
  }
  EXPECT_EQ(backend_.counts().started, 0);
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, BadChunksAreRefused) {
  Start();
  const std::string head =
      "POST /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  for (absl::string_view chunk : {"-2\r\nab\r\n0\r\n\r\n", "zz\r\n", "2\r\nabXX0\r\n\r\n",
                                  "fffffffffffffffff\r\n", "\r\n\r\n"}) {
    EXPECT_EQ(RefusalOf(absl::StrCat(head, chunk)), 400) << chunk;
  }
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, EndlessChunkExtensionsAndTrailersAreRefused) {
  Start();
  const std::string head =
      "POST /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(RefusalOf(head + "1;a=" + std::string(200 << 10, 'b')), 400);
  EXPECT_EQ(RefusalOf(head + "0\r\nX-A: " + std::string(200 << 10, 'b')), 400);
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, GiantHeadsAreRefused) {
  Start();
  EXPECT_EQ(
      RefusalOf(GetRequest("/healthz", absl::StrCat("X-A: ", std::string(70000, 'a'), "\r\n"))),
      431);
  EXPECT_EQ(RefusalOf("GET /" + std::string(100000, 'a')), 431);
  std::string many;
  for (int i = 0; i < 3000; ++i) absl::StrAppend(&many, "X-", i, ": 1\r\n");
  EXPECT_EQ(RefusalOf(GetRequest("/healthz", many)), 431);
  EXPECT_EQ(Exchange(port_,
                     GetRequest("/healthz", absl::StrCat("X-A: ", std::string(15000, 'a'), "\r\n")))
                .status,
            200);
}

TEST_F(HttpFaultsTest, WhatIsNotHttpIsRefused) {
  Start();
  for (absl::string_view request :
       {"hello\r\n\r\n", "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nBad Name: 1\r\n\r\n", "GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"}) {
    EXPECT_EQ(RefusalOf(request), 400) << request;
  }
  ExpectStillServing();
}

TEST_F(HttpFaultsTest, ForeignHostNamesAreNotAnsweredOnLoopback) {
  Start();
  EXPECT_EQ(RefusalOf("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), 421);
}

TEST_F(HttpFaultsTest, SlowHeadAndSlowBodyEndTheConnection) {
  options_.header_timeout = absl::Milliseconds(150);
  options_.body_timeout = absl::Milliseconds(150);
  Start();
  RawClient silent(port_);
  RawClient slow_head(port_);
  slow_head.Send("GET /healthz HTTP/1.1\r\nHost: loc");
  RawClient slow_body(port_);
  const std::string request = PostRequest("/test.Echo/Unary", Envelope("never comes"));
  slow_body.Send(request.substr(0, request.size() - 3));
  EXPECT_TRUE(silent.AwaitClose());
  EXPECT_TRUE(slow_head.AwaitClose());
  EXPECT_TRUE(slow_body.AwaitClose());
  EXPECT_EQ(backend_.counts().started, 0);
  // Still serving; on a loaded machine even an honest head may come too late once.
  const absl::Time deadline = absl::Now() + absl::Minutes(2);
  int status = 0;
  while (status != 200 && absl::Now() < deadline) {
    status = Exchange(port_, GetRequest("/healthz")).status;
  }
  EXPECT_EQ(status, 200);
}

TEST_F(HttpFaultsTest, IdleConnectionsEnd) {
  options_.keep_alive_timeout = absl::Milliseconds(100);
  Start();
  RawClient client(port_);
  client.Send(GetRequest("/healthz"));
  EXPECT_EQ(client.ReadResponse().status, 200);
  EXPECT_TRUE(client.AwaitClose());
}

TEST_F(HttpFaultsTest, ConnectionsPerAddressAreBounded) {
  options_.max_connections_per_address = 3;
  Start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(port_));
    clients.back()->Send(GetRequest("/healthz"));
    EXPECT_EQ(clients.back()->ReadResponse().status, 200);
  }
  EXPECT_EQ(RawClient(port_).ReadResponse().status, 503);
  EXPECT_EQ(gateway_->stats().refused_connections, 1u);
  clients.clear();
  // Their places come free when the server has noticed.
  const absl::Time deadline = absl::Now() + absl::Minutes(2);
  int status = 503;
  while (status != 200 && absl::Now() < deadline) {
    status = Exchange(port_, GetRequest("/healthz")).status;
  }
  EXPECT_EQ(status, 200);
}

TEST_F(HttpFaultsTest, DisconnectsAtEveryByteLeaveNothingBehind) {
  Start();
  const std::string request = PostRequest("/test.Echo/Unary", Envelope("abc"));
  for (size_t n = 0; n < request.size(); n += 3) {
    RawClient client(port_);
    client.Send(request.substr(0, n));
  }
  ExpectStillServing();
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.active == 0; }));
  gateway_->Drain(absl::Minutes(2));
  EXPECT_EQ(gateway_->stats().open_connections, 0u);
}

TEST_F(HttpFaultsTest, HealthMetricsAndPagesAreServed) {
  Start();
  EXPECT_EQ(Exchange(port_, GetRequest("/healthz?x=1")).body, "ok\n");
  const RawResponse metrics = Exchange(port_, GetRequest("/metrics"));
  EXPECT_EQ(metrics.body, "up 1\n");
  EXPECT_THAT(metrics.headers.at("content-type"), HasSubstr("version=0.0.4"));
  const RawResponse page = Exchange(port_, GetRequest("/jobs", "Accept: text/html\r\n"));
  EXPECT_EQ(page.status, 503);
  EXPECT_THAT(page.body, HasSubstr("npm run build"));
  EXPECT_EQ(Exchange(port_, GetRequest("/../../etc/passwd")).status, 404);
}

TEST_F(HttpFaultsTest, HeadHasTheLengthButNoBody) {
  Start();
  RawClient client(port_);
  client.Send("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + GetRequest("/metrics"));
  const RawResponse head = client.ReadResponse(/*is_head=*/true);
  EXPECT_EQ(head.headers.at("content-length"), "3");
  EXPECT_EQ(client.ReadResponse().body, "up 1\n");
}

}  // namespace
}  // namespace featurescope
