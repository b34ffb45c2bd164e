#include "server/service/rpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "server/base/status.h"

namespace featurescope {

RpcServer::RpcServer(const RpcServerOptions& options, ServiceDependencies dependencies)
    : pool_("calls", options.max_calls, options.max_waiting_calls),
      watchers_("watches", options.max_watchers, 0),
      dependencies_(std::move(dependencies)) {
  dependencies_.rpc.pool = &pool_;
  dependencies_.rpc.watchers = &watchers_;
  dependencies_.rpc.metrics = &metrics_;
}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const RpcServerOptions& options,
                                                            ServiceDependencies dependencies) {
  static const bool kPluginsReady = [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)kPluginsReady;
  std::unique_ptr<RpcServer> self(new RpcServer(options, std::move(dependencies)));
  for (auto* make :
       {&MakeCatalogService, &MakeExploreService, &MakeFeatureService, &MakeJobService}) {
    self->services_.push_back(make(&self->dependencies_));
  }
  grpc::ServerBuilder builder;
  for (const auto& service : self->services_) builder.RegisterService(service.get());
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &self->port_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(
      GRPC_ARG_MAX_CONCURRENT_STREAMS,
      static_cast<int>(options.max_calls + options.max_waiting_calls + options.max_watchers));
  // Two servers on one port would share its connections at random.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  self->server_ = builder.BuildAndStart();
  if (self->server_ == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options.listen,
                                               ": the port is taken, or the address is not ours"));
  }
  return self;
}

RpcServer::~RpcServer() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void RpcServer::StopAccepting() {
  server_->GetHealthCheckService()->SetServingStatus(false);
  pool_.Drain(absl::ZeroDuration());
  watchers_.Drain(absl::ZeroDuration());
}

void RpcServer::Drain(absl::Duration timeout) {
  StopAccepting();
  const absl::Time deadline = absl::Now() + timeout;
  pool_.Drain(timeout);
  watchers_.Drain(deadline - absl::Now());
  // In-process calls are cut by Shutdown at once, so the waiting was done above.
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
  server_->Wait();
}

}  // namespace featurescope
