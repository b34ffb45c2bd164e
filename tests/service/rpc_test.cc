// The guard that every RPC passes, over real gRPC: a service of the contract with bodies of our
// own.
#include "server/service/rpc.h"

#include <thread>

#include "absl/synchronization/notification.h"
#include "featurescope/v1/catalog.grpc.pb.h"
#include "featurescope/v1/explore.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

class FakeCatalog final : public v1::CatalogService::CallbackService {
 public:
  explicit FakeCatalog(const RpcEnvironment* environment) : environment_(*environment) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override {
    return StartUnary(this, environment_, "Fake.GetModel", context, request, response,
                      &FakeCatalog::DoGetModel);
  }
  grpc::ServerWriteReactor<v1::AddCorpusResponse>* AddCorpus(
      grpc::CallbackServerContext* context, const v1::AddCorpusRequest* request) override {
    return StartServerStream(this, environment_, environment_.watchers, "Fake.AddCorpus", context,
                             request, &FakeCatalog::DoAddCorpus);
  }

  absl::Notification entered;
  absl::Notification stream_ended;
  std::atomic<int> written{0};

 private:
  absl::Status DoGetModel(const v1::GetModelRequest& request, v1::Model* response,
                          const CallContext& call) {
    response->set_id(request.model_id());
    if (request.model_id() == "wait") {
      entered.Notify();
      while (!call.cancel.cancelled()) absl::SleepFor(absl::Milliseconds(1));
      return call.cancel.Check();
    }
    return request.model_id().empty() ? InvalidField("model_id", "model_id is empty")
                                      : absl::OkStatus();
  }

  absl::Status DoAddCorpus(const v1::AddCorpusRequest&,
                           MessageWriter<v1::AddCorpusResponse>& writer, const CallContext&) {
    v1::AddCorpusResponse response;
    response.mutable_corpus()->set_id(std::string(1 << 20, 'x'));
    absl::Status status;
    while (status.ok()) {
      status = writer.Write(response);
      ++written;
    }
    stream_ended.Notify();
    return status;
  }

  const RpcEnvironment& environment_;
};

class RpcTest : public ::testing::Test {
 protected:
  RpcTest()
      : pool_("calls", 1, 0),
        watchers_("watches", 1, 0),
        environment_{&pool_, &watchers_, &metrics_} {
    fake_ = std::make_unique<FakeCatalog>(&environment_);
    int port = 0;
    grpc::ServerBuilder builder;
    builder.RegisterService(fake_.get());
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server_ = builder.BuildAndStart();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = v1::CatalogService::NewStub(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), arguments));
  }
  ~RpcTest() override { server_->Shutdown(absl::ToChronoTime(absl::Now())); }

  grpc::Status GetModel(const std::string& id, absl::Duration timeout = absl::Seconds(30)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    v1::GetModelRequest request;
    request.set_model_id(id);
    v1::Model model;
    return stub_->GetModel(&context, request, &model);
  }

  Metrics metrics_;
  RequestPool pool_;
  RequestPool watchers_;
  RpcEnvironment environment_;
  std::unique_ptr<FakeCatalog> fake_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::CatalogService::Stub> stub_;
};

TEST_F(RpcTest, StatusesReachTheClientAndTheMetrics) {
  EXPECT_TRUE(GetModel("a").ok());
  const grpc::Status status = GetModel("");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_details(), "");
  EXPECT_THAT(metrics_.Render(), HasSubstr("{method=\"Fake.GetModel\",code=\"OK\"} 1"));
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("{method=\"Fake.GetModel\",code=\"INVALID_ARGUMENT\"} 1"));
}

TEST_F(RpcTest, AClientThatCancelsFreesTheBody) {
  grpc::ClientContext context;
  std::thread caller([&] {
    v1::GetModelRequest request;
    request.set_model_id("wait");
    v1::Model model;
    EXPECT_EQ(stub_->GetModel(&context, request, &model).error_code(), grpc::StatusCode::CANCELLED);
  });
  fake_->entered.WaitForNotification();
  context.TryCancel();
  caller.join();
  EXPECT_TRUE(pool_.Drain(absl::Seconds(30)));
}

TEST_F(RpcTest, TheDeadlineReachesTheBody) {
  EXPECT_EQ(GetModel("wait", absl::Milliseconds(50)).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(pool_.Drain(absl::Seconds(30)));
}

TEST_F(RpcTest, AFullPoolRefusesAtOnceWithoutRunningTheBody) {
  grpc::ClientContext context;
  std::thread caller([&] {
    v1::GetModelRequest request;
    request.set_model_id("wait");
    v1::Model model;
    stub_->GetModel(&context, request, &model);
  });
  fake_->entered.WaitForNotification();
  EXPECT_EQ(GetModel("a").error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  context.TryCancel();
  caller.join();
}

TEST_F(RpcTest, ADrainingPoolAnswersUnavailable) {
  pool_.Drain(absl::ZeroDuration());
  EXPECT_EQ(GetModel("a").error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(RpcTest, ASlowReaderHoldsTheWriterBackAndAGoneOneEndsIt) {
  grpc::ClientContext context;
  auto stream = stub_->AddCorpus(&context, v1::AddCorpusRequest());
  v1::AddCorpusResponse response;
  ASSERT_TRUE(stream->Read(&response));
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_LT(fake_->written, 64) << "the writer ran far ahead of a reader that does not read";
  context.TryCancel();
  EXPECT_TRUE(fake_->stream_ended.WaitForNotificationWithTimeout(absl::Seconds(30)));
}

}  // namespace
}  // namespace featurescope
