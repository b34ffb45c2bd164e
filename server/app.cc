#include "server/app.h"

#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "server/base/log.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/engine/device_worker.h"
#include "server/formats/file.h"
#include "server/gateway/gateway.h"
#include "server/hub/hub_options.h"
#include "server/jobs/job_queue.h"
#include "server/jobs/job_runner.h"
#include "server/service/rpc_server.h"
#include "server/store/database.h"
#include "server/tensor/device.h"

namespace featurescope {
namespace {

constexpr char kVersion[] = "0.1.0";
// For answers that are already computed to reach browsers.
constexpr absl::Duration kLastAnswers = absl::Seconds(2);

ComputeEnvironment Inspect(const AppOptions& options) {
  SetComputeThreads(options.threads);
  return InspectComputeEnvironment();
}

absl::StatusOr<torch::ScalarType> ParseDtype(const std::string& name) {
  if (name == "float32") return torch::kFloat32;
  if (name == "bfloat16") return torch::kBFloat16;
  return InvalidArgument("dtype is \"", name, "\", it must be float32 or bfloat16");
}

// The environment's, as the hub's own tools read it; the flag's endpoint goes before its own. A
// service without a home keeps downloads in its data directory.
absl::StatusOr<HubOptions> Hub(const AppOptions& options) {
  const auto lookup = [&](absl::string_view name) -> std::optional<std::string> {
    if (name == "HF_ENDPOINT" && !options.hub_endpoint.empty()) return options.hub_endpoint;
    const char* value = getenv(std::string(name).c_str());
    if (value != nullptr) return value;
    if (name == "HOME") return JoinPath(options.data_dir, "home");
    return std::nullopt;
  };
  return HubOptions::FromEnvironment(lookup);
}

class AppImpl final : public App {
 public:
  explicit AppImpl(const AppOptions& options)
      : options_(options), environment_(Inspect(options)), started_(absl::Now()) {}
  ~AppImpl() override { Stop(); }

  absl::Status Start() {
    LogInfo("LibTorch ", environment_.libtorch_version, " on ", options_.device, ", ",
            environment_.blas, ", ", environment_.cpu_capability, ", ", environment_.threads,
            " threads");
    for (const std::string& warning : environment_.warnings) LogWarning(warning);
    ASSIGN_OR_RETURN(hub_, Hub(options_));
    CatalogOptions catalog;
    ASSIGN_OR_RETURN(catalog.device, ParseDevice(options_.device));
    ASSIGN_OR_RETURN(catalog.dtype, ParseDtype(options_.dtype));
    catalog.allowed_roots = options_.allowed_roots;
    catalog.memory_budget_bytes = options_.memory_budget_bytes;
    ASSIGN_OR_RETURN(catalog_, Catalog::Open(options_.data_dir, catalog));
    worker_ = std::make_unique<DeviceWorker>(worker_options_);
    queue_ = std::make_unique<JobQueue>(catalog_.get());

    ServiceDependencies dependencies;
    dependencies.catalog = catalog_.get();
    dependencies.worker = worker_.get();
    dependencies.jobs = queue_.get();
    dependencies.server_info = [this] { return Info(); };
    RpcServerOptions rpc;
    rpc.listen = options_.listen;
    ASSIGN_OR_RETURN(rpc_, RpcServer::Start(rpc, std::move(dependencies)));
    AddMetrics();
    if (!options_.http.empty()) {
      GatewayOptions gateway;
      gateway.listen = options_.http;
      gateway.web_directory = options_.web_dir;
      gateway.max_message_bytes = rpc.max_message_bytes;
      ASSIGN_OR_RETURN(gateway_, Gateway::Start(gateway, InProcessChannel(rpc_->server()),
                                                [this] { return rpc_->metrics().Render(); }));
    }
    // Last: a job that continues must not delay the ports.
    JobRunnerOptions computing;
    computing.kinds = {kTrainingKind, kSweepKind, kIndexingKind, kEvaluationKind, kCachingKind};
    runner_ = std::make_unique<JobRunner>(queue_.get(), worker_.get(), computing);
    JobRunnerOptions importing;
    importing.kinds = {kImportKind};
    importing.hub = hub_;
    importer_ = std::make_unique<JobRunner>(queue_.get(), worker_.get(), importing);
    return absl::OkStatus();
  }

