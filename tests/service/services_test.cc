// The four services on a real port, with a real catalog, device worker and job queue behind them.
#include "server/service/services.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <latch>
#include <limits>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "featurescope/v1/errors.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/jobs/job_runner.h"
#include "server/service/rpc_server.h"
#include "tests/base/temp_dir.h"
#include "tests/catalog/tiny_model.h"

namespace featurescope {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::MessageFactory;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr size_t kMaxMessageBytes = 1 << 20;
constexpr char kGolden[] = FEATURESCOPE_SOURCE_DIR "/tests/golden/";
constexpr char kHook[] = "blocks.1.hook_resid_post";
// For calls that should end by themselves: no test waits for it unless something hangs.
constexpr absl::Duration kPatience = absl::Minutes(2);

std::vector<const ServiceDescriptor*> Services() {
  std::vector<const ServiceDescriptor*> services;
  for (const char* name : {"catalog", "explore", "features", "jobs"}) {
    const auto* file = DescriptorPool::generated_pool()->FindFileByName(
        absl::StrCat("featurescope/v1/", name, ".proto"));
    for (int i = 0; i < file->service_count(); ++i) services.push_back(file->service(i));
  }
  return services;
}

std::vector<const MethodDescriptor*> Methods() {
  std::vector<const MethodDescriptor*> methods;
  for (const ServiceDescriptor* service : Services()) {
    for (int i = 0; i < service->method_count(); ++i) methods.push_back(service->method(i));
  }
  return methods;
}

std::string PathOf(const MethodDescriptor& method) {
  return absl::StrCat("/", method.service()->full_name(), "/", method.name());
}

void SetDeadline(grpc::ClientContext* context, absl::Duration timeout = kPatience) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

// What came back from a call: its messages, serialized, and its status.
struct Outcome {
  std::vector<std::string> messages;
  grpc::Status status;
};

std::string Text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

// Calls any kind of method by its path with one message.
Outcome CallGeneric(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                    const std::string& request, absl::Duration timeout = kPatience) {
  Outcome outcome;
  grpc::ClientContext context;
  SetDeadline(&context, timeout);
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  const auto done = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call = stub.PrepareCall(&context, path, &queue);
  call->StartCall(nullptr);
  done();
  const grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  done();
  while (true) {
    grpc::ByteBuffer message;
    call->Read(&message, nullptr);
    if (!done()) break;
    outcome.messages.push_back(Text(message));
  }
  call->Finish(&outcome.status, nullptr);
  done();
  return outcome;
}

// The fields that a status names as google.rpc.BadRequest.
std::vector<std::string> ViolatedFields(const grpc::Status& status) {
  std::vector<std::string> fields;
  v1::RpcStatus details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  for (const auto& detail : details.details()) {
    v1::BadRequest bad_request;
    EXPECT_TRUE(bad_request.ParseFromString(detail.value()));
    for (const auto& violation : bad_request.field_violations()) {
      fields.push_back(violation.field());
    }
  }
  return fields;
}

class ServicesTest : public ::testing::Test {
 protected:
  ServicesTest() {
    CatalogOptions options;
    options.allowed_roots = {"/"};
    catalog_ = Catalog::Open(dir_ / "data", options).value();
    worker_ = std::make_unique<DeviceWorker>(DeviceWorkerOptions());
    queue_ = std::make_unique<JobQueue>(catalog_.get());
    ServiceDependencies dependencies;
    dependencies.catalog = catalog_.get();
    dependencies.worker = worker_.get();
    dependencies.jobs = queue_.get();
    dependencies.server_info = [] {
      v1::ServerInfo info;
      info.set_version("test");
      return info;
    };
    RpcServerOptions rpc;
    rpc.listen = "127.0.0.1:0";
    rpc.max_message_bytes = kMaxMessageBytes;
    rpc_ = RpcServer::Start(rpc, std::move(dependencies)).value();
    // No imports: nothing here asks a hub.
    JobRunnerOptions runner;
    runner.kinds = {kTrainingKind, kSweepKind, kIndexingKind};
    runner_ = std::make_unique<JobRunner>(queue_.get(), worker_.get(), runner);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel_ = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", rpc_->port()),
                                         grpc::InsecureChannelCredentials(), arguments);
    catalog_stub_ = v1::CatalogService::NewStub(channel_);
    explore_ = v1::ExploreService::NewStub(channel_);
    features_ = v1::FeatureService::NewStub(channel_);
    jobs_ = v1::JobService::NewStub(channel_);
  }

  ~ServicesTest() override {
    rpc_->StopAccepting();
    queue_->Shutdown();
    runner_->Stop();
    worker_->Shutdown();
    rpc_->WaitForCalls(kPatience);
    rpc_->Shutdown();
    rpc_.reset();
    runner_.reset();
  }

