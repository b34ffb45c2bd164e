// How an RPC runs: gRPC's threads only hand it over; its body runs on a bounded pool in blocking
// style.
//
// Every method passes the same guard: drain gate, full-pool refusal, deadline cap, cancellation
// bound to a CancelToken, metrics, and conversion of the status. A handler is a function of about
// ten lines:
//   absl::Status Handle(const Request&, Response*, const CallContext&)
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/cancel.h"
#include "server/service/metrics.h"
#include "server/service/request_pool.h"
#include "server/service/status_conversion.h"
#include "server/tensor/gate.h"

namespace featurescope {

// What all RPCs share.
struct RpcEnvironment {
  RequestPool* pool = nullptr;      // short calls and computing
  RequestPool* watchers = nullptr;  // long-lived streams that mostly wait
  Metrics* metrics = nullptr;
  absl::Duration max_unary = absl::Seconds(120);  // the longest deadline of a unary call
  absl::Duration max_stream = absl::Hours(1);     // and of a stream
};

struct CallContext {
  CancelToken cancel;
};

// One call's way through the guard; the base of the three kinds of reactor.
class Call {
 public:
  Call(const RpcEnvironment& environment, RequestPool* pool, const char* method,
       absl::Duration limit, grpc::CallbackServerContext* context)
      : environment_(environment),
        pool_(pool),
        method_(method),
        start_(absl::Now()),
        cancel_(std::min(absl::FromChrono(context->deadline()), start_ + limit)) {
    environment_.metrics->CallStarted(method_);
  }

 protected:
  // Runs `body` on the pool and then `finish` with its status; `finish` alone when refused.
  template <typename Body, typename Finish>
  void Start(Body body, Finish finish) {
    const absl::Status refused = pool_->Submit([this, body, finish] {
      absl::Status status = cancel_.Check();
      if (status.ok()) {
        try {
          status = body();
        } catch (...) {
          // Whatever goes wrong in one call, the server keeps serving the others.
          status = StatusOfCurrentException(method_);
        }
      }
      Report(status);
      finish(ToGrpcStatus(status));
    });
    if (!refused.ok()) {
      Report(refused);
      finish(ToGrpcStatus(refused));
    }
  }

  const CancelToken& cancel() const { return cancel_; }

 private:
  void Report(const absl::Status& status) {
    environment_.metrics->CallFinished(method_, status.code(), absl::Now() - start_);
  }

  const RpcEnvironment& environment_;
  RequestPool* const pool_;
  const char* const method_;
  const absl::Time start_;
  const CancelToken cancel_;
};

template <typename Request, typename Response>
class UnaryCall final : public grpc::ServerUnaryReactor, private Call {
 public:
  using Handler = std::function<absl::Status(const Request&, Response*, const CallContext&)>;

  UnaryCall(const RpcEnvironment& environment, const char* method,
            grpc::CallbackServerContext* context, const Request* request, Response* response,
            Handler handler)
      : Call(environment, environment.pool, method, environment.max_unary, context) {
    Start([this, request, response,
           handler = std::move(handler)] { return handler(*request, response, {cancel()}); },
          [this](const grpc::Status& status) { Finish(status); });
  }

  void OnCancel() override { cancel().Cancel(); }
  void OnDone() override { delete this; }
};

// Where a handler writes its messages, one after another; Write waits until the peer has room.
template <typename Response>
class MessageWriter {
 public:
  virtual ~MessageWriter() = default;
  // errors  Cancelled  the peer is gone or the call was cancelled
  virtual absl::Status Write(const Response& response) = 0;
};

// One asynchronous read or write of a stream at a time, and the wait for its end.
class StreamStep {
 public:
  void Begin() {
    absl::MutexLock lock(&mutex_);
    pending_ = true;
  }
  void Done(bool ok) {
    absl::MutexLock lock(&mutex_);
    pending_ = false;
    ok_ = ok;
  }
  bool Wait() {
    absl::MutexLock lock(&mutex_);
    auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !pending_; };
    mutex_.Await(absl::Condition(&done));
    return ok_;
  }

 private:
  absl::Mutex mutex_;
  bool pending_ ABSL_GUARDED_BY(mutex_) = false;
  bool ok_ ABSL_GUARDED_BY(mutex_) = false;
};

