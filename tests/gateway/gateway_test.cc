// Calls through the gateway: the wire contract of gRPC-Web, streaming, cancellation, back-pressure.
#include "server/gateway/gateway.h"

#include <atomic>
#include <thread>

#include "absl/strings/escaping.h"
#include "tests/gateway/gateway_fixture.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

TEST_F(GatewayTest, UnaryCallHasTheContractsHeadersMessageAndTrailers) {
  Start();
  const RawResponse response = Call("Unary", "ping");
  EXPECT_EQ(response.headers.at("content-type"), "application/grpc-web+proto");
  EXPECT_EQ(response.headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(response.headers.at("cache-control"), "no-store");
  EXPECT_EQ(response.headers.at("x-accel-buffering"), "no");
  EXPECT_EQ(response.headers.at("x-content-type-options"), "nosniff");
  EXPECT_EQ(response.headers.at("x-init"), "hello");
  EXPECT_EQ(response.headers.at("x-init-bin"), "AP8=");
  EXPECT_EQ(response.body,
            Envelope("ping") + Envelope("grpc-status: 0\r\nx-trail: bye\r\nx-trail-bin: AQI=\r\n",
                                        kGrpcWebTrailer));
}

TEST_F(GatewayTest, EmptyMessageIsAMessage) {
  Start();
  EXPECT_THAT(TakeApart(Call("Unary", "")).messages, ElementsAre(""));
}

TEST_F(GatewayTest, ServerStreamDeliversEveryMessageThenTheTrailer) {
  Start();
  const Answer answer = TakeApart(Call("Stream", "500 1000"));
  EXPECT_TRUE(answer.well_formed);
  EXPECT_THAT(answer.messages, SizeIs(500));
  EXPECT_THAT(answer.messages, ::testing::Each(std::string(1000, 'm')));
  EXPECT_EQ(answer.trailers, "grpc-status: 0\r\n");
}

TEST_F(GatewayTest, MessagesLargerThanAnyBufferArriveWhole) {
  Start();
  const Answer answer = TakeApart(Call("Stream", "3 9000000"));
  ASSERT_THAT(answer.messages, SizeIs(3));
  EXPECT_EQ(answer.messages[2], std::string(9000000, 'm'));
}

TEST_F(GatewayTest, ErrorCarriesMessageAndDetailsInTheTrailerFrame) {
  Start();
  const RawResponse response = Call("Fail", "x");
  EXPECT_EQ(response.body, Envelope("grpc-status: 8\r\ngrpc-message: 100%25 of %C3%BC used\r\n"
                                    "grpc-status-details-bin: CAgSAm5v\r\n",
                                    kGrpcWebTrailer));
}

TEST_F(GatewayTest, UnknownMethodsAreStatus12) {
  Start();
  EXPECT_EQ(StatusOf(Call("Nothing", "x")), 12);
  EXPECT_EQ(StatusOf(Exchange(port_, PostRequest("/no/such/path", Envelope("x")))), 12);
  EXPECT_EQ(StatusOf(Exchange(port_, PostRequest("/", Envelope("x")))), 12);
}

TEST_F(GatewayTest, MetadataIsTheAllowListAndTheTruePeer) {
  Start();
  const Answer answer = TakeApart(
      Call("Metadata", "",
           "Authorization: Bearer tok\r\nCookie: a=b\r\nX-Featurescope-Peer: 6.6.6.6\r\n"
           "X-Forwarded-For: 7.7.7.7\r\nX-Request-Id: r1\r\nX-Featurescope-N-Bin: AQ\r\n"));
  ASSERT_THAT(answer.messages, SizeIs(1));
  const std::string& lines = answer.messages[0];
  EXPECT_THAT(lines, HasSubstr("authorization=Bearer tok\n"));
  EXPECT_THAT(lines, HasSubstr("x-request-id=r1\n"));
  EXPECT_THAT(lines, HasSubstr("x-featurescope-n-bin=\x01\n"));
  EXPECT_THAT(lines, HasSubstr("x-featurescope-peer=127.0.0.1\n"));
  EXPECT_THAT(lines, Not(HasSubstr("6.6.6.6")));
  EXPECT_THAT(lines, Not(HasSubstr("7.7.7.7")));
  EXPECT_THAT(lines, Not(HasSubstr("cookie")));
}

TEST_F(GatewayTest, IllegalMetadataIsRefusedBeforeTheCall) {
  Start();
  EXPECT_EQ(StatusOf(Call("Unary", "x", "Authorization: caf\xc3\xa9\r\n")), 3);
  EXPECT_EQ(StatusOf(Call("Unary", "x", "X-Sae-A-Bin: ***\r\n")), 3);
  EXPECT_EQ(backend_.counts().started, 0);
}

TEST_F(GatewayTest, TextModeAnswersInPaddedPiecesAndReadsThem) {
  Start();
  const std::string frame = Envelope("pong!");
  const std::string body =
      absl::Base64Escape(frame.substr(0, 4)) + absl::Base64Escape(frame.substr(4));
  const RawResponse response =
      Exchange(port_, PostRequest("/test.Echo/Unary", body, "", "application/grpc-web-text"));
  EXPECT_EQ(response.headers.at("content-type"), "application/grpc-web-text");
  EXPECT_THAT(response.body, ::testing::StartsWith(absl::Base64Escape(frame)));
  RawResponse decoded = response;
  decoded.body = DecodeBase64(response.body).value();
  EXPECT_THAT(TakeApart(decoded).messages, ElementsAre("pong!"));
  RawResponse bad = Exchange(
      port_, PostRequest("/test.Echo/Unary", "!!!!", "", "application/grpc-web-text+proto"));
  bad.body = DecodeBase64(bad.body).value();
  EXPECT_EQ(StatusOf(bad), 3);
}

TEST_F(GatewayTest, BareContentTypeAndChunkedBodiesAreRead) {
  Start();
  const std::string frame = Envelope("chunky");
  const std::string request = absl::StrCat(
      "POST /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web\r\n"
      "Transfer-Encoding: chunked\r\n\r\n3\r\n",
      frame.substr(0, 3), "\r\n8;ext=1\r\n", frame.substr(3), "\r\n0\r\n\r\n");
  const RawResponse response = Exchange(port_, request);
  EXPECT_EQ(response.headers.at("content-type"), "application/grpc-web");
  EXPECT_THAT(TakeApart(response).messages, ElementsAre("chunky"));
}

TEST_F(GatewayTest, Http10IsAnsweredWithoutChunksAndClosed) {
  Start();
  const RawResponse response =
      Exchange(port_, absl::StrCat("POST /test.Echo/Unary HTTP/1.0\r\nContent-Type: "
                                   "application/grpc-web\r\nContent-Length: 8\r\n\r\n",
                                   Envelope("old")));
  EXPECT_EQ(response.headers.count("transfer-encoding"), 0u);
  EXPECT_THAT(TakeApart(response).messages, ElementsAre("old"));
}

TEST_F(GatewayTest, ContinueIsSentWhenAskedFor) {
  Start();
  RawClient client(port_);
  const std::string request =
      PostRequest("/test.Echo/Unary", Envelope("big"), "Expect: 100-continue\r\n");
  const size_t head = request.find("\r\n\r\n") + 4;
  client.Send(request.substr(0, head));
  EXPECT_EQ(client.ReadHead(), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(request.substr(head));
  EXPECT_THAT(TakeApart(client.ReadResponse()).messages, ElementsAre("big"));
}

TEST_F(GatewayTest, DeadlineEndsTheCallAndReachesTheBackend) {
  Start();
  EXPECT_EQ(StatusOf(Call("Wait", "", "Grpc-Timeout: 50m\r\n")), 4);
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.cancelled == 1; }));
  EXPECT_EQ(StatusOf(Call("Unary", "x", "Grpc-Timeout: 20S\r\n")), 0);
  EXPECT_EQ(StatusOf(Call("Unary", "x", "Grpc-Timeout: soon\r\n")), 3);
}

