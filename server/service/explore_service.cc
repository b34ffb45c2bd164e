// ExploreService: live questions to a model and its SAEs.
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/explore/activations.h"
#include "server/explore/capture.h"
#include "server/explore/check_sae.h"
#include "server/explore/generate.h"
#include "server/explore/vectors.h"
#include "server/service/check_input.h"
#include "server/service/convert.h"
#include "server/service/services.h"

namespace featurescope {
namespace {

constexpr uint32_t kDefaultNewTokens = 64;

class ExploreServiceImpl final : public v1::ExploreService::CallbackService {
 public:
  explicit ExploreServiceImpl(const ServiceDependencies* dependencies)
      : rpc_(dependencies->rpc), catalog_(*dependencies->catalog), worker_(*dependencies->worker) {}

  using Context = grpc::CallbackServerContext;

  grpc::ServerUnaryReactor* ComputeActivations(Context* context,
                                               const v1::ComputeActivationsRequest* request,
                                               v1::ComputeActivationsResponse* response) override {
    return StartUnary(this, rpc_, "Explore.ComputeActivations", context, request, response,
                      &ExploreServiceImpl::DoComputeActivations);
  }
  grpc::ServerWriteReactor<v1::CaptureActivationsResponse>* CaptureActivations(
      Context* context, const v1::CaptureActivationsRequest* request) override {
    return StartServerStream(this, rpc_, rpc_.pool, "Explore.CaptureActivations", context, request,
                             &ExploreServiceImpl::DoCaptureActivations);
  }
  grpc::ServerBidiReactor<v1::EncodeVectorsRequest, v1::EncodeVectorsResponse>* EncodeVectors(
      Context* context) override {
    return StartBidiStream(this, rpc_, "Explore.EncodeVectors", context,
                           &ExploreServiceImpl::DoEncodeVectors);
  }
  grpc::ServerBidiReactor<v1::DecodeVectorsRequest, v1::DecodeVectorsResponse>* DecodeVectors(
      Context* context) override {
    return StartBidiStream(this, rpc_, "Explore.DecodeVectors", context,
                           &ExploreServiceImpl::DoDecodeVectors);
  }
  grpc::ServerUnaryReactor* CheckSae(Context* context, const v1::CheckSaeRequest* request,
                                     v1::CheckSaeResponse* response) override {
    return StartUnary(this, rpc_, "Explore.CheckSae", context, request, response,
                      &ExploreServiceImpl::DoCheckSae);
  }
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      Context* context, const v1::GenerateRequest* request) override {
    return StartServerStream(this, rpc_, rpc_.pool, "Explore.Generate", context, request,
                             &ExploreServiceImpl::DoGenerate);
  }

 private:
  absl::StatusOr<ModelRef> LookUpModel(absl::string_view model_id) {
    ModelRef model;
    ASSIGN_OR_RETURN(const ModelRow row, catalog_.GetModel(model_id));
    ASSIGN_OR_RETURN(model.model, catalog_.LoadedModel(model_id));
    if (row.has_tokenizer) {
      ASSIGN_OR_RETURN(model.tokenizer, catalog_.LoadedTokenizer(model_id));
    }
    return model;
  }

  // The SAE at its hook in the model `model_id`; an empty model_id takes the SAE's own and sets it.
  absl::StatusOr<SaeRef> LookUpSae(const std::string& sae_id, std::string* model_id) {
    ASSIGN_OR_RETURN(const SaeRow row, catalog_.GetSae(sae_id));
    if (row.vectors_only) {
      return FailedPrecondition("SAE ", sae_id, " was added for vectors only: its d_in ", row.d_in,
                                " is not the width of ", row.hook_name, " in model ", row.model_id);
    }
    if (model_id->empty()) *model_id = row.model_id;
    if (row.model_id != *model_id) {
      return InvalidField("sae_id", "SAE ", sae_id, " belongs to model ", row.model_id, ", not to ",
                          *model_id);
    }
    SaeRef ref;
    ref.id = sae_id;
    ASSIGN_OR_RETURN(ref.sae, catalog_.LoadedSae(sae_id));
    ASSIGN_OR_RETURN(ref.hook, HookPoint::Parse(row.hook_name));
    if (!row.hook_name_out.empty()) {
      ASSIGN_OR_RETURN(ref.hook_out, HookPoint::Parse(row.hook_name_out));
    }
    ref.center_writing_weights = row.center_writing_weights;
    return ref;
  }

