#include "server/gateway/gateway.h"

// Asio in Boost 1.74 uses std::exchange without its header.
#include <grpcpp/server.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/gateway/connection.h"
#include "server/gateway/gateway_context.h"

namespace featurescope {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr absl::Duration kLastWords = absl::Seconds(2);  // to write the ends of cancelled calls
constexpr absl::string_view kBusy =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: 21\r\nRetry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n";

absl::StatusOr<tcp::endpoint> ParseListen(absl::string_view listen) {
  const size_t colon = listen.rfind(':');
  int port = -1;
  if (colon != absl::string_view::npos && absl::SimpleAtoi(listen.substr(colon + 1), &port) &&
      port >= 0 && port <= 65535) {
    std::string host(listen.substr(0, colon));
    if (host == "localhost") host = "127.0.0.1";
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    ErrorCode error;
    const auto address = asio::ip::make_address(host, error);
    if (!error && address.is_v6() == bracketed) {
      return tcp::endpoint(address, static_cast<uint16_t>(port));
    }
  }
  return InvalidArgument("the HTTP address \"", listen,
                         "\" is not ADDRESS:PORT or [ADDRESS]:PORT with a port in [0, 65535]");
}

absl::Status CheckOptions(const GatewayOptions& options) {
  const auto positive = [](absl::string_view name, absl::Duration value) {
    return value > absl::ZeroDuration()
               ? absl::OkStatus()
               : InvalidArgument(name, " ", absl::FormatDuration(value), " must be positive");
  };
  RETURN_IF_ERROR(positive("header_timeout", options.header_timeout));
  RETURN_IF_ERROR(positive("body_timeout", options.body_timeout));
  RETURN_IF_ERROR(positive("write_timeout", options.write_timeout));
  RETURN_IF_ERROR(positive("keep_alive_timeout", options.keep_alive_timeout));
  if (options.io_threads < 1 || options.io_threads > 64) {
    return InvalidArgument("io_threads ", options.io_threads, " is out of range [1, 64]");
  }
  if (options.max_message_bytes > (size_t{1} << 31)) {
    return InvalidArgument("max_message_bytes ", options.max_message_bytes,
                           " is out of range [0, 2 GiB]");
  }
  if (options.max_header_bytes < 1024 || options.max_header_bytes > (48u << 10)) {
    return InvalidArgument("max_header_bytes ", options.max_header_bytes,
                           " is out of range [1 KiB, 48 KiB]");
  }
  return absl::OkStatus();
}

HttpPolicy MakePolicy(const GatewayOptions& options, const tcp::endpoint& endpoint) {
  HttpPolicy policy;
  policy.allowed_origins = options.allowed_origins;
  for (const std::string& host : options.allowed_hosts) {
    policy.allowed_hosts.push_back(absl::AsciiStrToLower(host));
  }
  policy.any_host = options.allowed_hosts.empty() && !endpoint.address().is_loopback();
  policy.trusted_proxies = options.trusted_proxies;
  return policy;
}

std::string PeerAddress(const tcp::socket& socket) {
  ErrorCode error;
  auto address = socket.remote_endpoint(error).address();
  if (error) return "";
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  return address.to_string();
}

}  // namespace

// The port and the threads.
class Gateway::Listener {
 public:
  Listener(std::shared_ptr<GatewayContext> context, int io_threads)
      : context_(std::move(context)),
        work_(asio::make_work_guard(io_)),
        strand_(asio::make_strand(io_)),
        acceptor_(strand_),
        retry_(strand_),
        io_threads_(io_threads) {}

  ~Listener() {
    StopListening();
    // A connection accepted at the last moment appears after the first sweep.
    do {
      for (const auto& connection : context_->Connections()) connection->Abort();
    } while (!context_->AwaitConnections(absl::Milliseconds(20)));
    work_.reset();
    for (std::thread& thread : threads_) thread.join();
  }

