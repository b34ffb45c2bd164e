// The HTTP side of the server: the gRPC-Web bridge, the web app, /healthz and /metrics on one port.
//
// Plain HTTP/1.1. Beyond one machine, put a reverse proxy with TLS and HTTP/2 in front of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class Channel;
class Server;
}  // namespace grpc

namespace featurescope {

struct GatewayOptions {
  std::string listen = "127.0.0.1:8080";  // ADDRESS:PORT or [ADDRESS]:PORT; port 0: any free one
  std::string web_directory;              // the built web app; empty or absent: a page that says so
  int io_threads = 2;                     // they only move bytes

  size_t max_message_bytes = 16u << 20;    // of a request; the same as the gRPC server's limit
  size_t max_header_bytes = 16u << 10;     // of one request's head
  size_t max_buffered_bytes = 256u << 20;  // request bodies in memory at once, over all connections
  size_t max_connections = 512;
  size_t max_connections_per_address = 128;  // trusted proxies are not counted

  absl::Duration header_timeout = absl::Seconds(10);      // from a request's first byte
  absl::Duration body_timeout = absl::Seconds(30);        // for the whole body
  absl::Duration write_timeout = absl::Seconds(60);       // without any progress of a slow reader
  absl::Duration keep_alive_timeout = absl::Seconds(75);  // between two requests

  std::vector<std::string> allowed_origins;  // other origins whose pages may call, exact, e.g.
                                             // "http://localhost:5173"; empty: same origin only
  std::vector<std::string> allowed_hosts;    // names in the Host header beside IP addresses and
                                             // localhost; empty: any name, unless `listen` is a
                                             // loopback address (there a foreign name means an
                                             // attack by DNS rebinding)
  std::vector<std::string> trusted_proxies;  // IP addresses whose X-Forwarded-For is believed
};

// Counters for /metrics.
struct GatewayStats {
  size_t open_connections = 0;
  size_t active_calls = 0;
  uint64_t calls = 0;                // handed to the gRPC server so far
  uint64_t refused_connections = 0;  // over one of the two limits
};

class GatewayContext;

// A channel into `server` without a socket, as the gateway needs it: no limit on what it receives.
//
// A streaming handler must await each write before it finishes the call: gRPC 1.51's in-process
// transport drops a message that is sent in one step with the status (StartWriteAndFinish,
// StartWriteLast, WriteLast) while the reader is busy. Unary handlers are not concerned.
std::shared_ptr<grpc::Channel> InProcessChannel(grpc::Server& server);

// Thread-safe.
class Gateway {
 public:
  // Binds, starts the threads and serves.
  //
  //   channel  InProcessChannel(server); calls arrive there with the caller's address as metadata
  //            `x-featurescope-peer`, which clients cannot set themselves through the gateway
  //   metrics  gives the body of /metrics (Prometheus text); called on an io thread, must not block
  //   errors   InvalidArgument     an option is malformed; the message names it
  //            AlreadyExists etc.  the address cannot be bound
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(GatewayOptions options,
                                                        std::shared_ptr<grpc::Channel> channel,
                                                        std::function<std::string()> metrics);

  // Stops at once: cancels calls, closes connections, joins the threads. Call Drain before, and
  // destroy the gateway before the gRPC server.
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  int port() const;

  // From now on /healthz answers 503, new calls end with UNAVAILABLE, idle connections are closed
  // and the others after their present answer. Running calls go on.
  void StopAccepting();

  // StopAccepting, then waits up to `timeout` for running calls; ends the rest with UNAVAILABLE
  // and closes the port.
  void Drain(absl::Duration timeout);

  GatewayStats stats() const;

 private:
  class Listener;
  explicit Gateway(std::unique_ptr<Listener> listener);

  std::unique_ptr<Listener> listener_;
};

}  // namespace featurescope