  absl::StatusOr<ActivationSelection> Selection(const v1::ComputeActivationsRequest& request) {
    switch (request.selection_case()) {
      case v1::ComputeActivationsRequest::kFeatures:
        return TheseFeatures{{request.features().ids().begin(), request.features().ids().end()}};
      case v1::ComputeActivationsRequest::kTopKPerToken:
        return TopKPerToken{request.top_k_per_token()};
      case v1::ComputeActivationsRequest::kTopOverText: {
        const v1::TopOverText& top = request.top_over_text();
        TopOverText selection{
            top.k(), TextScore::kMax, {top.positions().begin(), top.positions().end()}};
        if (top.score() == v1::TopOverText::SCORE_MEAN) {
          selection.score = TextScore::kMean;
        } else if (top.score() == v1::TopOverText::SCORE_SUM) {
          selection.score = TextScore::kSum;
        } else if (top.score() != v1::TopOverText::SCORE_MAX) {
          return InvalidField("top_over_text.score", "top_over_text.score is ",
                              static_cast<int>(top.score()), ", which this server does not know");
        }
        return selection;
      }
      case v1::ComputeActivationsRequest::SELECTION_NOT_SET:
        break;
    }
    return AllPositive{};
  }

  absl::Status DoComputeActivations(const v1::ComputeActivationsRequest& request,
                                    v1::ComputeActivationsResponse* response,
                                    const CallContext& call) {
    ActivationsRequest question;
    if (request.sae_ids().empty())
      return InvalidField("sae_ids", "sae_ids is empty: name at least one SAE");
    if (static_cast<size_t>(request.sae_ids_size()) > kMaxSaesPerRequest) {
      return InvalidField("sae_ids", "sae_ids names ", request.sae_ids_size(), " SAEs, more than ",
                          kMaxSaesPerRequest);
    }
    std::string model_id;
    for (const std::string& sae_id : request.sae_ids()) {
      ASSIGN_OR_RETURN(question.saes.emplace_back(), LookUpSae(sae_id, &model_id));
    }
    ASSIGN_OR_RETURN(question.model, LookUpModel(model_id));
    for (const v1::TextInput& input : request.inputs()) question.inputs.push_back(FromProto(input));
    ASSIGN_OR_RETURN(question.selection, Selection(request));
    question.min_activation = request.min_activation();
    question.include_special_tokens = request.include_special_tokens();
    question.statistics = !request.no_statistics();
    question.cancel = call.cancel;
    ASSIGN_OR_RETURN(const ActivationsResponse answer,
                     featurescope::ComputeActivations(question, worker_));
    for (const TextActivations& text : answer.texts) {
      v1::TextActivations* out = response->add_texts();
      for (const Token& token : text.tokens) ToProto(token, out->add_tokens());
      for (const SaeActivations& sae : text.saes) ToProto(sae, out->add_saes());
    }
    return absl::OkStatus();
  }

  absl::Status DoCaptureActivations(const v1::CaptureActivationsRequest& request,
                                    MessageWriter<v1::CaptureActivationsResponse>& writer,
                                    const CallContext& call) {
    CaptureRequest question;
    ASSIGN_OR_RETURN(question.model, LookUpModel(request.model_id()));
    for (const v1::TextInput& input : request.inputs()) question.inputs.push_back(FromProto(input));
    question.hook_names.assign(request.hook_names().begin(), request.hook_names().end());
    question.logits = request.logits();
    question.positions.assign(request.positions().begin(), request.positions().end());
    question.cancel = call.cancel;
    return featurescope::CaptureActivations(question, worker_, [&](const CapturePiece& piece) {
      v1::CaptureActivationsResponse response;
      response.set_input(piece.input);
      response.set_name(piece.name);
      response.mutable_shape()->Add(piece.shape.begin(), piece.shape.end());
      response.set_offset(piece.offset);
      response.mutable_values()->Add(piece.values.begin(), piece.values.end());
      response.mutable_ids()->Add(piece.ids.begin(), piece.ids.end());
      return writer.Write(response).ok();
    });
  }

  // The SAE that a message of a stream names, or that an earlier one did.
  absl::Status FollowSae(const std::string& sae_id, std::string* current,
                         std::shared_ptr<const Sae>* sae) {
    if (!sae_id.empty() && sae_id != *current) {
      ASSIGN_OR_RETURN(*sae, catalog_.LoadedSae(sae_id));
      *current = sae_id;
    }
    if (*sae == nullptr)
      return InvalidField("sae_id", "the first message must name the SAE: sae_id is empty");
    return absl::OkStatus();
  }

  absl::Status DoEncodeVectors(
      MessageStream<v1::EncodeVectorsRequest, v1::EncodeVectorsResponse>& stream,
      const CallContext& call) {
    std::string current;
    std::shared_ptr<const Sae> sae;
    v1::EncodeVectorsRequest request;
    while (stream.Read(&request)) {
      RETURN_IF_ERROR(FollowSae(request.sae_id(), &current, &sae));
      ASSIGN_OR_RETURN(const EncodedVectors encoded,
                       featurescope::EncodeVectors(sae, request.vectors(), request.n_vectors(),
                                                   request.reconstruct(), call.cancel, worker_));
      v1::EncodeVectorsResponse response;
      ToProto(encoded.feature_acts, response.mutable_feature_acts());
      response.mutable_sae_out()->Add(encoded.sae_out.begin(), encoded.sae_out.end());
      RETURN_IF_ERROR(stream.Write(response));
    }
    return call.cancel.Check();
  }