  absl::Status Listen(const tcp::endpoint& endpoint) {
    ErrorCode error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor_.local_endpoint(error).port();
    if (error) {
      return ErrnoStatus(error.value(),
                         absl::StrCat("cannot serve HTTP on ", endpoint.address().to_string(), ":",
                                      endpoint.port()));
    }
    asio::post(strand_, [this] { Accept(); });
    for (int i = 0; i < io_threads_; ++i) {
      threads_.emplace_back([this] { io_.run(); });
    }
    return absl::OkStatus();
  }

  // Closes the port; no further connection is accepted once this returns.
  void StopListening() {
    if (threads_.empty()) return;
    std::promise<void> closed;
    asio::post(strand_, [this, &closed] {
      ErrorCode ignored;
      acceptor_.close(ignored);
      retry_.cancel();
      closed.set_value();
    });
    closed.get_future().wait();
  }

  GatewayContext& context() { return *context_; }
  int port() const { return port_; }

 private:
  void Accept() {
    if (!acceptor_.is_open()) return;
    acceptor_.async_accept(asio::make_strand(io_), [this](ErrorCode error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) {  // out of descriptors, most likely: let some go before trying again
        LogWarning("HTTP: cannot accept a connection: ", error.message());
        retry_.expires_after(std::chrono::milliseconds(100));
        retry_.async_wait([this](ErrorCode) { Accept(); });
        return;
      }
      Admit(std::move(socket));
      Accept();
    });
  }

  void Admit(tcp::socket socket) {
    std::string peer = PeerAddress(socket);
    if (peer.empty()) return;
    if (!context_->TryAdmit(peer)) {
      ErrorCode ignored;
      socket.non_blocking(true, ignored);
      socket.send(asio::buffer(kBusy.data(), kBusy.size()), 0, ignored);
      socket.shutdown(tcp::socket::shutdown_both, ignored);
      return;
    }
    ServeConnection(std::move(socket), std::move(peer), context_);
  }

  const std::shared_ptr<GatewayContext> context_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::strand<asio::io_context::executor_type> strand_;  // of the acceptor
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  const int io_threads_;
  std::vector<std::thread> threads_;
  int port_ = 0;
};

std::shared_ptr<grpc::Channel> InProcessChannel(grpc::Server& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  return server.InProcessChannel(arguments);
}

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(GatewayOptions options,
                                                        std::shared_ptr<grpc::Channel> channel,
                                                        std::function<std::string()> metrics) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const tcp::endpoint endpoint, ParseListen(options.listen));
  ASSIGN_OR_RETURN(StaticFiles files, StaticFiles::Load(options.web_directory));
  HttpPolicy policy = MakePolicy(options, endpoint);
  const int io_threads = options.io_threads;
  auto context =
      std::make_shared<GatewayContext>(std::move(options), std::move(policy), std::move(files),
                                       std::move(channel), std::move(metrics));
  auto listener = std::make_unique<Listener>(std::move(context), io_threads);
  RETURN_IF_ERROR(listener->Listen(endpoint));
  return std::unique_ptr<Gateway>(new Gateway(std::move(listener)));
}

Gateway::Gateway(std::unique_ptr<Listener> listener) : listener_(std::move(listener)) {}

Gateway::~Gateway() = default;

int Gateway::port() const { return listener_->port(); }

void Gateway::StopAccepting() {
  listener_->context().RefuseCalls();
  for (const auto& connection : listener_->context().Connections()) connection->CloseWhenIdle();
}

void Gateway::Drain(absl::Duration timeout) {
  StopAccepting();
  GatewayContext& context = listener_->context();
  if (!context.AwaitCalls(timeout)) {
    for (const auto& connection : context.Connections()) connection->EndCall();
    context.AwaitCalls(kLastWords);
  }
  listener_->StopListening();
  for (const auto& connection : context.Connections()) connection->CloseWhenIdle();
  context.AwaitConnections(kLastWords);
}

GatewayStats Gateway::stats() const { return listener_->context().stats(); }

}  // namespace featurescope
