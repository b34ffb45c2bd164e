#include "server/gateway/gateway_context.h"

#include <algorithm>

namespace featurescope {

GatewayContext::GatewayContext(GatewayOptions options_in, HttpPolicy policy_in,
                               StaticFiles files_in, std::shared_ptr<grpc::Channel> channel,
                               std::function<std::string()> metrics_in)
    : options(std::move(options_in)),
      policy(std::move(policy_in)),
      files(std::move(files_in)),
      metrics(std::move(metrics_in)),
      stub(std::move(channel)) {}

bool GatewayContext::TryAdmit(const std::string& address) {
  const auto& proxies = policy.trusted_proxies;
  const bool trusted = std::find(proxies.begin(), proxies.end(), address) != proxies.end();
  absl::MutexLock lock(&mutex_);
  size_t& from_address = per_address_[address];
  if (stats_.open_connections >= options.max_connections ||
      (!trusted && from_address >= options.max_connections_per_address)) {
    if (from_address == 0) per_address_.erase(address);
    ++stats_.refused_connections;
    return false;
  }
  ++from_address;
  ++stats_.open_connections;
  return true;
}

void GatewayContext::Leave(const std::string& address) {
  absl::MutexLock lock(&mutex_);
  --stats_.open_connections;
  const auto entry = per_address_.find(address);
  if (--entry->second == 0) per_address_.erase(entry);
}

void GatewayContext::Track(std::weak_ptr<Connection> connection) {
  absl::MutexLock lock(&mutex_);
  if (connections_.size() >= 2 * options.max_connections) {
    std::erase_if(connections_, [](const auto& entry) { return entry.expired(); });
  }
  connections_.push_back(std::move(connection));
}

std::vector<std::shared_ptr<Connection>> GatewayContext::Connections() {
  // Released by the caller, outside the lock: a connection's end takes it again.
  std::vector<std::shared_ptr<Connection>> alive;
  absl::MutexLock lock(&mutex_);
  for (const auto& entry : connections_) {
    if (auto connection = entry.lock()) alive.push_back(std::move(connection));
  }
  return alive;
}

bool GatewayContext::TryReserve(size_t bytes) {
  absl::MutexLock lock(&mutex_);
  if (bytes > options.max_buffered_bytes - reserved_bytes_) return false;
  reserved_bytes_ += bytes;
  return true;
}

void GatewayContext::Release(size_t bytes) {
  absl::MutexLock lock(&mutex_);
  reserved_bytes_ -= bytes;
}

bool GatewayContext::BeginCall() {
  absl::MutexLock lock(&mutex_);
  if (draining_.load(std::memory_order_relaxed)) return false;
  ++stats_.active_calls;
  ++stats_.calls;
  return true;
}

void GatewayContext::EndCall() {
  absl::MutexLock lock(&mutex_);
  --stats_.active_calls;
}

void GatewayContext::RefuseCalls() {
  absl::MutexLock lock(&mutex_);
  draining_.store(true, std::memory_order_release);
}

bool GatewayContext::AwaitCalls(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto none = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stats_.active_calls == 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&none), timeout);
}

bool GatewayContext::AwaitConnections(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto none = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stats_.open_connections == 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&none), timeout);
}

GatewayStats GatewayContext::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

}  // namespace featurescope