  template <typename Stub, typename Request, typename Response>
  grpc::Status Unary(Stub& stub,
                     grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                     const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(&context);
    return (stub.*method)(&context, request, response);
  }

  // The golden model as "golden" and, of another width, the golden SAE as "golden-sae".
  void AddGolden() {
    const auto model = catalog_->AddModel("golden", absl::StrCat(kGolden, "lm/gpt2"));
    ASSERT_TRUE(model.ok()) << model.status();
    const auto sae = catalog_->AddSae("golden-sae", absl::StrCat(kGolden, "sae/saelens/v6_topk"),
                                      {"golden", "", true});
    ASSERT_TRUE(sae.ok()) << sae.status();
  }

  // Model "m" with a tokenizer, its SAE "s", and corpus "c".
  void AddTiny() {
    WriteTinyModel(dir_ / "m", true);
    WriteTinySae(dir_ / "s", kTinyWidth, kHook);
    WriteTinyText(dir_ / "text.jsonl", 60);
    v1::AddModelRequest model;
    model.set_model_id("m"), model.set_path(dir_ / "m");
    v1::Model added;
    grpc::Status status = Unary(*catalog_stub_, &v1::CatalogService::Stub::AddModel, model, &added);
    ASSERT_TRUE(status.ok()) << status.error_message();
    v1::AddSaeRequest sae;
    sae.set_sae_id("s"), sae.set_path(dir_ / "s"), sae.set_model_id("m");
    v1::Sae added_sae;
    status = Unary(*catalog_stub_, &v1::CatalogService::Stub::AddSae, sae, &added_sae);
    ASSERT_TRUE(status.ok()) << status.error_message();
    v1::AddCorpusRequest corpus;
    corpus.set_corpus_id("c"), corpus.set_model_id("m"), corpus.add_paths(dir_ / "text.jsonl");
    grpc::ClientContext context;
    SetDeadline(&context);
    const auto stream = catalog_stub_->AddCorpus(&context, corpus);
    v1::AddCorpusResponse progress;
    while (stream->Read(&progress)) {
    }
    status = stream->Finish();
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_GT(progress.corpus().n_tokens(), 0u);
  }

  // Indexes "s" on "c" by a job and watches it to its end.
  void IndexTiny() {
    v1::SubmitIndexingRequest submission;
    submission.mutable_spec()->set_sae_id("s");
    submission.mutable_spec()->set_corpus_id("c");
    v1::Job job;
    grpc::Status status = Unary(*jobs_, &v1::JobService::Stub::SubmitIndexing, submission, &job);
    ASSERT_TRUE(status.ok()) << status.error_message();
    {
      grpc::ClientContext context;
      SetDeadline(&context);
      v1::WatchJobsRequest watch;
      watch.add_job_ids(job.id());
      const auto stream = jobs_->WatchJobs(&context, watch);
      v1::WatchJobsResponse event;
      while (job.finished().empty() && stream->Read(&event)) {
        if (event.has_job()) job = event.job();
      }
      context.TryCancel();
      stream->Finish();
    }
    ASSERT_EQ(job.state(), v1::SUCCEEDED) << job.error();
  }

  v1::GenerateRequest GenerateFromGolden() const {
    v1::GenerateRequest request;
    request.set_model_id("golden");
    for (uint32_t id : {1, 2, 3}) request.mutable_prompt()->mutable_token_ids()->add_ids(id);
    request.set_max_new_tokens(4);
    return request;
  }

  grpc::Status Generate(const v1::GenerateRequest& request, absl::Duration timeout,
                        std::vector<v1::GenerateResponse>* responses) {
    grpc::ClientContext context;
    SetDeadline(&context, timeout);
    const auto stream = explore_->Generate(&context, request);
    v1::GenerateResponse response;
    while (stream->Read(&response)) responses->push_back(response);
    return stream->Finish();
  }

