#include "server/service/rpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "server/base/log.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// Where gRPC's errors of this thread go instead of the log; none: to the log.
thread_local std::string* grpc_errors = nullptr;

void LogOfGrpc(gpr_log_func_args* entry) {
  if (grpc_errors != nullptr) {
    absl::StrAppend(grpc_errors, entry->message, "\n");
  } else if (entry->severity == GPR_LOG_SEVERITY_ERROR) {
    LogWarning("gRPC: ", entry->message);
  } else {
    LogInfo("gRPC: ", entry->message);
  }
}

// Why an address cannot be bound: what the system said, if gRPC's errors quote it.
std::string ReasonOf(absl::string_view errors) {
  constexpr absl::string_view kQuote = "os_error:\"";
  const size_t begin = errors.find(kQuote);
  if (begin == absl::string_view::npos) return "it is no address of this machine";
  errors.remove_prefix(begin + kQuote.size());
  return std::string(errors.substr(0, errors.find('"')));
}

}  // namespace

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
    gpr_set_log_function(&LogOfGrpc);
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
  std::string errors;
  grpc_errors = &errors;
  self->server_ = builder.BuildAndStart();
  grpc_errors = nullptr;
  if (self->server_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.listen, ": ", ReasonOf(errors)));
  }
  return self;
}

RpcServer::~RpcServer() {
  if (server_ != nullptr) Shutdown();
}

void RpcServer::StopAccepting() {
  server_->GetHealthCheckService()->SetServingStatus(false);
  pool_.Drain(absl::ZeroDuration());
  watchers_.Drain(absl::ZeroDuration());
}

void RpcServer::WaitForCalls(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  pool_.Drain(timeout);
  watchers_.Drain(deadline - absl::Now());
}

void RpcServer::Shutdown() {
  StopAccepting();
  // Gives in-process calls no time at all, whatever its deadline: WaitForCalls did that.
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
  server_->Wait();
}

}  // namespace featurescope
