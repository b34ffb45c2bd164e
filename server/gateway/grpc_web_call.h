// One call from the gateway into the gRPC server, on raw bytes.
//
// The call lives on its connection's strand: every public method is called there, and every event
// is delivered there through `post`. gRPC's own threads only post.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/slice.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/gateway/grpc_web_frames.h"

namespace featurescope {

struct GrpcWebRequest {
  std::string path;                       // /package.Service/Method
  std::string message;                    // the serialised request
  GrpcWebMetadata metadata;               // already checked: illegal ones abort inside gRPC
  std::optional<absl::Duration> timeout;  // from grpc-timeout, counted from Start
};

struct GrpcWebEvents {
  std::function<void(std::function<void()>)> post;  // runs its argument on the strand
  std::function<void(GrpcWebMetadata)> on_initial_metadata;
  std::function<void(std::vector<grpc::Slice>)> on_message;    // ask for the next with ReadNext
  std::function<void(GrpcWebStatus, GrpcWebMetadata)> on_end;  // exactly once, the last event
};

class GrpcWebCall final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // Sends the request and asks for the first message. The call keeps itself alive until on_end.
  static std::shared_ptr<GrpcWebCall> Start(grpc::GenericStub* stub, GrpcWebRequest request,
                                            GrpcWebEvents events);

  // Asks for one more message. REQUIRES: the last one has been delivered.
  void ReadNext();

  // Ends the call early; on_end follows, messages may not.
  void Cancel();

 private:
  GrpcWebCall(const GrpcWebRequest& request, GrpcWebEvents events);

  void OnReadInitialMetadataDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  void DeliverMessage();
  void ReleaseHold();
  void Post(std::function<void()> work) { post_(std::move(work)); }

  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  const std::function<void(std::function<void()>)> post_;
  GrpcWebEvents events_;
  std::shared_ptr<GrpcWebCall> self_;  // until OnDone

  // On the strand only. The hold keeps OnDone away while no read is pending: a read must not be
  // started on a call that is done.
  bool holding_ = true;
  bool reading_ = true;
  bool initial_done_ = false;
  bool message_waiting_ = false;  // read before the initial metadata was delivered
  bool cancelled_ = false;
};

}  // namespace featurescope