  TempDir dir_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<DeviceWorker> worker_;
  std::unique_ptr<JobQueue> queue_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<JobRunner> runner_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_stub_;
  std::unique_ptr<v1::ExploreService::Stub> explore_;
  std::unique_ptr<v1::FeatureService::Stub> features_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

TEST_F(ServicesTest, HealthServesUntilTheServerStopsAccepting) {
  // grpc.health.v1.HealthCheckResponse { status: SERVING = 1, NOT_SERVING = 2 }
  const std::string health = "/grpc.health.v1.Health/Check";
  Outcome outcome = CallGeneric(channel_, health, "");
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_THAT(outcome.messages, ::testing::ElementsAre("\x08\x01"));
  rpc_->StopAccepting();
  outcome = CallGeneric(channel_, health, "");
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_THAT(outcome.messages, ::testing::ElementsAre("\x08\x02"));
  for (const MethodDescriptor* method : Methods()) {
    EXPECT_EQ(CallGeneric(channel_, PathOf(*method), "").status.error_code(),
              grpc::StatusCode::UNAVAILABLE)
        << PathOf(*method);
  }
}

TEST_F(ServicesTest, ReflectionListsTheFourServices) {
  // ServerReflectionRequest { list_services: "" }
  const Outcome outcome =
      CallGeneric(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                  std::string("\x3a\0", 2));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  ASSERT_EQ(outcome.messages.size(), 1u);
  ASSERT_EQ(Services().size(), 4u);
  for (const ServiceDescriptor* service : Services()) {
    EXPECT_THAT(outcome.messages[0], HasSubstr(service->full_name()));
  }
}

TEST_F(ServicesTest, EveryMethodAnswersAnEmptyRequestClearly) {
  AddGolden();
  for (const MethodDescriptor* method : Methods()) {
    // The stream of changes has no end of its own.
    const bool endless = method->name() == "WatchJobs";
    const Outcome outcome =
        CallGeneric(channel_, PathOf(*method), "", endless ? absl::Milliseconds(200) : kPatience);
    const grpc::Status& status = outcome.status;
    if (endless) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
      continue;
    }
    EXPECT_THAT(status.error_code(), AnyOf(grpc::StatusCode::OK, grpc::StatusCode::NOT_FOUND,
                                           grpc::StatusCode::INVALID_ARGUMENT))
        << PathOf(*method) << ": " << status.error_message();
    EXPECT_EQ(status.ok(), !outcome.messages.empty()) << PathOf(*method);
    EXPECT_EQ(status.ok(), status.error_message().empty()) << PathOf(*method);
  }
}

TEST_F(ServicesTest, UnknownMethodsAreUnimplemented) {
  EXPECT_EQ(
      CallGeneric(channel_, "/featurescope.v1.CatalogService/Nonsense", "").status.error_code(),
      grpc::StatusCode::UNIMPLEMENTED);
}

// One way to fill in every field of a request.
struct Filling {
  std::string text;  // of fields that are no id
  bool real_ids;     // else ids are `text` too
  uint64_t integer;
  double real;
  int elements;  // of repeated fields; a fifth of it in each message within
};

std::string TextFor(const FieldDescriptor& field, const Filling& filling) {
  if (filling.real_ids && field.name() == "model_id") return "m";
  if (filling.real_ids && field.name() == "corpus_id") return "c";
  if (filling.real_ids && absl::StrContains(field.name(), "sae_id")) return "s";
  return filling.text;
}

void FillField(Message* message, const FieldDescriptor* field, const Filling& filling, int depth);

void Fill(Message* message, const Filling& filling, int depth = 0) {
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    FillField(message, message->GetDescriptor()->field(i), filling, depth);
  }
}

void FillField(Message* message, const FieldDescriptor* field, const Filling& filling, int depth) {
  const auto* reflection = message->GetReflection();
  const bool repeated = field->is_repeated();
  int elements = filling.elements;
  for (int i = 0; i < depth; ++i) elements = std::max(elements / 5, 1);
  const auto integer = [&](auto zero) { return static_cast<decltype(zero)>(filling.integer); };
  for (int i = 0; i < (repeated ? elements : 1); ++i) {
    switch (field->cpp_type()) {
#define FILL(TYPE, NAME, VALUE)                     \
  case FieldDescriptor::CPPTYPE_##TYPE:             \
    if (repeated) {                                 \
      reflection->Add##NAME(message, field, VALUE); \
    } else {                                        \
      reflection->Set##NAME(message, field, VALUE); \
    }                                               \
    break;
      FILL(INT32, Int32, integer(int32_t{}))
      FILL(INT64, Int64, integer(int64_t{}))
      FILL(UINT32, UInt32, integer(uint32_t{}))
      FILL(UINT64, UInt64, integer(uint64_t{}))
      FILL(FLOAT, Float, static_cast<float>(filling.real))
      FILL(DOUBLE, Double, filling.real)
      FILL(BOOL, Bool, filling.integer != 0)
      FILL(ENUM, EnumValue, static_cast<int>(filling.integer % 100))
      FILL(STRING, String, TextFor(*field, filling))
#undef FILL
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (depth < 8) {
          Fill(repeated ? reflection->AddMessage(message, field)
                        : reflection->MutableMessage(message, field),
               filling, depth + 1);
        }
    }
  }
}

