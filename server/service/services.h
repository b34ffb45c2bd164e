// The four services of the contract. Thin: look up handles, convert, call the core, convert back.
#pragma once

#include <functional>
#include <memory>

#include "featurescope/v1/catalog.grpc.pb.h"
#include "featurescope/v1/explore.grpc.pb.h"
#include "featurescope/v1/features.grpc.pb.h"
#include "featurescope/v1/jobs.grpc.pb.h"
#include "server/catalog/catalog.h"
#include "server/engine/device_worker.h"
#include "server/jobs/job_queue.h"
#include "server/service/rpc.h"

namespace featurescope {

// What the handlers work with; all of it outlives the services.
struct ServiceDependencies {
  RpcEnvironment rpc;
  Catalog* catalog = nullptr;
  DeviceWorker* worker = nullptr;
  JobQueue* jobs = nullptr;
  std::function<v1::ServerInfo()> server_info;
};

std::unique_ptr<grpc::Service> MakeCatalogService(const ServiceDependencies* dependencies);
std::unique_ptr<grpc::Service> MakeExploreService(const ServiceDependencies* dependencies);
std::unique_ptr<grpc::Service> MakeFeatureService(const ServiceDependencies* dependencies);
std::unique_ptr<grpc::Service> MakeJobService(const ServiceDependencies* dependencies);

}  // namespace featurescope