template <typename Request, typename Response>
class ServerStreamCall final : public grpc::ServerWriteReactor<Response>,
                               private Call,
                               private MessageWriter<Response> {
 public:
  using Handler =
      std::function<absl::Status(const Request&, MessageWriter<Response>&, const CallContext&)>;

  ServerStreamCall(const RpcEnvironment& environment, RequestPool* pool, const char* method,
                   grpc::CallbackServerContext* context, const Request* request, Handler handler)
      : Call(environment, pool, method, environment.max_stream, context) {
    Start([this, request,
           handler = std::move(handler)] { return handler(*request, *this, {cancel()}); },
          [this](const grpc::Status& status) { this->Finish(status); });
  }

  void OnWriteDone(bool ok) override { write_.Done(ok); }
  void OnCancel() override { cancel().Cancel(); }
  void OnDone() override { delete this; }

 private:
  absl::Status Write(const Response& response) override {
    if (absl::Status status = cancel().Check(); !status.ok()) return status;
    write_.Begin();
    this->StartWrite(&response);
    if (!write_.Wait()) return absl::CancelledError("the client closed the stream");
    return absl::OkStatus();
  }

  StreamStep write_;
};

// Reads and writes of a bidirectional stream.
template <typename Request, typename Response>
class MessageStream : public MessageWriter<Response> {
 public:
  // False once the client has sent everything.
  virtual bool Read(Request* request) = 0;
};

template <typename Request, typename Response>
class BidiStreamCall final : public grpc::ServerBidiReactor<Request, Response>,
                             private Call,
                             private MessageStream<Request, Response> {
 public:
  using Handler =
      std::function<absl::Status(MessageStream<Request, Response>&, const CallContext&)>;

  BidiStreamCall(const RpcEnvironment& environment, const char* method,
                 grpc::CallbackServerContext* context, Handler handler)
      : Call(environment, environment.pool, method, environment.max_stream, context) {
    Start([this, handler = std::move(handler)] { return handler(*this, {cancel()}); },
          [this](const grpc::Status& status) { this->Finish(status); });
  }

  void OnReadDone(bool ok) override { read_.Done(ok); }
  void OnWriteDone(bool ok) override { write_.Done(ok); }
  void OnCancel() override { cancel().Cancel(); }
  void OnDone() override { delete this; }

 private:
  bool Read(Request* request) override {
    read_.Begin();
    this->StartRead(request);
    return read_.Wait();
  }
  absl::Status Write(const Response& response) override {
    if (absl::Status status = cancel().Check(); !status.ok()) return status;
    write_.Begin();
    this->StartWrite(&response);
    if (!write_.Wait()) return absl::CancelledError("the client closed the stream");
    return absl::OkStatus();
  }

  StreamStep read_;
  StreamStep write_;
};

// Each of these starts a call whose body is a member function of the service; the reactor deletes
// itself.
template <typename Service, typename Request, typename Response>
grpc::ServerUnaryReactor* StartUnary(Service* service, const RpcEnvironment& environment,
                                     const char* method, grpc::CallbackServerContext* context,
                                     const Request* request, Response* response,
                                     absl::Status (Service::*body)(const Request&, Response*,
                                                                   const CallContext&)) {
  return new UnaryCall<Request, Response>(
      environment, method, context, request, response,
      [service, body](const Request& in, Response* out, const CallContext& call) {
        return (service->*body)(in, out, call);
      });
}

template <typename Service, typename Request, typename Response>
grpc::ServerWriteReactor<Response>* StartServerStream(
    Service* service, const RpcEnvironment& environment, RequestPool* pool, const char* method,
    grpc::CallbackServerContext* context, const Request* request,
    absl::Status (Service::*body)(const Request&, MessageWriter<Response>&, const CallContext&)) {
  return new ServerStreamCall<Request, Response>(
      environment, pool, method, context, request,
      [service, body](const Request& in, MessageWriter<Response>& out, const CallContext& call) {
        return (service->*body)(in, out, call);
      });
}

template <typename Service, typename Request, typename Response>
grpc::ServerBidiReactor<Request, Response>* StartBidiStream(
    Service* service, const RpcEnvironment& environment, const char* method,
    grpc::CallbackServerContext* context,
    absl::Status (Service::*body)(MessageStream<Request, Response>&, const CallContext&)) {
  return new BidiStreamCall<Request, Response>(
      environment, method, context,
      [service, body](MessageStream<Request, Response>& stream, const CallContext& call) {
        return (service->*body)(stream, call);
      });
}

}  // namespace featurescope