TEST_F(ServicesTest, HostileValuesInEveryFieldAreAnsweredAndTheServerGoesOn) {
  AddTiny();
  IndexTiny();
  const double infinity = std::numeric_limits<double>::infinity();
  const uint64_t largest = std::numeric_limits<uint64_t>::max();
  const Filling fillings[] = {
      {"../../etc/passwd", true, largest, infinity, 3},
      {"", true, 0, 0, 1},
      {"x", true, 1, std::numeric_limits<double>::quiet_NaN(), 1},
      {kHook, true, 2, -1e300, 2},
      {std::string(1000, '\n'), false, largest / 2, 1e-300, 100},
  };
  for (const MethodDescriptor* method : Methods()) {
    for (Filling filling : fillings) {
      if (absl::StartsWith(method->name(), "Delete")) filling.real_ids = false;
      const std::unique_ptr<Message> request(
          MessageFactory::generated_factory()->GetPrototype(method->input_type())->New());
      Fill(request.get(), filling);
      const bool endless = method->name() == "WatchJobs";
      const grpc::Status status =
          CallGeneric(channel_, PathOf(*method), request->SerializeAsString(),
                      endless ? absl::Milliseconds(200) : kPatience)
              .status;
      EXPECT_THAT(status.error_code(),
                  AnyOf(grpc::StatusCode::OK, grpc::StatusCode::NOT_FOUND,
                        grpc::StatusCode::INVALID_ARGUMENT, grpc::StatusCode::FAILED_PRECONDITION,
                        grpc::StatusCode::ALREADY_EXISTS, grpc::StatusCode::OUT_OF_RANGE))
          << PathOf(*method) << " of \"" << filling.text.substr(0, 30) << "\", " << filling.integer
          << ": " << status.error_message();
    }
  }
  AddGolden();
  std::vector<v1::GenerateResponse> responses;
  EXPECT_TRUE(Generate(GenerateFromGolden(), kPatience, &responses).ok());
}

TEST_F(ServicesTest, MessagesAboveTheLimitAreRefused) {
  AddGolden();
  v1::TokenizeRequest request;
  request.set_model_id("golden");
  request.set_text(std::string(kMaxMessageBytes + 1, 'x'));
  v1::TokenizeResponse response;
  EXPECT_EQ(
      Unary(*catalog_stub_, &v1::CatalogService::Stub::Tokenize, request, &response).error_code(),
      grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::ListModelsResponse models;
  EXPECT_TRUE(
      Unary(*catalog_stub_, &v1::CatalogService::Stub::ListModels, v1::ListModelsRequest(), &models)
          .ok());
  EXPECT_EQ(models.models_size(), 1);
}

TEST_F(ServicesTest, ViolatedFieldsArriveInTheStatusDetails) {
  v1::ComputeActivationsResponse activations;
  grpc::Status status = Unary(*explore_, &v1::ExploreService::Stub::ComputeActivations,
                              v1::ComputeActivationsRequest(), &activations);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status), ::testing::ElementsAre("sae_ids"));
  v1::ListJobsRequest jobs;
  jobs.set_page_size(1000000);
  v1::ListJobsResponse page;
  status = Unary(*jobs_, &v1::JobService::Stub::ListJobs, jobs, &page);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status), ::testing::ElementsAre("page_size"));
  EXPECT_THAT(status.error_message(), HasSubstr("1000000"));
}

