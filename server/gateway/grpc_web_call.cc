#include "server/gateway/grpc_web_call.h"

#include <chrono>
#include <map>
#include <utility>

namespace featurescope {
namespace {

GrpcWebMetadata CopyMetadata(const std::multimap<grpc::string_ref, grpc::string_ref>& source) {
  GrpcWebMetadata copy;
  for (const auto& [name, value] : source) {
    copy.emplace_back(std::string(name.data(), name.size()),
                      std::string(value.data(), value.size()));
  }
  return copy;
}

}  // namespace

GrpcWebCall::GrpcWebCall(const GrpcWebRequest& request, GrpcWebEvents events)
    : post_(events.post), events_(std::move(events)) {
  const grpc::Slice slice(request.message);
  request_ = grpc::ByteBuffer(&slice, 1);
  for (const auto& [name, value] : request.metadata) context_.AddMetadata(name, value);
  if (request.timeout) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + *request.timeout));
  }
}

std::shared_ptr<GrpcWebCall> GrpcWebCall::Start(grpc::GenericStub* stub, GrpcWebRequest request,
                                                GrpcWebEvents events) {
  std::shared_ptr<GrpcWebCall> call(new GrpcWebCall(request, std::move(events)));
  call->self_ = call;
  stub->PrepareBidiStreamingCall(&call->context_, request.path, /*options=*/{}, call.get());
  call->AddHold();
  // Before the request: the in-process transport drops a message that the server sends together
  // with its status (every unary answer) when no read is waiting for it.
  call->StartRead(&call->response_);
  call->StartWriteLast(&call->request_, grpc::WriteOptions());
  call->StartCall();
  return call;
}

void GrpcWebCall::ReadNext() {
  if (!holding_ || reading_) return;
  reading_ = true;
  StartRead(&response_);
}

void GrpcWebCall::Cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  context_.TryCancel();
  if (!reading_) ReleaseHold();
}

void GrpcWebCall::ReleaseHold() {
  if (!std::exchange(holding_, false)) return;
  RemoveHold();
}

void GrpcWebCall::OnReadInitialMetadataDone(bool ok) {
  Post([this, self = self_, ok] {
    if (cancelled_) return;
    if (ok) events_.on_initial_metadata(CopyMetadata(context_.GetServerInitialMetadata()));
    initial_done_ = true;
    if (std::exchange(message_waiting_, false)) DeliverMessage();
  });
}

void GrpcWebCall::OnReadDone(bool ok) {
  Post([this, self = self_, ok] {
    reading_ = false;
    if (!ok || cancelled_) {
      ReleaseHold();
    } else if (!initial_done_) {  // its callback runs on another thread and may come second
      message_waiting_ = true;
    } else {
      DeliverMessage();
    }
  });
}

void GrpcWebCall::DeliverMessage() {
  std::vector<grpc::Slice> slices;
  const bool dumped = response_.Dump(&slices).ok();
  response_.Clear();
  if (dumped) {
    events_.on_message(std::move(slices));
  } else {
    Cancel();
  }
}

void GrpcWebCall::OnDone(const grpc::Status& status) {
  // Kept here as well: the posted work may end before post_ has returned.
  const std::shared_ptr<GrpcWebCall> self = std::move(self_);
  GrpcWebStatus end{status.error_code(), status.error_message(), status.error_details()};
  Post([self, end = std::move(end), trailers = CopyMetadata(context_.GetServerTrailingMetadata())] {
    // Moved out because the events own the connection, which owns this call.
    const GrpcWebEvents events = std::move(self->events_);
    events.on_end(end, trailers);
  });
}

}  // namespace featurescope
