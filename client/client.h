// The C++ client: a connection to a Featurescope server and its services.
//
//   Client client("127.0.0.1:50051");
//   v1::Model model;
//   absl::Status status = client.Call(client.catalog(), &v1::CatalogService::Stub::GetModel,
//   request, &model);
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "featurescope/v1/catalog.grpc.pb.h"
#include "featurescope/v1/explore.grpc.pb.h"
#include "featurescope/v1/features.grpc.pb.h"
#include "featurescope/v1/jobs.grpc.pb.h"

namespace featurescope {

// The absl status of a gRPC one; the field that is wrong, if the server named it, is in the
// message.
absl::Status FromGrpcStatus(const grpc::Status& status);

// Thread-safe. Connects when it is first used.
class Client {
 public:
  // `address` is HOST:PORT or unix:PATH.
  explicit Client(const std::string& address);

  v1::CatalogService::Stub& catalog() { return *catalog_; }
  v1::ExploreService::Stub& explore() { return *explore_; }
  v1::FeatureService::Stub& features() { return *features_; }
  v1::JobService::Stub& jobs() { return *jobs_; }

  const std::string& address() const { return address_; }

  // A unary call, e.g. Call(client.catalog(), &v1::CatalogService::Stub::GetModel, request,
  // &model).
  //   errors  those of the server; Unavailable naming the address when none answers
  template <typename Stub, typename Request, typename Response>
  absl::Status Call(Stub& stub,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response,
                    absl::Duration timeout = absl::Seconds(120)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    return Explain((stub.*method)(&context, request, response));
  }

  // The status of a finished stream, as Call gives it.
  absl::Status Explain(const grpc::Status& status) const;

 private:
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_;
  std::unique_ptr<v1::ExploreService::Stub> explore_;
  std::unique_ptr<v1::FeatureService::Stub> features_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

}  // namespace featurescope
