// A gRPC server for the gateway's tests that answers on raw bytes, so that no .proto is needed:
//
//   /test.Echo/Unary     the request back, with initial and trailing metadata
//   /test.Echo/Stream    "COUNT SIZE": COUNT messages of SIZE bytes
//   /test.Echo/Fail      RESOURCE_EXHAUSTED with a message and details
//   /test.Echo/Metadata  the call's metadata as sorted lines "key=value"
//   /test.Echo/Wait      initial metadata, then nothing until the call is cancelled or Release()
//   anything else        UNIMPLEMENTED
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <memory>
#include <set>
#include <string>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace featurescope {

struct BackendCounts {
  int started = 0;
  int active = 0;     // reactors that are not done
  int cancelled = 0;  // calls that saw OnCancel
  int writes = 0;     // messages whose write was completed
};

class Backend final : public grpc::CallbackGenericService {
 public:
  explicit Backend(int max_receive_bytes = 16 << 20);
  ~Backend() override;

  grpc::Server& server() { return *server_; }

  // Lets every waiting call, and those to come, finish OK.
  void Release();

  BackendCounts counts() const;
  // Waits until `predicate(counts)`; false after two minutes.
  bool Await(bool (*predicate)(const BackendCounts&)) const;

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* ctx) override;

 private:
  class Call;

  mutable absl::Mutex mutex_;
  BackendCounts counts_;
  bool released_ = false;
  std::set<Call*> waiting_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace featurescope
