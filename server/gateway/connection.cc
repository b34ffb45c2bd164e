// A connection is a small state machine on its own strand:
//
//   wait for a first byte -> head -> (body) -> answer -> wait ...
//
// An answer is known as a whole (files, errors), or it is a call whose messages are written as they
// come. Everything to write passes through one queue of byte pieces; the next message of a call is
// asked for only when that queue is empty, so a slow reader slows the call and nothing piles up.
// While a call runs, a peek at the socket tells when the peer has gone.
#include "server/gateway/connection.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/gateway/grpc_web_call.h"
#include "server/gateway/grpc_web_frames.h"
#include "server/gateway/http_response.h"
#include "server/gateway/output_queue.h"
#include "server/gateway/request_head.h"
#include "server/gateway/routes.h"

namespace featurescope {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr size_t kReadBufferBytes = 64u << 10;
constexpr std::chrono::seconds kLinger(5);  // for a refused body to drain
constexpr int kUserTimeoutMs = 60'000;      // unacknowledged data on a dead path

std::chrono::steady_clock::duration ToChrono(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

// Whether the peer sent something that is not HTTP, as opposed to having gone or being too slow.
bool IsMalformed(ErrorCode error) {
  return error.category() == http::make_error_code(http::error::bad_chunk).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

class HttpConnection final : public Connection,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(tcp::socket socket, std::string peer, std::shared_ptr<GatewayContext> context)
      : admission_(context, peer),
        context_(std::move(context)),
        peer_(std::move(peer)),
        stream_(std::move(socket)) {}

  void Run() {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->NextRequest(); });
  }

  void CloseWhenIdle() override {
    Post([this] {
      if (state_ == State::kIdle) Close();
    });
  }
  void EndCall() override {
    Post([this] {
      if (state_ == State::kIdle) Close();
      if (call_ == nullptr) return;
      ended_by_gateway_ = true;
      call_->Cancel();
    });
  }
  void Abort() override {
    Post([this] { Close(); });
  }

 private:
  enum class State {
    kIdle,       // waiting for the first byte of a request
    kReading,    // head or body
    kAnswering,  // pieces are being written or a call runs
    kLingering,  // answered; what the peer still sends is thrown away
    kClosed,
  };

  void Post(std::function<void()> work) {
    asio::post(stream_.get_executor(),
               [self = shared_from_this(), work = std::move(work)] { work(); });
  }
  // Wraps a handler so that it keeps the connection and does nothing once that is closed.
  template <typename F>
  auto Guard(F handler) {
    return [self = shared_from_this(), handler = std::move(handler)](ErrorCode error, size_t n) {
      if (self->state_ != State::kClosed) handler(error, n);
    };
  }

  // --- Reading a request. ---
  void NextRequest();
  void ReadHead();
  void OnHead(ErrorCode error);
  void Route();

  // --- A call. ---
  void BeginRpc();
  void ReadBody();
  void OnBody(ErrorCode error);
  void OnRequest(absl::string_view body);
  void StartCall(GrpcWebRequest request);
  void StartAnswer(const GrpcWebMetadata& initial);
  void OnMessage(std::vector<grpc::Slice> slices);
  void OnEnd(const GrpcWebStatus& status, const GrpcWebMetadata& trailers);
  void RefuseCall(const absl::Status& status) { OnEnd(ToGrpcWebStatus(status), {}); }

  // --- Writing. ---
  void Respond(const HttpResponse& response);
  void QueueFrame(std::vector<Piece> frame) {
    output_.PushFrame(std::move(frame), !head_.http_1_0, content_type_.text);
  }
  void Flush();
  void OnFlushed();

  // --- The peer's presence. ---
  void WatchPeer();
  void FinishAnswer();
  void Linger();
  void DiscardInput();
  void Close();

  bool keep_alive() const { return head_.keep_alive && !must_close_ && !context_->draining(); }
  size_t max_body_bytes() const {
    const size_t binary = context_->options.max_message_bytes + kGrpcWebEnvelopeBytes;
    // Base64 of that, and room for a few separately padded pieces.
    return content_type_.text ? (binary + 2) / 3 * 4 + 64 : binary;
  }

  const Admission admission_;  // first, so that it goes last
  const std::shared_ptr<GatewayContext> context_;
  const std::string peer_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{kReadBufferBytes};
  std::array<char, 4096> discard_;
  State state_ = State::kIdle;