TEST_F(ServicesTest, ADeadlineShorterThanTheWorkEndsTheCallAndFreesTheWorker) {
  AddGolden();
  ASSERT_TRUE(catalog_->LoadedModel("golden").ok());
  std::latch held(1), release(1);
  std::thread holder([&] {
    EXPECT_TRUE(worker_
                    ->RunInteractive(CancelToken(),
                                     [&] {
                                       held.count_down();
                                       release.wait();
                                       return absl::OkStatus();
                                     })
                    .ok());
  });
  held.wait();
  std::vector<v1::GenerateResponse> responses;
  EXPECT_EQ(Generate(GenerateFromGolden(), absl::Milliseconds(300), &responses).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  release.count_down();
  holder.join();
  responses.clear();
  const grpc::Status status = Generate(GenerateFromGolden(), kPatience, &responses);
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_FALSE(responses.empty());
  EXPECT_TRUE(responses.back().has_finished());
  // The late call's task was taken out of the queue before the one after it had its turn.
  EXPECT_EQ(worker_->stats().waiting, 0u);
}

TEST_F(ServicesTest, VectorsGoThroughAnSaeInAStream) {
  AddGolden();
  grpc::ClientContext context;
  SetDeadline(&context);
  const auto stream = explore_->EncodeVectors(&context);
  for (uint32_t n : {1, 3}) {
    v1::EncodeVectorsRequest request;
    if (n == 1) request.set_sae_id("golden-sae");
    request.set_n_vectors(n);
    request.set_reconstruct(true);
    for (uint32_t i = 0; i < n * 32; ++i) request.add_vectors(static_cast<float>(i % 7));
    ASSERT_TRUE(stream->Write(request));
    v1::EncodeVectorsResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.feature_acts().row_offsets_size(), static_cast<int>(n) + 1);
    EXPECT_EQ(response.sae_out_size(), static_cast<int>(n) * 32);
  }
  EXPECT_TRUE(stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServicesTest, AnSaeIsIndexedWatchedAndReadOverTheWire) {
  AddTiny();
  IndexTiny();
  grpc::Status status;
  v1::ListFeaturesRequest list;
  list.mutable_index()->set_sae_id("s");
  list.mutable_filter()->set_alive_only(true);
  v1::ListFeaturesResponse features;
  status = Unary(*features_, &v1::FeatureService::Stub::ListFeatures, list, &features);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_GT(features.features_size(), 0);
  const uint32_t feature = features.features(0).feature();
  v1::GetFeatureRequest get;
  get.mutable_index()->set_sae_id("s");
  get.set_feature(feature);
  v1::Feature full;
  EXPECT_TRUE(Unary(*features_, &v1::FeatureService::Stub::GetFeature, get, &full).ok());
  EXPECT_EQ(full.stats().feature(), feature);
  v1::ListExamplesRequest list_examples;
  list_examples.mutable_index()->set_sae_id("s");
  list_examples.set_feature(feature);
  v1::ListExamplesResponse examples;
  EXPECT_TRUE(
      Unary(*features_, &v1::FeatureService::Stub::ListExamples, list_examples, &examples).ok());
  EXPECT_GT(examples.examples_size(), 0);
  v1::ComputeActivationsRequest question;
  question.add_sae_ids("s");
  question.add_inputs()->set_text("Sentence 1");
  v1::ComputeActivationsResponse answer;
  EXPECT_TRUE(
      Unary(*explore_, &v1::ExploreService::Stub::ComputeActivations, question, &answer).ok());
  ASSERT_EQ(answer.texts_size(), 1);
  EXPECT_EQ(answer.texts(0).saes(0).acts().row_offsets_size(), answer.texts(0).tokens_size() + 1);
}

TEST_F(ServicesTest, AnSaeSaysWhatItWasRecognisedAs) {
  AddGolden();
  v1::AddSaeRequest request;
  request.set_sae_id("gemma");
  request.set_path(absl::StrCat(kGolden, "sae/gemma_scope/gemma_scope"));
  request.set_model_id("golden");
  request.set_any_width(true);
  request.mutable_overrides()->set_norm_scaling_factor(0.5);
  v1::Sae sae;
  const grpc::Status status =
      Unary(*catalog_stub_, &v1::CatalogService::Stub::AddSae, request, &sae);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(sae.format(), "Gemma Scope");
  EXPECT_EQ(sae.architecture(), "jumprelu");
  EXPECT_EQ(sae.file_dtype(), "float32");
  EXPECT_EQ(sae.d_out(), sae.d_in());
  EXPECT_THAT(sae.activation(), HasSubstr("threshold"));
  EXPECT_GT(sae.folds_size(), 0);
  EXPECT_FALSE(sae.prepend_bos_known());
  EXPECT_THAT(sae.source(), HasSubstr("gemma_scope"));
}

TEST_F(ServicesTest, OverridesOfUnknownNamesAreNamedByTheirFields) {
  AddGolden();
  v1::AddSaeRequest request;
  request.set_sae_id("x"), request.set_model_id("golden");
  request.set_path(absl::StrCat(kGolden, "sae/saelens/v6_topk"));
  request.mutable_overrides()->set_normalize_activations("batch");
  v1::Sae sae;
  grpc::Status status = Unary(*catalog_stub_, &v1::CatalogService::Stub::AddSae, request, &sae);
  EXPECT_THAT(ViolatedFields(status), ::testing::ElementsAre("overrides.normalize_activations"));
  request.mutable_overrides()->clear_normalize_activations();
  request.mutable_overrides()->set_selection("best");
  status = Unary(*catalog_stub_, &v1::CatalogService::Stub::AddSae, request, &sae);
  EXPECT_THAT(ViolatedFields(status), ::testing::ElementsAre("overrides.selection"));
  request.clear_overrides();
  request.clear_model_id();
  request.set_path(absl::StrCat(kGolden, "sae/openai/relu"));
  status = Unary(*catalog_stub_, &v1::CatalogService::Stub::AddSae, request, &sae);
  EXPECT_THAT(ViolatedFields(status), ::testing::ElementsAre("model_id"));
}

TEST_F(ServicesTest, AnSaeIsExported) {
  AddGolden();
  v1::ExportSaeRequest request;
  request.set_sae_id("golden-sae"), request.set_format("saelens");
  request.set_directory(dir_ / "out");
  v1::ExportSaeResponse response;
  grpc::Status status =
      Unary(*catalog_stub_, &v1::CatalogService::Stub::ExportSae, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.files(), ::testing::ElementsAre("cfg.json", "sae_weights.safetensors"));
  status = Unary(*catalog_stub_, &v1::CatalogService::Stub::ExportSae, request, &response);
  EXPECT_THAT(ViolatedFields(status), ::testing::ElementsAre("directory"));
}

TEST_F(ServicesTest, ReleasesAreListed) {
  v1::ListSaeReleasesResponse response;
  ASSERT_TRUE(Unary(*catalog_stub_, &v1::CatalogService::Stub::ListSaeReleases,
                    v1::ListSaeReleasesRequest(), &response)
                  .ok());
  ASSERT_GT(response.releases_size(), 5);
  for (const v1::SaeRelease& release : response.releases()) {
    EXPECT_FALSE(release.name().empty());
    EXPECT_FALSE(release.example_id().empty()) << release.name();
    EXPECT_TRUE(absl::StrContains(release.repo(), "/")) << release.name();
  }
}

TEST_F(ServicesTest, AnSaeIsCheckedOnTextIdsOrACorpus) {
  AddTiny();
  v1::CheckSaeRequest request;
  request.set_sae_id("s");
  v1::CheckSaeResponse response;
  const auto check = [&] {
    response.Clear();
    const grpc::Status status =
        Unary(*explore_, &v1::ExploreService::Stub::CheckSae, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_NE(response.verdict(), v1::CheckSaeResponse::FITS) << "its weights are random";
    EXPECT_GT(response.findings_size(), 0);
    EXPECT_GT(response.n_tokens(), 30u);
  };
  check();
  request.mutable_text()->set_text(std::string(200, 'x'));
  check();
  for (int i = 0; i < 40; ++i) request.mutable_text()->mutable_token_ids()->add_ids(i + 1);
  check();
  request.set_corpus_id("c");
  request.set_max_tokens(64);
  check();
  EXPECT_LE(response.n_tokens(), 64u);
  request.set_max_tokens(1 << 20);
  EXPECT_THAT(
      ViolatedFields(Unary(*explore_, &v1::ExploreService::Stub::CheckSae, request, &response)),
      ::testing::ElementsAre("max_tokens"));
}

TEST_F(ServicesTest, ACorpusTellsWhatWasLeftOutAndHeldOut) {
  AddTiny();
  std::filesystem::create_directory(dir_ / "files");
  WriteTinyText(dir_ / "files/a.jsonl", 80);
  std::ofstream(dir_ / "files/notes.md") << "no document";
  std::ofstream(dir_ / "files/b.jsonl") << "{\"text\": \"\"}\n";
  v1::AddCorpusRequest request;
  request.set_corpus_id("d"), request.set_model_id("m"), request.add_paths(dir_ / "files");
  request.set_heldout_fraction(0.3);
  request.set_layout("truncated");
  const auto add = [&](v1::AddCorpusResponse* last) {
    grpc::ClientContext context;
    SetDeadline(&context);
    const auto stream = catalog_stub_->AddCorpus(&context, request);
    while (stream->Read(last)) {
    }
    return stream->Finish();
  };
  v1::AddCorpusResponse last;
  grpc::Status status = add(&last);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(last.n_skipped_files(), 1u);
  EXPECT_THAT(last.skipped_files(), ::testing::ElementsAre(HasSubstr("notes.md")));
  EXPECT_EQ(last.n_empty_documents(), 1u);
  EXPECT_GT(last.n_dropped_tokens(), 0u);
  EXPECT_GT(last.corpus().n_heldout_contexts(), 0u);
  EXPECT_EQ(last.corpus().layout(), "truncated");
  EXPECT_EQ(last.corpus().n_contexts(), last.corpus().n_documents());
  request.set_layout("spiral");
  EXPECT_THAT(ViolatedFields(add(&last)), ::testing::ElementsAre("layout"));
  request.clear_layout();
  request.set_heldout_fraction(-1);
  EXPECT_THAT(ViolatedFields(add(&last)), ::testing::ElementsAre("heldout_fraction"));
  request.clear_heldout_fraction();
  request.set_document_format("docx");
  EXPECT_THAT(ViolatedFields(add(&last)), ::testing::ElementsAre("document_format"));
}

TEST_F(ServicesTest, MessagesNeedATemplateAndNoPromptBesides) {
  AddTiny();
  v1::GenerateRequest request;
  request.set_model_id("m");
  v1::ChatMessage& message = *request.add_messages();
  message.set_role("user"), message.set_content("Hello");
  std::vector<v1::GenerateResponse> responses;
  grpc::Status status = Generate(request, kPatience, &responses);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("template"));
  request.mutable_prompt()->set_text("x");
  EXPECT_THAT(ViolatedFields(Generate(request, kPatience, &responses)),
              ::testing::ElementsAre("messages"));

  WriteTinyModel(dir_ / "chat", true);
  std::ofstream(dir_ / "chat/chat_template.jinja")
      << "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
      << "{% if add_generation_prompt %}assistant:{% endif %}";
  ASSERT_TRUE(catalog_->AddModel("chat", dir_ / "chat").ok());
  EXPECT_TRUE(catalog_->GetModel("chat")->has_chat_template);
  v1::ApplyChatTemplateRequest apply;
  apply.set_model_id("chat");
  *apply.add_messages() = message;
  v1::ApplyChatTemplateResponse applied;
  status = Unary(*catalog_stub_, &v1::CatalogService::Stub::ApplyChatTemplate, apply, &applied);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(applied.text(), "user: Hello\nassistant:");
  EXPECT_EQ(applied.tokens_size(), 22);
  apply.set_no_generation_prompt(true);
  EXPECT_TRUE(
      Unary(*catalog_stub_, &v1::CatalogService::Stub::ApplyChatTemplate, apply, &applied).ok());
  EXPECT_EQ(applied.text(), "user: Hello\n");
}

TEST_F(ServicesTest, ImportsAreSubmittedAndDescribed) {
  v1::SubmitImportRequest request;
  request.mutable_spec()->mutable_sae()->set_source("gpt2-small-res-jb/blocks.8.hook_resid_pre");
  request.mutable_spec()->mutable_sae()->set_center_writing_weights(true);
  v1::Job job;
  grpc::Status status = Unary(*jobs_, &v1::JobService::Stub::SubmitImport, request, &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.state(), v1::QUEUED);
  EXPECT_EQ(job.importing().sae().sae_id(), "gpt2-small-res-jb-blocks.8.hook_resid_pre");
  EXPECT_TRUE(job.importing().sae().center_writing_weights());
  EXPECT_TRUE(job.has_transfer());
  request.mutable_spec()->mutable_model()->set_repo("not a repo");
  status = Unary(*jobs_, &v1::JobService::Stub::SubmitImport, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.clear_spec();
  EXPECT_THAT(ViolatedFields(Unary(*jobs_, &v1::JobService::Stub::SubmitImport, request, &job)),
              ::testing::ElementsAre("spec"));
}

// A small run on what AddTiny has.
v1::TrainingSpec TinyTraining() {
  v1::TrainingSpec spec;
  spec.set_sae_id("new"), spec.set_model_id("m"), spec.set_corpus_id("c"),
      spec.set_hook_name(kHook);
  spec.set_d_sae(64), spec.set_k(4), spec.set_tokens(2000), spec.set_batch_size(128);
  spec.set_buffer_tokens(1024);
  return spec;
}

TEST_F(ServicesTest, PresetsAreListedAndPlanned) {
  AddTiny();
  v1::ListPresetsResponse presets;
  ASSERT_TRUE(
      Unary(*jobs_, &v1::JobService::Stub::ListPresets, v1::ListPresetsRequest(), &presets).ok());
  ASSERT_GT(presets.presets_size(), 10);
  for (const v1::Preset& preset : presets.presets()) {
    v1::PlanTrainingRequest request;
    v1::TrainingSpec& spec = *request.mutable_spec()->mutable_base();
    spec = TinyTraining();
    spec.set_preset(preset.name());
    spec.set_k_aux(16);
    if (preset.spec().batch_size() == -1) spec.set_batch_size(-1);
    v1::TrainingPlan plan;
    const grpc::Status status = Unary(*jobs_, &v1::JobService::Stub::PlanTraining, request, &plan);
    ASSERT_TRUE(status.ok()) << preset.name() << ": " << status.error_message();
    ASSERT_EQ(plan.resolved_size(), 1);
    EXPECT_EQ(plan.resolved(0).preset(), preset.name());
    EXPECT_EQ(plan.resolved(0).d_sae(), 64u);
    EXPECT_GT(plan.resolved(0).learning_rate(), 0);
    EXPECT_GT(plan.steps(), 0u);
    EXPECT_GT(plan.memory_bytes(), 0u);
    EXPECT_GT(plan.available_bytes(), plan.memory_bytes());
  }
  v1::ListJobsResponse jobs;
  ASSERT_TRUE(Unary(*jobs_, &v1::JobService::Stub::ListJobs, v1::ListJobsRequest(), &jobs).ok());
  EXPECT_EQ(jobs.jobs_size(), 0);
}

TEST_F(ServicesTest, WhatCannotBeTrainedIsRefusedByField) {
  AddTiny();
  const auto fields = [&](const std::function<void(v1::SweepSpec*)>& change) {
    v1::PlanTrainingRequest plan;
    *plan.mutable_spec()->mutable_base() = TinyTraining();
    change(plan.mutable_spec());
    v1::TrainingPlan planned;
    grpc::Status status = Unary(*jobs_, &v1::JobService::Stub::PlanTraining, plan, &planned);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    // Submitting says the same.
    v1::Job job;
    grpc::Status submitted;
    if (plan.spec().members().empty()) {
      v1::SubmitTrainingRequest request;
      *request.mutable_spec() = plan.spec().base();
      submitted = Unary(*jobs_, &v1::JobService::Stub::SubmitTraining, request, &job);
    } else {
      v1::SubmitSweepRequest request;
      *request.mutable_spec() = plan.spec();
      submitted = Unary(*jobs_, &v1::JobService::Stub::SubmitSweep, request, &job);
    }
    EXPECT_EQ(submitted.error_message(), status.error_message());
    return ViolatedFields(status);
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(fields([](v1::SweepSpec* s) { s->mutable_base()->set_k(65); }), ElementsAre("k"));
  EXPECT_THAT(fields([](v1::SweepSpec* s) { s->mutable_base()->set_optimizer("sgd"); }),
              ElementsAre("optimizer"));
  EXPECT_THAT(fields([](v1::SweepSpec* s) { s->mutable_base()->set_hook_name("blocks"); }),
              ElementsAre("hook_name"));
  EXPECT_THAT(fields([](v1::SweepSpec* s) { s->mutable_base()->set_buffer_tokens(1); }),
              ElementsAre("buffer_tokens"));
  EXPECT_THAT(fields([](v1::SweepSpec* s) {
                s->add_members()->set_sae_id("a");
                s->add_members()->set_sae_id("b");
                s->mutable_members(1)->set_seed(5);
              }),
              ElementsAre("seed"));
  v1::Job job;
  const grpc::Status empty =
      Unary(*jobs_, &v1::JobService::Stub::SubmitSweep, v1::SubmitSweepRequest(), &job);
  EXPECT_THAT(ViolatedFields(empty), ElementsAre("members"));
}

TEST_F(ServicesTest, ASweepIsSubmittedWatchedAndAdvisedOn) {
  AddTiny();
  v1::SubmitSweepRequest request;
  *request.mutable_spec()->mutable_base() = TinyTraining();
  request.mutable_spec()->add_members()->set_sae_id("a");
  request.mutable_spec()->add_members()->set_sae_id("b");
  request.mutable_spec()->mutable_members(1)->set_k(8);
  v1::Job job;
  grpc::Status status = Unary(*jobs_, &v1::JobService::Stub::SubmitSweep, request, &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.sweep().base().d_sae(), 64u);
  ASSERT_EQ(job.sweep().members_size(), 2);
  EXPECT_EQ(job.sweep().members(1).k(), 8u);
  std::set<std::string> names;
  {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::WatchJobsRequest watch;
    watch.add_job_ids(job.id());
    watch.set_metrics(true);
    const auto stream = jobs_->WatchJobs(&context, watch);
    v1::WatchJobsResponse event;
    while (job.finished().empty() && stream->Read(&event)) {
      if (event.has_job()) job = event.job();
      for (const v1::MetricPoint& point : event.metrics().points()) {
        for (const auto& [name, value] : point.values()) names.insert(name);
      }
    }
    context.TryCancel();
    stream->Finish();
  }
  ASSERT_EQ(job.state(), v1::SUCCEEDED) << job.error();
  EXPECT_TRUE(names.contains("a/loss") && names.contains("b/l0"));
  v1::GetAdviceRequest advice;
  advice.set_job_id(job.id());
  v1::GetAdviceResponse advised;
  status = Unary(*jobs_, &v1::JobService::Stub::GetAdvice, advice, &advised);
  EXPECT_TRUE(status.ok()) << status.error_message();
  // The stored specification, sent again under other ids, is accepted as it is.
  *request.mutable_spec() = job.sweep();
  request.mutable_spec()->mutable_members(0)->set_sae_id("c");
  request.mutable_spec()->mutable_members(1)->set_sae_id("d");
  v1::Job again;
  status = Unary(*jobs_, &v1::JobService::Stub::SubmitSweep, request, &again);
  EXPECT_TRUE(status.ok()) << status.error_message();
  advice.set_job_id("none");
  status = Unary(*jobs_, &v1::JobService::Stub::GetAdvice, advice, &advised);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace featurescope
