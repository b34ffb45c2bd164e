// Evaluations, activation caches and kept checkpoints through the job service.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "server/jobs/job_runner.h"
#include "server/service/convert.h"
#include "server/service/rpc_server.h"
#include "server/service/services.h"
#include "tests/base/temp_dir.h"
#include "tests/catalog/tiny_model.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

constexpr char kHook[] = "blocks.1.hook_resid_post";
constexpr absl::Duration kPatience = absl::Minutes(2);

TEST(ConvertResultsTest, SpecificationsComeBackAndDefaultsAreFilledIn) {
  v1::EvaluationSpec evaluation;
  evaluation.set_sae_id("s"), evaluation.set_corpus_id("c");
  v1::EvaluationSpec back;
  ToProto(FromProto(evaluation).value(), &back);
  EXPECT_EQ(back.part(), "auto");
  EXPECT_EQ(back.max_tokens(), 65536u);
  EXPECT_FALSE(back.no_ablations());
  back.set_part("heldout"), back.set_no_ablations(true), back.set_special_tokens(true);
  v1::EvaluationSpec again;
  ToProto(FromProto(back).value(), &again);
  EXPECT_EQ(again.SerializeAsString(), back.SerializeAsString());
  back.set_part("most");
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(back).status()));

  v1::CachingSpec caching;
  caching.set_cache_id("a"), caching.set_model_id("m"), caching.set_corpus_id("c");
  caching.add_hook_names(kHook);
  v1::CachingSpec filled;
  ToProto(FromProto(caching).value(), &filled);
  EXPECT_EQ(filled.dtype(), "bfloat16");
  EXPECT_EQ(filled.hook_names(0), kHook);
  caching.set_dtype("int8");
  EXPECT_THAT(std::string(FromProto(caching).status().message()), HasSubstr("int8"));
}