  // Of the present request.
  std::optional<http::request_parser<http::empty_body>> head_parser_;
  std::optional<http::request_parser<http::string_body>> body_parser_;
  BodyReservation reservation_;
  RequestHead head_;
  GrpcWebContentType content_type_;
  std::shared_ptr<GrpcWebCall> call_;
  bool must_close_ = false;        // the input is not usable after this request
  bool answer_started_ = false;    // the head is queued
  bool answer_complete_ = false;   // the last byte is queued
  bool ended_by_gateway_ = false;  // the call was cancelled by EndCall

  OutputQueue output_;
  bool writing_ = false;
  bool watching_ = false;
};

void HttpConnection::NextRequest() {
  if (state_ == State::kClosed) return;
  head_parser_.reset();
  body_parser_.reset();
  reservation_.Reset();
  head_ = RequestHead();
  content_type_ = GrpcWebContentType();
  must_close_ = answer_started_ = answer_complete_ = ended_by_gateway_ = false;
  const bool first = state_ == State::kIdle;
  state_ = State::kIdle;
  if (buffer_.size() > 0) {  // pipelined
    ReadHead();
    return;
  }
  if (context_->draining() && !first) {
    Close();
    return;
  }
  const auto& options = context_->options;
  stream_.expires_after(ToChrono(first ? options.header_timeout : options.keep_alive_timeout));
  stream_.async_read_some(buffer_.prepare(4096), Guard([this](ErrorCode error, size_t n) {
                            if (error) {
                              Close();
                              return;
                            }
                            buffer_.commit(n);
                            ReadHead();
                          }));
}

void HttpConnection::ReadHead() {
  state_ = State::kReading;
  head_parser_.emplace();
  head_parser_->header_limit(static_cast<uint32_t>(context_->options.max_header_bytes));
  // No limit yet: too large a call must be answered as a call. (In Boost 1.74 boost::none would
  // refuse every Content-Length.)
  head_parser_->body_limit(std::numeric_limits<uint64_t>::max());
  stream_.expires_after(ToChrono(context_->options.header_timeout));
  http::async_read_header(stream_, buffer_, *head_parser_,
                          Guard([this](ErrorCode error, size_t) { OnHead(error); }));
}

void HttpConnection::OnHead(ErrorCode error) {
  stream_.expires_never();
  if (error && !IsMalformed(error)) {
    Close();
    return;
  }
  if (error) {
    must_close_ = true;
    const bool too_long =
        error == http::error::header_limit || error == http::error::buffer_overflow;
    Respond(too_long
                ? TextResponse(431, absl::StrCat("the request head is larger than ",
                                                 context_->options.max_header_bytes, " bytes\n"))
                : TextResponse(400, absl::StrCat("bad request: ", error.message(), "\n")));
    return;
  }
  head_ = CopyHead(*head_parser_);
  if (const std::optional<HttpResponse> refusal = RefuseHead(head_, context_->policy)) {
    must_close_ = true;
    Respond(*refusal);
    return;
  }
  Route();
}

void HttpConnection::Route() {
  if (head_.method == "POST") {
    BeginRpc();
    return;
  }
  // Only calls have bodies: anything else with one is answered, and the rest is not read.
  must_close_ = head_.has_body;
  if (head_.method == "OPTIONS") {
    Respond(AnswerOptions(*context_, head_));
  } else if ((head_.method == "GET" || head_.method == "HEAD") && !IsRpcPath(head_.path)) {
    Respond(AnswerGet(*context_, head_));
  } else {
    HttpResponse response = TextResponse(405, "method not allowed\n");
    response.headers.emplace_back("Allow",
                                  IsRpcPath(head_.path) ? "POST, OPTIONS" : "GET, HEAD, OPTIONS");
    Respond(response);
  }
}