  absl::Status DoDecodeVectors(
      MessageStream<v1::DecodeVectorsRequest, v1::DecodeVectorsResponse>& stream,
      const CallContext& call) {
    std::string current;
    std::shared_ptr<const Sae> sae;
    v1::DecodeVectorsRequest request;
    while (stream.Read(&request)) {
      RETURN_IF_ERROR(FollowSae(request.sae_id(), &current, &sae));
      ASSIGN_OR_RETURN(const std::vector<float> out,
                       featurescope::DecodeVectors(sae, FromProto(request.feature_acts()),
                                                   call.cancel, worker_));
      v1::DecodeVectorsResponse response;
      response.mutable_sae_out()->Add(out.begin(), out.end());
      RETURN_IF_ERROR(stream.Write(response));
    }
    return call.cancel.Check();
  }

  // What 1 of the unit is, from the SAE's index.
  absl::Status FillUnitSize(absl::string_view name, Intervention* intervention) {
    if (intervention->unit != EditUnit::kFeatureMax &&
        intervention->unit != EditUnit::kFeatureP99) {
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const auto index, catalog_.OpenIndex(intervention->sae.id, ""));
    ASSIGN_OR_RETURN(const FeatureRow row, index->GetFeature(intervention->feature));
    if (row.n_active == 0) {
      return FailedPrecondition(
          name, ": feature ", intervention->feature, " of ", intervention->sae.id,
          " never fired in the index, so it has no maximum to measure in; use the unit ",
          "FEATURE or RESIDUAL");
    }
    intervention->unit_size =
        static_cast<float>(intervention->unit == EditUnit::kFeatureMax ? row.max : row.p99);
    return absl::OkStatus();
  }

  // The messages as the model's own template writes them.
  absl::StatusOr<TextInput> Conversation(const v1::GenerateRequest& request,
                                         const ModelRef& model) const {
    if (request.has_prompt()) {
      return InvalidField("messages", "there are messages and a prompt; give one of them");
    }
    if (model.tokenizer == nullptr) {
      return FailedPrecondition("messages: the model has no tokenizer, so it takes token ids");
    }
    ASSIGN_OR_RETURN(ChatPrompt prompt, featurescope::ApplyChatTemplate(
                                            *model.tokenizer, FromProto(request.messages())));
    TextInput input;
    input.input = std::move(prompt.ids);
    return input;
  }

  absl::Status DoGenerate(const v1::GenerateRequest& request,
                          MessageWriter<v1::GenerateResponse>& writer, const CallContext& call) {
    GenerateRequest question;
    ASSIGN_OR_RETURN(question.model, LookUpModel(request.model_id()));
    if (request.messages().empty()) {
      question.prompt = FromProto(request.prompt());
    } else {
      ASSIGN_OR_RETURN(question.prompt, Conversation(request, question.model));
    }
    question.max_new_tokens =
        request.max_new_tokens() == 0 ? kDefaultNewTokens : request.max_new_tokens();
    question.sampling = FromProto(request.sampling());
    question.stop_strings.assign(request.stop_strings().begin(), request.stop_strings().end());
    std::string model_id = request.model_id();
    for (int i = 0; i < request.interventions_size(); ++i) {
      const std::string name = absl::StrCat("interventions[", i, "]");
      ASSIGN_OR_RETURN(Intervention intervention, FromProto(request.interventions(i), name));
      ASSIGN_OR_RETURN(intervention.sae, LookUpSae(request.interventions(i).sae_id(), &model_id));
      RETURN_IF_ERROR(FillUnitSize(name, &intervention));
      question.interventions.push_back(std::move(intervention));
    }
    question.with_baseline = request.with_baseline();
    question.top_logprobs = request.top_logprobs();
    question.cancel = call.cancel;
    return featurescope::Generate(question, worker_, [&](const GenerateEvent& event) {
      v1::GenerateResponse response;
      ToProto(event, request, &response);
      return writer.Write(response).ok();
    });
  }

  absl::Status DoCheckSae(const v1::CheckSaeRequest& request, v1::CheckSaeResponse* response,
                          const CallContext& call) {
    CheckSaeRequest question;
    std::string model_id;
    ASSIGN_OR_RETURN(question.sae, LookUpSae(request.sae_id(), &model_id));
    ASSIGN_OR_RETURN(question.model, LookUpModel(model_id));
    ASSIGN_OR_RETURN(const SaeRow sae, catalog_.GetSae(request.sae_id()));
    ASSIGN_OR_RETURN(const ModelRow model, catalog_.GetModel(model_id));
    RETURN_IF_ERROR(FillCheckInput(request, model, sae, &catalog_, &question));
    question.trained_on = sae.trained_on;
    question.cancel = call.cancel;
    ASSIGN_OR_RETURN(const SaeCheck check, featurescope::CheckSae(question, worker_));
    ToProto(check, response);
    return absl::OkStatus();
  }

  const RpcEnvironment& rpc_;
  Catalog& catalog_;
  DeviceWorker& worker_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeExploreService(const ServiceDependencies* dependencies) {
  return std::make_unique<ExploreServiceImpl>(dependencies);
}

}  // namespace featurescope
