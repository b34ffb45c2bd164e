// What all connections of a gateway share: the options, the files, the way into the gRPC server,
// and the counts that bound them.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/gateway/gateway.h"
#include "server/gateway/http_policy.h"
#include "server/gateway/static_files.h"

namespace featurescope {

class Connection;

// Thread-safe.
class GatewayContext {
 public:
  GatewayContext(GatewayOptions options, HttpPolicy policy, StaticFiles files,
                 std::shared_ptr<grpc::Channel> channel, std::function<std::string()> metrics);

  const GatewayOptions options;
  const HttpPolicy policy;
  const StaticFiles files;
  const std::function<std::string()> metrics;
  grpc::GenericStub stub;

  // Whether one more connection from `address` fits; counts it if so.
  bool TryAdmit(const std::string& address);
  // Undoes TryAdmit.
  void Leave(const std::string& address);

  // Registers a connection so that Connections() finds it while it lives.
  void Track(std::weak_ptr<Connection> connection);
  std::vector<std::shared_ptr<Connection>> Connections();

  // Reserves memory for a request body; false when the budget does not hold it now.
  bool TryReserve(size_t bytes);
  void Release(size_t bytes);

  // False once calls are refused.
  bool BeginCall();
  void EndCall();
  void RefuseCalls();
  bool draining() const { return draining_.load(std::memory_order_acquire); }

  // Waits for running calls, or for connections, to end; false after `timeout`.
  bool AwaitCalls(absl::Duration timeout) const;
  bool AwaitConnections(absl::Duration timeout) const;

  GatewayStats stats() const;

 private:
  std::atomic<bool> draining_{false};
  mutable absl::Mutex mutex_;
  GatewayStats stats_ ABSL_GUARDED_BY(mutex_);
  size_t reserved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, size_t> per_address_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Connection>> connections_ ABSL_GUARDED_BY(mutex_);
};

// A place in the limits, given back when everything else of the connection is gone.
class Admission {
 public:
  Admission(std::shared_ptr<GatewayContext> context, std::string peer)
      : context_(std::move(context)), peer_(std::move(peer)) {}
  ~Admission() { context_->Leave(peer_); }
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

 private:
  std::shared_ptr<GatewayContext> context_;
  std::string peer_;
};

// A share of the memory for request bodies.
class BodyReservation {
 public:
  ~BodyReservation() { Reset(); }
  bool Take(GatewayContext* context, size_t bytes) {
    Reset();
    if (!context->TryReserve(bytes)) return false;
    context_ = context;
    bytes_ = bytes;
    return true;
  }
  void Reset() {
    if (context_ != nullptr) context_->Release(bytes_);
    context_ = nullptr;
  }

 private:
  GatewayContext* context_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace featurescope