void HttpConnection::BeginRpc() {
  const auto content_type = ParseGrpcWebContentType(head_.field("content-type"));
  must_close_ = true;  // until the body is read
  if (!content_type) {
    Respond(TextResponse(415,
                         "the content type must be application/grpc-web, with +proto or "
                         "-text\n"));
    return;
  }
  content_type_ = *content_type;
  if (IsForbiddenCrossSite(context_->policy, head_.field("sec-fetch-site"),
                           head_.field("origin"))) {
    Respond(TextResponse(403, "calls from this origin are not allowed\n"));
    return;
  }
  const size_t limit = max_body_bytes();
  if (head_.content_length.value_or(0) > limit) {
    RefuseCall(ResourceExhausted("a request body of ", *head_.content_length,
                                 " bytes is larger than the limit of ", limit));
    return;
  }
  // The body and, in text mode, what it decodes to.
  const size_t bytes = head_.has_body ? head_.content_length.value_or(limit) : 0;
  if (!reservation_.Take(context_.get(), content_type_.text ? 2 * bytes : bytes)) {
    RefuseCall(ResourceExhausted("too many large requests at once; try again later"));
    return;
  }
  if (!head_.expects_continue) {
    ReadBody();
    return;
  }
  auto interim = std::make_shared<const std::string>("HTTP/1.1 100 Continue\r\n\r\n");
  stream_.expires_after(ToChrono(context_->options.write_timeout));
  asio::async_write(stream_, asio::buffer(*interim),
                    Guard([this, interim](ErrorCode error, size_t) {
                      if (error) {
                        Close();
                      } else {
                        ReadBody();
                      }
                    }));
}

void HttpConnection::ReadBody() {
  if (!head_.has_body) {
    OnRequest("");
    return;
  }
  body_parser_.emplace(std::move(*head_parser_));
  body_parser_->body_limit(max_body_bytes());
  stream_.expires_after(ToChrono(context_->options.body_timeout));
  http::async_read(stream_, buffer_, *body_parser_,
                   Guard([this](ErrorCode error, size_t) { OnBody(error); }));
}

void HttpConnection::OnBody(ErrorCode error) {
  stream_.expires_never();
  if (error == http::error::body_limit) {
    RefuseCall(ResourceExhausted("the request body is larger than the limit of ", max_body_bytes(),
                                 " bytes"));
    return;
  }
  if (error) {
    if (IsMalformed(error)) {
      Respond(TextResponse(400, absl::StrCat("bad request: ", error.message(), "\n")));
    } else {
      Close();
    }
    return;
  }
  OnRequest(body_parser_->get().body());
}

void HttpConnection::OnRequest(absl::string_view body) {
  must_close_ = false;
  auto request = MakeRpcRequest(*context_, head_, content_type_.text, peer_, body);
  body_parser_.reset();
  if (request.ok() && !context_->BeginCall()) {
    request = absl::UnavailableError("the server is shutting down");
  }
  if (!request.ok()) {
    RefuseCall(request.status());
    return;
  }
  StartCall(*std::move(request));
}

void HttpConnection::StartCall(GrpcWebRequest request) {
  state_ = State::kAnswering;
  auto self = shared_from_this();
  GrpcWebEvents events;
  events.post = [self](std::function<void()> work) {
    asio::post(self->stream_.get_executor(), std::move(work));
  };
  events.on_initial_metadata = [self](const GrpcWebMetadata& initial) {
    if (self->state_ == State::kClosed) return;
    self->StartAnswer(initial);
    self->Flush();
  };
  events.on_message = [self](std::vector<grpc::Slice> slices) {
    if (self->state_ != State::kClosed) self->OnMessage(std::move(slices));
  };
  events.on_end = [self](GrpcWebStatus status, const GrpcWebMetadata& trailers) {
    self->context_->EndCall();
    self->call_.reset();
    if (self->state_ == State::kClosed) return;
    if (self->ended_by_gateway_) status = {14, "the server is shutting down", ""};
    self->OnEnd(status, trailers);
  };
  call_ = GrpcWebCall::Start(&context_->stub, std::move(request), std::move(events));
  reservation_.Reset();  // gRPC holds the message now
  WatchPeer();
}

void HttpConnection::StartAnswer(const GrpcWebMetadata& initial) {
  if (std::exchange(answer_started_, true)) return;
  const GrpcWebMetadata metadata = ResponseHeaders(initial);
  GrpcWebMetadata headers = {{"Content-Type", content_type_.response},
                             {"Cache-Control", "no-store"},
                             {"X-Accel-Buffering", "no"},
                             {"X-Content-Type-Options", "nosniff"}};
  headers.insert(headers.end(), metadata.begin(), metadata.end());
  const GrpcWebMetadata cors = CorsHeaders(context_->policy, head_.field("origin"), metadata);
  headers.insert(headers.end(), cors.begin(), cors.end());
  output_.Push(
      OwnedPiece(ResponseHead(200, headers, head_.http_1_0 ? "" : "Transfer-Encoding: chunked",
                              keep_alive(), absl::Now())));
}

