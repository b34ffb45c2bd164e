// FeatureService: what an index knows.
#include "server/base/status.h"
#include "server/index/queries.h"
#include "server/service/convert.h"
#include "server/service/services.h"

namespace featurescope {
namespace {

constexpr uint32_t kDefaultFeatures = 50;
constexpr uint32_t kDefaultExamples = 20;

void Fill(const IndexReader& index, const FeatureRow& row, v1::FeatureStats* out) {
  out->set_feature(row.feature);
  out->set_density(row.density);
  out->set_n_active(row.n_active);
  out->set_mean(row.mean);
  out->set_max(row.max);
  out->set_std(row.std);
  out->set_skewness(row.skewness);
  out->set_kurtosis(row.kurtosis);
  out->set_p50(row.p50);
  out->set_p90(row.p90);
  out->set_p99(row.p99);
  out->set_decoder_norm(row.decoder_norm);
  if (row.top_logit_token)
    ToProto(index.Token(*row.top_logit_token), out->mutable_top_logit_token());
  if (row.top_token) ToProto(index.Token(*row.top_token), out->mutable_top_token());
}

void Fill(const IndexReader& index, const IndexedExample& indexed, v1::Example* out) {
  const ExampleRow& example = indexed.example;
  out->set_band(example.band);
  out->set_band_low(indexed.band.low);
  out->set_band_high(indexed.band.high);
  out->set_band_share(indexed.band.share);
  out->set_activation(example.activation);
  out->set_context(example.context);
  out->set_position(example.position);
  out->set_window_start(example.window_start);
  for (uint32_t token : example.tokens) ToProto(index.Token(token), out->add_tokens());
  out->mutable_acts()->Add(example.acts.begin(), example.acts.end());
}

absl::StatusOr<FeatureOrder> OrderFromProto(v1::FeatureOrder order) {
  switch (order) {
    case v1::ORDER_FEATURE:
      return FeatureOrder::kFeature;
    case v1::ORDER_DENSITY:
      return FeatureOrder::kDensity;
    case v1::ORDER_MAX:
      return FeatureOrder::kMax;
    case v1::ORDER_MEAN:
      return FeatureOrder::kMean;
    case v1::ORDER_STD:
      return FeatureOrder::kStd;
    case v1::ORDER_SKEWNESS:
      return FeatureOrder::kSkewness;
    case v1::ORDER_KURTOSIS:
      return FeatureOrder::kKurtosis;
    case v1::ORDER_DECODER_NORM:
      return FeatureOrder::kDecoderNorm;
    default:
      return InvalidField("order", "order is ", static_cast<int>(order),
                          ", which this server does not know");
  }
}

FeatureFilter FilterFromProto(const v1::FeatureFilter& filter) {
  auto bound = [](bool has, double value) {
    return has ? std::optional<double>(value) : std::nullopt;
  };
  FeatureFilter out;
  out.min_density = bound(filter.has_min_density(), filter.min_density());
  out.max_density = bound(filter.has_max_density(), filter.max_density());
  out.min_max = bound(filter.has_min_max(), filter.min_max());
  out.max_max = bound(filter.has_max_max(), filter.max_max());
  out.min_mean = bound(filter.has_min_mean(), filter.min_mean());
  out.max_mean = bound(filter.has_max_mean(), filter.max_mean());
  out.alive_only = filter.alive_only();
  out.token_text = filter.token_text();
  return out;
}

class FeatureServiceImpl final : public v1::FeatureService::CallbackService {
 public:
  explicit FeatureServiceImpl(const ServiceDependencies* dependencies)
      : rpc_(dependencies->rpc), catalog_(*dependencies->catalog) {}

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* ListFeatures(Context* context, const v1::ListFeaturesRequest* request,
                      v1::ListFeaturesResponse* response) override {
    return StartUnary(this, rpc_, "Feature.ListFeatures", context, request, response,
                      &FeatureServiceImpl::DoListFeatures);
  }
  Unary* GetFeature(Context* context, const v1::GetFeatureRequest* request,
                    v1::Feature* response) override {
    return StartUnary(this, rpc_, "Feature.GetFeature", context, request, response,
                      &FeatureServiceImpl::DoGetFeature);
  }
  Unary* ListExamples(Context* context, const v1::ListExamplesRequest* request,
                      v1::ListExamplesResponse* response) override {
    return StartUnary(this, rpc_, "Feature.ListExamples", context, request, response,
                      &FeatureServiceImpl::DoListExamples);
  }
  Unary* GetIndexInfo(Context* context, const v1::GetIndexInfoRequest* request,
                      v1::IndexInfo* response) override {
    return StartUnary(this, rpc_, "Feature.GetIndexInfo", context, request, response,
                      &FeatureServiceImpl::DoGetIndexInfo);
  }

