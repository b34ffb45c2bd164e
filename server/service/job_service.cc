// JobService: training, indexing and importing as durable jobs.
#include "server/base/status.h"
#include "server/jobs/job_advice.h"
#include "server/jobs/training_job.h"
#include "server/service/convert.h"
#include "server/service/services.h"
#include "server/service/training_spec.h"

namespace featurescope {
namespace {

constexpr uint32_t kDefaultPageSize = 100;
constexpr uint32_t kMaxPageSize = 1000;
constexpr uint32_t kDefaultPoints = 1000;
constexpr uint32_t kMaxPoints = 10000;
constexpr absl::Duration kTick = absl::Seconds(10);

class JobServiceImpl final : public v1::JobService::CallbackService {
 public:
  explicit JobServiceImpl(const ServiceDependencies* dependencies)
      : rpc_(dependencies->rpc), jobs_(*dependencies->jobs) {}

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* SubmitTraining(Context* context, const v1::SubmitTrainingRequest* request,
                        v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.SubmitTraining", context, request, response,
                      &JobServiceImpl::DoSubmitTraining);
  }
  Unary* SubmitSweep(Context* context, const v1::SubmitSweepRequest* request,
                     v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.SubmitSweep", context, request, response,
                      &JobServiceImpl::DoSubmitSweep);
  }
  Unary* PlanTraining(Context* context, const v1::PlanTrainingRequest* request,
                      v1::TrainingPlan* response) override {
    return StartUnary(this, rpc_, "Job.PlanTraining", context, request, response,
                      &JobServiceImpl::DoPlanTraining);
  }
  Unary* ListPresets(Context* context, const v1::ListPresetsRequest* request,
                     v1::ListPresetsResponse* response) override {
    return StartUnary(this, rpc_, "Job.ListPresets", context, request, response,
                      &JobServiceImpl::DoListPresets);
  }
  Unary* GetAdvice(Context* context, const v1::GetAdviceRequest* request,
                   v1::GetAdviceResponse* response) override {
    return StartUnary(this, rpc_, "Job.GetAdvice", context, request, response,
                      &JobServiceImpl::DoGetAdvice);
  }
  Unary* SubmitIndexing(Context* context, const v1::SubmitIndexingRequest* request,
                        v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.SubmitIndexing", context, request, response,
                      &JobServiceImpl::DoSubmitIndexing);
  }
  Unary* SubmitEvaluation(Context* context, const v1::SubmitEvaluationRequest* request,
                          v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.SubmitEvaluation", context, request, response,
                      &JobServiceImpl::DoSubmitEvaluation);
  }
  Unary* SubmitCaching(Context* context, const v1::SubmitCachingRequest* request,
                       v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.SubmitCaching", context, request, response,
                      &JobServiceImpl::DoSubmitCaching);
  }
  Unary* ListActivationCaches(Context* context, const v1::ListActivationCachesRequest* request,
                              v1::ListActivationCachesResponse* response) override {
    return StartUnary(this, rpc_, "Job.ListActivationCaches", context, request, response,
                      &JobServiceImpl::DoListActivationCaches);
  }
  Unary* DeleteActivationCache(Context* context, const v1::DeleteActivationCacheRequest* request,
                               v1::DeleteActivationCacheResponse* response) override {
    return StartUnary(this, rpc_, "Job.DeleteActivationCache", context, request, response,
                      &JobServiceImpl::DoDeleteActivationCache);
  }
  Unary* ListEvaluations(Context* context, const v1::ListEvaluationsRequest* request,
                         v1::ListEvaluationsResponse* response) override {
    return StartUnary(this, rpc_, "Job.ListEvaluations", context, request, response,
                      &JobServiceImpl::DoListEvaluations);
  }
  Unary* SubmitImport(Context* context, const v1::SubmitImportRequest* request,
                      v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.SubmitImport", context, request, response,
                      &JobServiceImpl::DoSubmitImport);
  }
  Unary* GetJob(Context* context, const v1::GetJobRequest* request, v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.GetJob", context, request, response,
                      &JobServiceImpl::DoGetJob);
  }
  Unary* ListJobs(Context* context, const v1::ListJobsRequest* request,
                  v1::ListJobsResponse* response) override {
    return StartUnary(this, rpc_, "Job.ListJobs", context, request, response,
                      &JobServiceImpl::DoListJobs);
  }
  Unary* CancelJob(Context* context, const v1::CancelJobRequest* request,
                   v1::Job* response) override {
    return StartUnary(this, rpc_, "Job.CancelJob", context, request, response,
                      &JobServiceImpl::DoCancelJob);
  }
  Unary* GetMetrics(Context* context, const v1::GetMetricsRequest* request,
                    v1::GetMetricsResponse* response) override {
    return StartUnary(this, rpc_, "Job.GetMetrics", context, request, response,
                      &JobServiceImpl::DoGetMetrics);
  }
  grpc::ServerWriteReactor<v1::WatchJobsResponse>* WatchJobs(
      Context* context, const v1::WatchJobsRequest* request) override {
    return StartServerStream(this, rpc_, rpc_.watchers, "Job.WatchJobs", context, request,
                             &JobServiceImpl::DoWatchJobs);
  }

 private:
  absl::Status Answer(const JobRow& row, v1::Job* out) const {
    RETURN_IF_ERROR(ToProto(row, out));
    const bool trains = row.kind == kTrainingKind || row.kind == kSweepKind;
    if (trains && IsFinal(row.state)) {
      out->set_checkpoint_dir(jobs_.catalog().KeptCheckpoints(row.id));
    }
    return absl::OkStatus();
  }

  absl::Status DoSubmitTraining(const v1::SubmitTrainingRequest& request, v1::Job* response,
                                const CallContext&) {
    ASSIGN_OR_RETURN(const TrainingJob job, FromProto(request.spec()));
    ASSIGN_OR_RETURN(const JobRow row, jobs_.SubmitTraining(job, request.idempotency_key()));
    return Answer(row, response);
  }

  absl::Status DoSubmitSweep(const v1::SubmitSweepRequest& request, v1::Job* response,
                             const CallContext&) {
    if (request.spec().members().empty()) {
      return InvalidField("members", "a sweep without members; 1 to ", kMaxSweepMembers,
                          " are possible");
    }
    ASSIGN_OR_RETURN(const SweepJob job, FromProto(request.spec()));
    ASSIGN_OR_RETURN(const JobRow row, jobs_.SubmitSweep(job, request.idempotency_key()));
    return Answer(row, response);
  }

  absl::Status DoPlanTraining(const v1::PlanTrainingRequest& request, v1::TrainingPlan* response,
                              const CallContext&) {
    ASSIGN_OR_RETURN(const SweepJob job, FromProto(request.spec()));
    ASSIGN_OR_RETURN(const TrainingPlan plan, MakeTrainingPlan(&jobs_.catalog(), job.members));
    ToProto(plan, response);
    return absl::OkStatus();
  }

  absl::Status DoListPresets(const v1::ListPresetsRequest&, v1::ListPresetsResponse* response,
                             const CallContext&) {
    for (const Preset& preset : AllPresets()) ToProto(preset, response->add_presets());
    ToProto(TrainingJob(), response->mutable_defaults());
    return absl::OkStatus();
  }

  absl::Status DoGetAdvice(const v1::GetAdviceRequest& request, v1::GetAdviceResponse* response,
                           const CallContext&) {
    ASSIGN_OR_RETURN(const JobRow row, jobs_.Get(request.job_id()));
    ASSIGN_OR_RETURN(const std::vector<MemberAdvice> advice, AdviseOnJob(&jobs_.catalog(), row));
    for (const MemberAdvice& each : advice) ToProto(each, response->add_advice());
    return absl::OkStatus();
  }

  absl::Status DoSubmitIndexing(const v1::SubmitIndexingRequest& request, v1::Job* response,
                                const CallContext&) {
    ASSIGN_OR_RETURN(const JobRow row,
                     jobs_.SubmitIndexing(FromProto(request.spec()), request.idempotency_key()));
    return Answer(row, response);
  }

  absl::Status DoSubmitEvaluation(const v1::SubmitEvaluationRequest& request, v1::Job* response,
                                  const CallContext&) {
    ASSIGN_OR_RETURN(const EvaluationJob job, FromProto(request.spec()));
    ASSIGN_OR_RETURN(const JobRow row, jobs_.SubmitEvaluation(job, request.idempotency_key()));
    return Answer(row, response);
  }

  absl::Status DoSubmitCaching(const v1::SubmitCachingRequest& request, v1::Job* response,
                               const CallContext&) {
    ASSIGN_OR_RETURN(const CachingJob job, FromProto(request.spec()));
    ASSIGN_OR_RETURN(const JobRow row, jobs_.SubmitCaching(job, request.idempotency_key()));
    return Answer(row, response);
  }

  absl::Status DoListActivationCaches(const v1::ListActivationCachesRequest&,
                                      v1::ListActivationCachesResponse* response,
                                      const CallContext&) {
    for (const ActivationCacheEntry& entry : featurescope::ListActivationCaches(jobs_.catalog())) {
      ToProto(entry, response->add_caches());
    }
    return absl::OkStatus();
  }

  absl::Status DoDeleteActivationCache(const v1::DeleteActivationCacheRequest& request,
                                       v1::DeleteActivationCacheResponse*, const CallContext&) {
    return featurescope::DeleteActivationCache(&jobs_.catalog(), request.cache_id());
  }

  absl::Status DoListEvaluations(const v1::ListEvaluationsRequest& request,
                                 v1::ListEvaluationsResponse* response, const CallContext&) {
    ASSIGN_OR_RETURN(const std::vector<EvaluationRow> rows, jobs_.Evaluations(request.sae_id()));
    for (const EvaluationRow& row : rows) {
      RETURN_IF_ERROR(ToProto(row, response->add_evaluations()));
    }
    for (const MetricDefinition& definition : EvaluationMetricDefinitions()) {
      ToProto(definition, response->add_definitions());
    }
    return absl::OkStatus();
  }

  absl::Status DoSubmitImport(const v1::SubmitImportRequest& request, v1::Job* response,
                              const CallContext&) {
    ASSIGN_OR_RETURN(ImportJob job, FromProto(request.spec()));
    ASSIGN_OR_RETURN(const JobRow row,
                     jobs_.SubmitImport(std::move(job), request.idempotency_key()));
    return Answer(row, response);
  }

  absl::Status DoGetJob(const v1::GetJobRequest& request, v1::Job* response, const CallContext&) {
    ASSIGN_OR_RETURN(const JobRow row, jobs_.Get(request.job_id()));
    return Answer(row, response);
  }

  absl::Status DoListJobs(const v1::ListJobsRequest& request, v1::ListJobsResponse* response,
                          const CallContext&) {
    if (request.page_size() > kMaxPageSize) {
      return InvalidField("page_size", "page_size is ", request.page_size(), ", must be at most ",
                          kMaxPageSize);
    }
    std::vector<JobState> states;
    for (int state : request.states()) {
      ASSIGN_OR_RETURN(states.emplace_back(), FromProto(static_cast<v1::JobState>(state)));
    }
    const uint32_t page_size = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
    ASSIGN_OR_RETURN(const JobPage page, jobs_.List(states, page_size, request.page_token()));
    for (const JobRow& row : page.jobs) RETURN_IF_ERROR(Answer(row, response->add_jobs()));
    response->set_next_page_token(page.next_page_token);
    return absl::OkStatus();
  }

  absl::Status DoCancelJob(const v1::CancelJobRequest& request, v1::Job* response,
                           const CallContext&) {
    ASSIGN_OR_RETURN(const JobRow row, jobs_.Cancel(request.job_id()));
    return Answer(row, response);
  }

  absl::Status DoGetMetrics(const v1::GetMetricsRequest& request, v1::GetMetricsResponse* response,
                            const CallContext&) {
    if (request.max_points() > kMaxPoints || request.max_points() == 1) {
      return InvalidField("max_points", "max_points is ", request.max_points(),
                          ", must be 0 or in [2, ", kMaxPoints, "]");
    }
    const uint32_t max_points = request.max_points() == 0 ? kDefaultPoints : request.max_points();
    ASSIGN_OR_RETURN(const std::vector<MetricRow> rows,
                     jobs_.Metrics(request.job_id(), max_points));
    for (const MetricRow& row : rows) ToProto(row, response->add_points());
    return absl::OkStatus();
  }

  absl::Status DoWatchJobs(const v1::WatchJobsRequest& request,
                           MessageWriter<v1::WatchJobsResponse>& writer, const CallContext& call) {
    WatchFilter filter;
    filter.job_ids.assign(request.job_ids().begin(), request.job_ids().end());
    filter.metrics = request.metrics();
    ASSIGN_OR_RETURN(const std::unique_ptr<JobWatcher> watcher, jobs_.Watch(filter));
    while (true) {
      ASSIGN_OR_RETURN(const std::optional<JobEvent> event, watcher->WaitNext(call.cancel, kTick));
      v1::WatchJobsResponse response;
      if (!event.has_value()) {
        response.mutable_tick();
      } else if (event->job.has_value()) {
        RETURN_IF_ERROR(Answer(*event->job, response.mutable_job()));
      } else {
        RETURN_IF_ERROR(WriteMetrics(*event->metrics, writer));
        continue;
      }
      RETURN_IF_ERROR(writer.Write(response));
    }
  }

  // Points in messages of a bounded size: those of many SAEs are large.
  static absl::Status WriteMetrics(const JobMetrics& metrics,
                                   MessageWriter<v1::WatchJobsResponse>& writer) {
    constexpr size_t kMaxValues = 20'000;
    v1::WatchJobsResponse response;
    size_t values = 0;
    for (const MetricRow& row : metrics.points) {
      if (values > 0 && values + row.values.size() > kMaxValues) {
        RETURN_IF_ERROR(writer.Write(response));
        response.Clear();
        values = 0;
      }
      response.mutable_metrics()->set_job_id(metrics.job_id);
      ToProto(row, response.mutable_metrics()->add_points());
      values += row.values.size();
    }
    return writer.Write(response);
  }

  const RpcEnvironment& rpc_;
  JobQueue& jobs_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeJobService(const ServiceDependencies* dependencies) {
  return std::make_unique<JobServiceImpl>(dependencies);
}

}  // namespace featurescope