void HttpConnection::OnMessage(std::vector<grpc::Slice> slices) {
  StartAnswer({});
  size_t length = 0;
  for (const grpc::Slice& slice : slices) length += slice.size();
  const auto envelope = EnvelopeHeader(kGrpcWebMessage, static_cast<uint32_t>(length));
  std::vector<Piece> frame;
  frame.push_back(OwnedPiece(std::string(envelope.data(), envelope.size())));
  for (grpc::Slice& slice : slices) {
    if (slice.size() > 0) frame.push_back(SlicePiece(std::move(slice)));
  }
  QueueFrame(std::move(frame));
  Flush();
}

void HttpConnection::OnEnd(const GrpcWebStatus& status, const GrpcWebMetadata& trailers) {
  state_ = State::kAnswering;
  StartAnswer({});
  QueueFrame({OwnedPiece(TrailerFrame(status, trailers))});
  if (!head_.http_1_0) output_.Push(OwnedPiece("0\r\n\r\n"));
  answer_complete_ = true;
  Flush();
}

void HttpConnection::Respond(const HttpResponse& response) {
  state_ = State::kAnswering;
  const size_t length = response.body ? response.body->size() : 0;
  const bool has_length = response.status != 204 && response.status != 304;
  output_.Push(
      OwnedPiece(ResponseHead(response.status, response.headers,
                              has_length ? absl::StrCat("Content-Length: ", length) : std::string(),
                              keep_alive(), absl::Now())));
  if (has_length && length > 0 && head_.method != "HEAD") {
    output_.Push({*response.body, response.body});
  }
  answer_started_ = answer_complete_ = true;
  Flush();
}

void HttpConnection::Flush() {
  if (writing_) return;
  if (output_.empty()) {
    OnFlushed();
    return;
  }
  writing_ = true;
  stream_.expires_after(ToChrono(context_->options.write_timeout));
  stream_.async_write_some(output_.Front(), Guard([this](ErrorCode error, size_t written) {
                             writing_ = false;
                             stream_.expires_never();
                             if (error) {
                               Close();
                               return;
                             }
                             output_.Consume(written);
                             Flush();
                           }));
}

void HttpConnection::OnFlushed() {
  if (answer_complete_) {
    FinishAnswer();
  } else if (call_ != nullptr) {
    call_->ReadNext();
  }
}

// Notices that the peer has gone while a call runs. A peer that only shut down its sending side
// counts as gone; one that sends its next request early is no longer watched and shows itself when
// a write fails.
void HttpConnection::WatchPeer() {
  if (buffer_.size() > 0) return;
  watching_ = true;
  stream_.socket().async_receive(asio::buffer(discard_, 1), tcp::socket::message_peek,
                                 Guard([this](ErrorCode error, size_t) {
                                   watching_ = false;
                                   if (error && error != asio::error::operation_aborted) {
                                     Close();
                                   } else if (answer_complete_ && output_.empty()) {
                                     FinishAnswer();
                                   }
                                 }));
}

void HttpConnection::FinishAnswer() {
  if (watching_) {
    stream_.socket().cancel();  // comes back here
    return;
  }
  if (state_ != State::kAnswering) return;
  if (keep_alive()) {
    NextRequest();
  } else {
    Linger();
  }
}

// Closes so that the answer arrives even when the peer is still sending: what it sends is read and
// thrown away for a while, because closing over unread input resets the connection.
void HttpConnection::Linger() {
  state_ = State::kLingering;
  reservation_.Reset();
  body_parser_.reset();
  ErrorCode ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(kLinger);
  DiscardInput();
}

void HttpConnection::DiscardInput() {
  stream_.async_read_some(asio::buffer(discard_), Guard([this](ErrorCode error, size_t) {
                            if (error) {
                              Close();
                            } else {
                              DiscardInput();
                            }
                          }));
}

void HttpConnection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  if (call_ != nullptr) call_->Cancel();
  reservation_.Reset();
  stream_.close();
}

}  // namespace

void ServeConnection(tcp::socket socket, std::string peer,
                     const std::shared_ptr<GatewayContext>& context) {
  ErrorCode ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int timeout = kUserTimeoutMs;
  setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
  auto connection = std::make_shared<HttpConnection>(std::move(socket), std::move(peer), context);
  context->Track(connection);
  connection->Run();
}

}  // namespace featurescope