  void Stop() override {
    if (stopped_) return;
    stopped_ = true;
    // New calls are refused; the job writes its checkpoint and its watchers are let go; the calls
    // that run have the device to themselves and may end; what is left then fails.
    if (gateway_ != nullptr) gateway_->StopAccepting();
    if (rpc_ != nullptr) rpc_->StopAccepting();
    if (importer_ != nullptr) importer_->Stop();
    if (runner_ != nullptr) runner_->Stop();
    if (queue_ != nullptr) queue_->Shutdown();
    if (rpc_ != nullptr) rpc_->WaitForCalls(options_.drain);
    if (worker_ != nullptr) worker_->Shutdown();
    if (gateway_ != nullptr) gateway_->Drain(kLastAnswers);
    gateway_.reset();
    rpc_.reset();
    importer_.reset();
    runner_.reset();
    queue_.reset();
    worker_.reset();
    catalog_.reset();
  }

  int grpc_port() const override { return rpc_->port(); }
  int http_port() const override { return gateway_ == nullptr ? 0 : gateway_->port(); }

 private:
  v1::ServerInfo Info() const {
    v1::ServerInfo info;
    info.set_version(kVersion);
    info.set_device(options_.device);
    info.set_dtype(options_.dtype);
    info.set_hub_endpoint(hub_.endpoint);
    info.set_blas(environment_.blas);
    info.set_cpu_capability(environment_.cpu_capability);
    info.set_threads(static_cast<uint32_t>(environment_.threads));
    info.set_libtorch_version(environment_.libtorch_version);
    info.set_sqlite_version(SqliteVersion());
    info.set_grpc_version(grpc::Version());
    info.set_memory_used_bytes(catalog_->memory_used_bytes());
    info.set_memory_budget_bytes(catalog_->memory_budget_bytes());
    info.set_uptime_seconds(static_cast<uint64_t>(absl::ToInt64Seconds(absl::Now() - started_)));
    info.set_queue_depth(static_cast<uint32_t>(worker_->stats().waiting));
    info.set_queue_limit(static_cast<uint32_t>(worker_options_.max_waiting));
    info.set_max_message_bytes(RpcServerOptions().max_message_bytes);
    for (const std::string& warning : environment_.warnings) info.add_warnings(warning);
    return info;
  }

  void AddMetrics() {
    Metrics& metrics = rpc_->metrics();
    auto worker = [this](auto field) {
      return [this, field] { return static_cast<double>(field(worker_->stats())); };
    };
    metrics.AddGauge("featurescope_queue_waiting", "Interactive tasks waiting for the device.",
                     worker([](const DeviceWorkerStats& s) { return s.waiting; }));
    metrics.AddCounter("featurescope_interactive_batches_total",
                       "Batches of interactive tasks run.",
                       worker([](const DeviceWorkerStats& s) { return s.interactive_batches; }));
    metrics.AddCounter("featurescope_interactive_tasks_total", "Interactive tasks run.",
                       worker([](const DeviceWorkerStats& s) { return s.interactive_tasks; }));
    metrics.AddCounter("featurescope_refused_total", "Tasks refused because the queue was full.",
                       worker([](const DeviceWorkerStats& s) { return s.refused; }));
    metrics.AddCounter("featurescope_background_quanta_total", "Quanta of background work run.",
                       worker([](const DeviceWorkerStats& s) { return s.background_quanta; }));
    metrics.AddCounter("featurescope_interactive_seconds_total",
                       "Device time of interactive tasks.", worker([](const DeviceWorkerStats& s) {
                         return absl::ToDoubleSeconds(s.interactive_busy);
                       }));
    metrics.AddCounter("featurescope_background_seconds_total", "Device time of background work.",
                       worker([](const DeviceWorkerStats& s) {
                         return absl::ToDoubleSeconds(s.background_busy);
                       }));
    metrics.AddGauge("featurescope_weights_bytes", "Memory of loaded models and SAEs.",
                     [this] { return static_cast<double>(catalog_->memory_used_bytes()); });
  }

  const AppOptions options_;
  const DeviceWorkerOptions worker_options_;
  const ComputeEnvironment environment_;
  const absl::Time started_;
  HubOptions hub_;
  bool stopped_ = false;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<DeviceWorker> worker_;
  std::unique_ptr<JobQueue> queue_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<JobRunner> runner_;
  std::unique_ptr<JobRunner> importer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<App>> App::Start(const AppOptions& options) {
  auto app = std::make_unique<AppImpl>(options);
  RETURN_IF_ERROR(app->Start());
  return app;
}

}  // namespace featurescope