 private:
  absl::StatusOr<std::shared_ptr<const IndexReader>> Open(const v1::IndexRef& index) {
    return catalog_.OpenIndex(index.sae_id(), index.corpus_id());
  }

  absl::Status DoListFeatures(const v1::ListFeaturesRequest& request,
                              v1::ListFeaturesResponse* response, const CallContext&) {
    ASSIGN_OR_RETURN(const auto index, Open(request.index()));
    FeatureQuery query;
    ASSIGN_OR_RETURN(query.order, OrderFromProto(request.order()));
    query.descending = request.descending();
    query.filter = FilterFromProto(request.filter());
    query.page_size = request.page_size() == 0 ? kDefaultFeatures : request.page_size();
    query.page_token = request.page_token();
    ASSIGN_OR_RETURN(const FeaturePage page, index->ListFeatures(query));
    for (const FeatureRow& row : page.features) Fill(*index, row, response->add_features());
    response->set_next_page_token(page.next_page_token);
    response->set_total(page.total);
    return absl::OkStatus();
  }

  absl::Status DoGetFeature(const v1::GetFeatureRequest& request, v1::Feature* response,
                            const CallContext&) {
    ASSIGN_OR_RETURN(const auto index, Open(request.index()));
    ASSIGN_OR_RETURN(const FeatureRow row, index->GetFeature(request.feature()));
    ASSIGN_OR_RETURN(const FeatureDetailRow detail, index->GetFeatureDetail(request.feature()));
    Fill(*index, row, response->mutable_stats());
    ToProto(detail.histogram, response->mutable_activations());
    auto fill_effects = [&](const std::vector<LogitEffectRow>& effects, auto add) {
      for (const LogitEffectRow& effect : effects) {
        v1::LogitEffect* out = add();
        ToProto(index->Token(effect.token), out->mutable_token());
        out->set_effect(effect.effect);
      }
    };
    fill_effects(detail.top_logits, [&] { return response->add_top_logits(); });
    fill_effects(detail.bottom_logits, [&] { return response->add_bottom_logits(); });
    if (const auto next = index->NextAlive(request.feature())) response->set_next_alive(*next);
    if (const auto previous = index->PreviousAlive(request.feature())) {
      response->set_previous_alive(*previous);
    }
    return absl::OkStatus();
  }

  absl::Status DoListExamples(const v1::ListExamplesRequest& request,
                              v1::ListExamplesResponse* response, const CallContext&) {
    ASSIGN_OR_RETURN(const auto index, Open(request.index()));
    ExampleQuery query;
    query.feature = request.feature();
    query.bands = request.kind() == v1::ListExamplesRequest::BANDS;
    query.window = request.window();
    query.page_size = request.page_size() == 0 ? kDefaultExamples : request.page_size();
    ASSIGN_OR_RETURN(const std::vector<IndexedExample> examples,
                     featurescope::ListExamples(*index, query));
    for (const IndexedExample& example : examples) Fill(*index, example, response->add_examples());
    return absl::OkStatus();
  }

  absl::Status DoGetIndexInfo(const v1::GetIndexInfoRequest& request, v1::IndexInfo* response,
                              const CallContext&) {
    ASSIGN_OR_RETURN(const auto index, Open(request.index()));
    ToProto(index->info(), response);
    return absl::OkStatus();
  }

  const RpcEnvironment& rpc_;
  Catalog& catalog_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeFeatureService(const ServiceDependencies* dependencies) {
  return std::make_unique<FeatureServiceImpl>(dependencies);
}

}  // namespace featurescope
