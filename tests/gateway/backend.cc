#include "tests/gateway/backend.h"

#include <cstdio>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"

namespace featurescope {
namespace {

std::string Text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return text;
  for (const auto& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

grpc::ByteBuffer Buffer(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

class Backend::Call final : public grpc::ServerGenericBidiReactor {
 public:
  Call(Backend* backend, grpc::GenericCallbackServerContext* context)
      : backend_(backend), context_(context) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    const std::string& method = context_->method();
    if (!ok) {
      Finish(grpc::Status(grpc::StatusCode::INTERNAL, "no request"));
    } else if (method == "/test.Echo/Unary") {
      context_->AddInitialMetadata("x-init", "hello");
      context_->AddInitialMetadata("x-init-bin", std::string("\0\xff", 2));
      context_->AddTrailingMetadata("x-trail", "bye");
      context_->AddTrailingMetadata("x-trail-bin", std::string("\x01\x02", 2));
      Answer(Text(request_));
    } else if (method == "/test.Echo/Stream") {
      int size = 0;
      std::sscanf(Text(request_).c_str(), "%d %d", &left_, &size);
      message_ = Buffer(std::string(static_cast<size_t>(size), 'm'));
      NextWrite();
    } else if (method == "/test.Echo/Fail") {
      // google.rpc.Status { code: 8 message: "no" }
      Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "100% of \xc3\xbc used",
                          std::string("\x08\x08\x12\x02no")));
    } else if (method == "/test.Echo/Metadata") {
      std::string lines;
      std::multimap<std::string, std::string> sorted;
      for (const auto& [key, value] : context_->client_metadata()) {
        sorted.emplace(std::string(key.data(), key.size()),
                       std::string(value.data(), value.size()));
      }
      for (const auto& [key, value] : sorted) absl::StrAppend(&lines, key, "=", value, "\n");
      Answer(lines);
    } else if (method == "/test.Echo/Wait") {
      StartSendInitialMetadata();
      absl::MutexLock lock(&backend_->mutex_);
      if (backend_->released_ || context_->IsCancelled()) {
        Finish(grpc::Status::OK);
      } else {
        backend_->waiting_.insert(this);
      }
    } else {
      Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no such method"));
    }
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&backend_->mutex_);
      if (ok) ++backend_->counts_.writes;
    }
    if (!ok) {
      Finish(grpc::Status::CANCELLED);
    } else if (context_->method() == "/test.Echo/Stream") {
      NextWrite();
    }
  }

  void OnCancel() override {
    absl::MutexLock lock(&backend_->mutex_);
    ++backend_->counts_.cancelled;
    if (backend_->waiting_.erase(this) > 0) Finish(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    {
      absl::MutexLock lock(&backend_->mutex_);
      --backend_->counts_.active;
    }
    delete this;
  }

 private:
  void Answer(const std::string& text) {
    message_ = Buffer(text);
    StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void NextWrite() {
    if (left_-- <= 0) {
      Finish(grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
  }

  Backend* const backend_;
  grpc::GenericCallbackServerContext* const context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer message_;
  int left_ = 0;
};

Backend::Backend(int max_receive_bytes) {
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(max_receive_bytes);
  builder.RegisterCallbackGenericService(this);
  server_ = builder.BuildAndStart();
}

Backend::~Backend() {
  Release();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  server_->Wait();
}

void Backend::Release() {
  absl::MutexLock lock(&mutex_);
  released_ = true;
  for (Call* call : waiting_) call->Finish(grpc::Status::OK);
  waiting_.clear();
}

BackendCounts Backend::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

bool Backend::Await(bool (*predicate)(const BackendCounts&)) const {
  absl::MutexLock lock(&mutex_);
  auto met = [this, predicate] { return predicate(counts_); };
  return mutex_.AwaitWithTimeout(absl::Condition(&met), absl::Minutes(2));
}

grpc::ServerGenericBidiReactor* Backend::CreateReactor(grpc::GenericCallbackServerContext* ctx) {
  {
    absl::MutexLock lock(&mutex_);
    ++counts_.started;
    ++counts_.active;
  }
  return new Call(this, ctx);
}

}  // namespace featurescope