class ResultsServiceTest : public ::testing::Test {
 protected:
  ResultsServiceTest() {
    CatalogOptions options;
    // The SAEs of checkpoints can be added all the same.
    options.allowed_roots = {dir_ / "in"};
    std::filesystem::create_directories(dir_ / "in");
    catalog_ = Catalog::Open(dir_ / "data", options).value();
    worker_ = std::make_unique<DeviceWorker>(DeviceWorkerOptions());
    queue_ = std::make_unique<JobQueue>(catalog_.get());
    ServiceDependencies dependencies;
    dependencies.catalog = catalog_.get();
    dependencies.worker = worker_.get();
    dependencies.jobs = queue_.get();
    dependencies.server_info = [] { return v1::ServerInfo(); };
    RpcServerOptions rpc;
    rpc.listen = "127.0.0.1:0";
    rpc_ = RpcServer::Start(rpc, std::move(dependencies)).value();
    runner_ = std::make_unique<JobRunner>(queue_.get(), worker_.get(), JobRunnerOptions());
    const auto channel = rpc_->server().InProcessChannel(grpc::ChannelArguments());
    jobs_ = v1::JobService::NewStub(channel);
    catalog_stub_ = v1::CatalogService::NewStub(channel);

    WriteTinyModel(dir_ / "in/m", true);
    WriteTinySae(dir_ / "in/s", kTinyWidth, kHook);
    WriteTinyText(dir_ / "in/text.jsonl", 60);
    EXPECT_TRUE(catalog_->AddModel("m", dir_ / "in/m").ok());
    EXPECT_TRUE(catalog_->AddSae("s", dir_ / "in/s", {"m", "", false}).ok());
    AddCorpusOptions corpus;
    corpus.paths = {dir_ / "in/text.jsonl"};
    corpus.model_id = "m";
    EXPECT_TRUE(catalog_->AddCorpus("c", corpus, nullptr, CancelToken()).ok());
  }
  ~ResultsServiceTest() override {
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
  grpc::Status Call(Stub& stub,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    return (stub.*method)(&context, request, response);
  }
  // The job as the service tells it once it has ended.
  v1::Job AwaitEnd(const std::string& id) {
    auto watcher = queue_->Watch({{id}, false}).value();
    const CancelToken patience(absl::Now() + kPatience);
    while (true) {
      const auto event = watcher->WaitNext(patience, absl::Seconds(1));
      if (!event.ok()) break;
      if (event->has_value() && (*event)->job && IsFinal((*event)->job->state)) break;
    }
    v1::GetJobRequest request;
    request.set_job_id(id);
    v1::Job job;
    EXPECT_TRUE(Call(*jobs_, &v1::JobService::Stub::GetJob, request, &job).ok());
    return job;
  }

  TempDir dir_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<DeviceWorker> worker_;
  std::unique_ptr<JobQueue> queue_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<JobRunner> runner_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_stub_;
};

TEST_F(ResultsServiceTest, AnEvaluationIsSubmittedAndListedWithDefinitions) {
  v1::SubmitEvaluationRequest submit;
  submit.mutable_spec()->set_sae_id("s");
  submit.mutable_spec()->set_corpus_id("c");
  submit.mutable_spec()->set_max_tokens(512);
  v1::Job job;
  const grpc::Status status = Call(*jobs_, &v1::JobService::Stub::SubmitEvaluation, submit, &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.evaluation().max_tokens(), 512u);
  const v1::Job end = AwaitEnd(job.id());
  ASSERT_EQ(end.state(), v1::SUCCEEDED) << end.error();
  EXPECT_EQ(end.checkpoint_dir(), "");

  v1::ListEvaluationsRequest list;
  list.set_sae_id("s");
  v1::ListEvaluationsResponse found;
  ASSERT_TRUE(Call(*jobs_, &v1::JobService::Stub::ListEvaluations, list, &found).ok());
  ASSERT_EQ(found.evaluations_size(), 1);
  const v1::Evaluation& evaluation = found.evaluations(0);
  EXPECT_EQ(evaluation.job_id(), job.id());
  EXPECT_EQ(evaluation.corpus_id(), "c");
  EXPECT_EQ(evaluation.spec().max_tokens(), 512u);
  EXPECT_GT(evaluation.n_tokens(), 0u);
  EXPECT_NE(evaluation.created(), "");
  EXPECT_TRUE(evaluation.metrics().contains("ce_loss_recovered"));
  const v1::MetricHistogram& l0 = evaluation.histograms().at("l0");
  EXPECT_EQ(l0.edges_size(), l0.counts_size() + 1);
  std::set<std::string> defined;
  for (const v1::MetricDefinition& definition : found.definitions()) {
    EXPECT_NE(definition.formula(), "");
    defined.insert(definition.name());
  }
  for (const auto& [name, value] : evaluation.metrics()) EXPECT_TRUE(defined.contains(name));

  submit.mutable_spec()->set_part("most");
  EXPECT_EQ(Call(*jobs_, &v1::JobService::Stub::SubmitEvaluation, submit, &job).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  list.set_sae_id("none");
  EXPECT_EQ(Call(*jobs_, &v1::JobService::Stub::ListEvaluations, list, &found).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ResultsServiceTest, ACacheIsSubmittedListedAndDeleted) {
  v1::SubmitCachingRequest submit;
  v1::CachingSpec& spec = *submit.mutable_spec();
  spec.set_cache_id("acts"), spec.set_model_id("m"), spec.set_corpus_id("c");
  spec.add_hook_names(kHook);
  spec.set_dtype("float16");
  v1::Job job;
  const grpc::Status status = Call(*jobs_, &v1::JobService::Stub::SubmitCaching, submit, &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::Job end = AwaitEnd(job.id());
  ASSERT_EQ(end.state(), v1::SUCCEEDED) << end.error();
  EXPECT_EQ(end.caching().dtype(), "float16");
  EXPECT_GT(end.transfer().bytes_total(), 0u);

  v1::ListActivationCachesResponse caches;
  ASSERT_TRUE(Call(*jobs_, &v1::JobService::Stub::ListActivationCaches,
                   v1::ListActivationCachesRequest(), &caches)
                  .ok());
  ASSERT_EQ(caches.caches_size(), 1);
  EXPECT_EQ(caches.caches(0).id(), "acts");
  EXPECT_EQ(caches.caches(0).hook_names(0), kHook);
  EXPECT_EQ(caches.caches(0).widths(0), static_cast<uint32_t>(kTinyWidth));
  EXPECT_GT(caches.caches(0).n_rows(), 0u);
  EXPECT_EQ(caches.caches(0).bytes(), end.transfer().bytes_total());

  v1::DeleteActivationCacheRequest remove;
  remove.set_cache_id("acts");
  v1::DeleteActivationCacheResponse removed;
  EXPECT_TRUE(Call(*jobs_, &v1::JobService::Stub::DeleteActivationCache, remove, &removed).ok());
  EXPECT_EQ(
      Call(*jobs_, &v1::JobService::Stub::DeleteActivationCache, remove, &removed).error_code(),
      grpc::StatusCode::NOT_FOUND);
}

TEST_F(ResultsServiceTest, AnEndedTrainingNamesItsCheckpointsWhichCanBeAdded) {
  v1::SubmitTrainingRequest submit;
  v1::TrainingSpec& spec = *submit.mutable_spec();
  spec.set_sae_id("new"), spec.set_model_id("m"), spec.set_corpus_id("c");
  spec.set_hook_name(kHook);
  spec.set_d_sae(32), spec.set_k(4), spec.set_tokens(2000), spec.set_batch_size(128);
  spec.set_checkpoint_steps(5);
  v1::Job job;
  const grpc::Status status = Call(*jobs_, &v1::JobService::Stub::SubmitTraining, submit, &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.checkpoint_dir(), "");
  const v1::Job end = AwaitEnd(job.id());
  ASSERT_EQ(end.state(), v1::SUCCEEDED) << end.error();
  ASSERT_NE(end.checkpoint_dir(), "");

  v1::AddSaeRequest add;
  add.set_sae_id("best"), add.set_path(end.checkpoint_dir() + "/best");
  v1::Sae sae;
  const grpc::Status added = Call(*catalog_stub_, &v1::CatalogService::Stub::AddSae, add, &sae);
  EXPECT_TRUE(added.ok()) << added.error_message();
  EXPECT_EQ(sae.hook_name(), kHook);
  // The data directory is not open otherwise.
  add.set_sae_id("other"), add.set_path(dir_ / "data/saes/s");
  EXPECT_EQ(Call(*catalog_stub_, &v1::CatalogService::Stub::AddSae, add, &sae).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
}

}  // namespace
}  // namespace featurescope