TEST_F(GatewayTest, InitialMetadataArrivesBeforeAnyMessage) {
  Start();
  RawClient client(port_);
  client.Send(PostRequest("/test.Echo/Wait", Envelope("")));
  EXPECT_THAT(client.ReadHead(), HasSubstr("200 OK"));
  backend_.Release();
}

TEST_F(GatewayTest, ClosingTheConnectionCancelsTheCall) {
  Start();
  {
    RawClient client(port_);
    client.Send(PostRequest("/test.Echo/Wait", Envelope("")));
    EXPECT_THAT(client.ReadHead(), HasSubstr("200 OK"));
  }
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.cancelled == 1 && !c.active; }));
}

TEST_F(GatewayTest, AbortInTheMiddleOfAStreamCancelsTheCall) {
  Start();
  {
    RawClient client(port_);
    client.Send(PostRequest("/test.Echo/Stream", Envelope("1000000 10000")));
    client.ReadHead();
    client.ReadBytes(50000);
  }
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.started == 1 && !c.active; }));
  EXPECT_LT(backend_.counts().writes, 1000000);
}

TEST_F(GatewayTest, HalfClosedPeerCountsAsGone) {
  Start();
  RawClient client(port_);
  client.Send(PostRequest("/test.Echo/Wait", Envelope("")));
  client.ReadHead();
  client.FinishSending();
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.cancelled == 1 && !c.active; }));
}

