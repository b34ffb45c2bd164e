// The gRPC server: the four services, health and reflection on one address, and an orderly end.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/service/metrics.h"
#include "server/service/request_pool.h"
#include "server/service/services.h"

namespace featurescope {

struct RpcServerOptions {
  std::string listen = "127.0.0.1:50051";  // HOST:PORT, port 0: any free one; or unix:PATH
  size_t max_message_bytes = 16u << 20;    // of a request
  size_t max_calls = 64;                   // bodies that run at once
  size_t max_waiting_calls = 256;          // and that wait; more are refused
  size_t max_watchers = 256;               // WatchJobs streams
};

// Thread-safe.
class RpcServer {
 public:
  // Starts serving. `dependencies.rpc` is filled in by the server itself.
  //   errors  Unavailable  the address cannot be bound
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const RpcServerOptions& options,
                                                          ServiceDependencies dependencies);
  ~RpcServer();

  int port() const { return port_; }  // 0 for a unix socket
  grpc::Server& server() { return *server_; }
  Metrics& metrics() { return metrics_; }

  // From now on health answers NOT_SERVING and new calls UNAVAILABLE.
  void StopAccepting();
  // StopAccepting, then waits up to `timeout` for the running calls.
  void WaitForCalls(absl::Duration timeout);
  // Ends what still runs and closes the port. Gateways in front of this server must be gone.
  void Shutdown();

 private:
  RpcServer(const RpcServerOptions& options, ServiceDependencies dependencies);

  Metrics metrics_;
  RequestPool pool_;
  RequestPool watchers_;
  ServiceDependencies dependencies_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace featurescope