TEST_F(GatewayTest, SlowReaderBoundsWhatTheBackendWrites) {
  Start();
  RawClient client(port_, /*receive_buffer=*/4096);
  client.Send(PostRequest("/test.Echo/Stream", Envelope("2000 1000000")));
  ASSERT_TRUE(backend_.Await([](const BackendCounts& c) { return c.writes > 0; }));
  // Until a quarter of a second passes without a further write.
  int writes = 0;
  do {
    writes = backend_.counts().writes;
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
  } while (backend_.counts().writes > writes);
  EXPECT_LT(writes, 40);
  EXPECT_EQ(backend_.counts().active, 1);
}

TEST_F(GatewayTest, ReaderWithoutProgressIsDropped) {
  options_.write_timeout = absl::Milliseconds(200);
  Start();
  RawClient client(port_, /*receive_buffer=*/4096);
  client.Send(PostRequest("/test.Echo/Stream", Envelope("2000 1000000")));
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.started == 1 && !c.active; }));
}

TEST_F(GatewayTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  RawClient client(port_);
  client.Send(PostRequest("/test.Echo/Unary", Envelope("one")) + GetRequest("/healthz") +
              PostRequest("/test.Echo/Stream", Envelope("3 5")) +
              PostRequest("/test.Echo/Unary", Envelope("four")));
  EXPECT_THAT(TakeApart(client.ReadResponse()).messages, ElementsAre("one"));
  EXPECT_EQ(client.ReadResponse().body, "ok\n");
  EXPECT_THAT(TakeApart(client.ReadResponse()).messages, SizeIs(3));
  EXPECT_THAT(TakeApart(client.ReadResponse()).messages, ElementsAre("four"));
}

TEST_F(GatewayTest, ConnectionIsKeptForManyCalls) {
  Start();
  RawClient client(port_);
  for (int i = 0; i < 200; ++i) {
    client.Send(PostRequest("/test.Echo/Unary", Envelope(absl::StrCat(i))));
    ASSERT_THAT(TakeApart(client.ReadResponse()).messages, ElementsAre(absl::StrCat(i)));
  }
  EXPECT_EQ(gateway_->stats().open_connections, 1u);
  EXPECT_EQ(gateway_->stats().calls, 200u);
}

TEST_F(GatewayTest, ManyConnectionsAtOnceGetTheirOwnAnswers) {
  Start();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      RawClient client(port_);
      for (int i = 0; i < 50; ++i) {
        const std::string text = absl::StrCat(t, "-", i);
        client.Send(PostRequest("/test.Echo/Unary", Envelope(text)));
        if (client.ReadResponse().body.substr(5, text.size()) == text) ++good;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 400);
}

TEST_F(GatewayTest, ConfiguredOriginsMayCallFromTheBrowser) {
  Start();
  const RawResponse preflight = Exchange(
      port_,
      "OPTIONS /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nOrigin: http://dev.example:5173\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), "http://dev.example:5173");
  EXPECT_EQ(preflight.headers.at("access-control-allow-methods"), "POST");
  EXPECT_EQ(preflight.headers.at("vary"), "Origin");
  const RawResponse call =
      Call("Unary", "x", "Origin: http://dev.example:5173\r\nSec-Fetch-Site: cross-site\r\n");
  EXPECT_EQ(StatusOf(call), 0);
  EXPECT_THAT(call.headers.at("access-control-expose-headers"), HasSubstr("x-init"));
}

TEST_F(GatewayTest, OtherOriginsMayNot) {
  Start();
  const RawResponse preflight =
      Exchange(port_,
               "OPTIONS /test.Echo/Unary HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\n"
               "Access-Control-Request-Method: POST\r\n\r\n");
  EXPECT_EQ(preflight.status, 403);
  EXPECT_EQ(preflight.headers.count("access-control-allow-origin"), 0u);
  EXPECT_EQ(Call("Unary", "x", "Origin: http://evil\r\nSec-Fetch-Site: cross-site\r\n").status,
            403);
  EXPECT_EQ(backend_.counts().started, 0);
}

TEST_F(GatewayTest, DrainLetsRunningCallsFinish) {
  Start();
  RawClient waiting(port_);
  waiting.Send(PostRequest("/test.Echo/Wait", Envelope("")));
  ASSERT_TRUE(backend_.Await([](const BackendCounts& c) { return c.active == 1; }));
  RawClient idle(port_);
  idle.Send(GetRequest("/healthz"));
  EXPECT_EQ(idle.ReadResponse().status, 200);

  gateway_->StopAccepting();
  EXPECT_TRUE(idle.AwaitClose());
  const RawResponse health = Exchange(port_, GetRequest("/healthz"));
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.headers.at("connection"), "close");
  EXPECT_EQ(StatusOf(Call("Unary", "late")), 14);

  std::thread drain([&] { gateway_->Drain(absl::Minutes(2)); });
  backend_.Release();
  EXPECT_EQ(StatusOf(waiting.ReadResponse()), 0);
  waiting.Close();
  drain.join();
  EXPECT_FALSE(RawClient(port_).connected());
  EXPECT_EQ(gateway_->stats().active_calls, 0u);
}

TEST_F(GatewayTest, DrainEndsCallsThatDoNotFinishWithUnavailable) {
  Start();
  RawClient waiting(port_);
  waiting.Send(PostRequest("/test.Echo/Wait", Envelope("")));
  ASSERT_TRUE(backend_.Await([](const BackendCounts& c) { return c.active == 1; }));
  gateway_->Drain(absl::Milliseconds(50));
  EXPECT_EQ(StatusOf(waiting.ReadResponse()), 14);
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.cancelled == 1; }));
}

TEST_F(GatewayTest, DestructionWithRunningCallsIsPrompt) {
  Start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(std::make_unique<RawClient>(port_));
    clients.back()->Send(
        PostRequest(i % 2 ? "/test.Echo/Wait" : "/test.Echo/Stream", Envelope("100000 100000")));
  }
  ASSERT_TRUE(backend_.Await([](const BackendCounts& c) { return c.started == 10; }));
  gateway_.reset();
  EXPECT_TRUE(backend_.Await([](const BackendCounts& c) { return c.active == 0; }));
}

TEST_F(GatewayTest, BadOptionsAreNamed) {
  const auto start = [&] {
    return Gateway::Start(options_, InProcessChannel(backend_.server()), nullptr).status();
  };
  for (absl::string_view bad : {"", "8080", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1",
                                "not a host:80", "::1:80", "[127.0.0.1]:80"}) {
    options_.listen = std::string(bad);
    EXPECT_EQ(start().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  options_.listen = "127.0.0.1:0";
  options_.io_threads = 0;
  EXPECT_THAT(std::string(start().message()), HasSubstr("io_threads 0"));
}

TEST_F(GatewayTest, PortInUseIsAnError) {
  Start();
  options_.listen = absl::StrCat("127.0.0.1:", port_);
  const absl::Status status =
      Gateway::Start(options_, InProcessChannel(backend_.server()), nullptr).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(options_.listen));
}

}  // namespace
}  // namespace featurescope
