// CatalogService: what this server knows.
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/service/convert.h"
#include "server/service/services.h"
#include "server/service/status_conversion.h"

namespace featurescope {
namespace {

constexpr size_t kMaxDetokenizeIds = 1 << 20;

class CatalogServiceImpl final : public v1::CatalogService::CallbackService {
 public:
  explicit CatalogServiceImpl(const ServiceDependencies* dependencies)
      : rpc_(dependencies->rpc),
        catalog_(*dependencies->catalog),
        server_info_(dependencies->server_info) {}

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* ListModels(Context* context, const v1::ListModelsRequest* request,
                    v1::ListModelsResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.ListModels", context, request, response,
                      &CatalogServiceImpl::DoListModels);
  }
  Unary* GetModel(Context* context, const v1::GetModelRequest* request,
                  v1::Model* response) override {
    return StartUnary(this, rpc_, "Catalog.GetModel", context, request, response,
                      &CatalogServiceImpl::DoGetModel);
  }
  Unary* ListSaes(Context* context, const v1::ListSaesRequest* request,
                  v1::ListSaesResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.ListSaes", context, request, response,
                      &CatalogServiceImpl::DoListSaes);
  }
  Unary* GetSae(Context* context, const v1::GetSaeRequest* request, v1::Sae* response) override {
    return StartUnary(this, rpc_, "Catalog.GetSae", context, request, response,
                      &CatalogServiceImpl::DoGetSae);
  }
  Unary* ListCorpora(Context* context, const v1::ListCorporaRequest* request,
                     v1::ListCorporaResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.ListCorpora", context, request, response,
                      &CatalogServiceImpl::DoListCorpora);
  }
  Unary* AddModel(Context* context, const v1::AddModelRequest* request,
                  v1::Model* response) override {
    return StartUnary(this, rpc_, "Catalog.AddModel", context, request, response,
                      &CatalogServiceImpl::DoAddModel);
  }
  Unary* AddSae(Context* context, const v1::AddSaeRequest* request, v1::Sae* response) override {
    return StartUnary(this, rpc_, "Catalog.AddSae", context, request, response,
                      &CatalogServiceImpl::DoAddSae);
  }
  Unary* ExportSae(Context* context, const v1::ExportSaeRequest* request,
                   v1::ExportSaeResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.ExportSae", context, request, response,
                      &CatalogServiceImpl::DoExportSae);
  }
  Unary* ListSaeReleases(Context* context, const v1::ListSaeReleasesRequest* request,
                         v1::ListSaeReleasesResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.ListSaeReleases", context, request, response,
                      &CatalogServiceImpl::DoListSaeReleases);
  }
  grpc::ServerWriteReactor<v1::AddCorpusResponse>* AddCorpus(
      Context* context, const v1::AddCorpusRequest* request) override {
    return StartServerStream(this, rpc_, rpc_.pool, "Catalog.AddCorpus", context, request,
                             &CatalogServiceImpl::DoAddCorpus);
  }
  Unary* DeleteModel(Context* context, const v1::DeleteModelRequest* request,
                     v1::DeleteResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.DeleteModel", context, request, response,
                      &CatalogServiceImpl::DoDeleteModel);
  }
  Unary* DeleteSae(Context* context, const v1::DeleteSaeRequest* request,
                   v1::DeleteResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.DeleteSae", context, request, response,
                      &CatalogServiceImpl::DoDeleteSae);
  }
  Unary* DeleteCorpus(Context* context, const v1::DeleteCorpusRequest* request,
                      v1::DeleteResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.DeleteCorpus", context, request, response,
                      &CatalogServiceImpl::DoDeleteCorpus);
  }
  Unary* LoadModel(Context* context, const v1::LoadModelRequest* request,
                   v1::Model* response) override {
    return StartUnary(this, rpc_, "Catalog.LoadModel", context, request, response,
                      &CatalogServiceImpl::DoLoadModel);
  }
  Unary* UnloadModel(Context* context, const v1::UnloadModelRequest* request,
                     v1::Model* response) override {
    return StartUnary(this, rpc_, "Catalog.UnloadModel", context, request, response,
                      &CatalogServiceImpl::DoUnloadModel);
  }
  Unary* Tokenize(Context* context, const v1::TokenizeRequest* request,
                  v1::TokenizeResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.Tokenize", context, request, response,
                      &CatalogServiceImpl::DoTokenize);
  }
  Unary* Detokenize(Context* context, const v1::DetokenizeRequest* request,
                    v1::DetokenizeResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.Detokenize", context, request, response,
                      &CatalogServiceImpl::DoDetokenize);
  }
  Unary* ApplyChatTemplate(Context* context, const v1::ApplyChatTemplateRequest* request,
                           v1::ApplyChatTemplateResponse* response) override {
    return StartUnary(this, rpc_, "Catalog.ApplyChatTemplate", context, request, response,
                      &CatalogServiceImpl::DoApplyChatTemplate);
  }
  Unary* GetServerInfo(Context* context, const v1::GetServerInfoRequest* request,
                       v1::ServerInfo* response) override {
    return StartUnary(this, rpc_, "Catalog.GetServerInfo", context, request, response,
                      &CatalogServiceImpl::DoGetServerInfo);
  }

 private:
  void Fill(const ModelRow& row, v1::Model* out) const {
    ToProto(row, catalog_.ModelIsLoaded(row.id),
            catalog_.dtype() == torch::kFloat32 ? "float32" : "bfloat16", out);
  }

  absl::Status Fill(const SaeRow& row, v1::Sae* out) const {
    ToProto(row, out);
    ASSIGN_OR_RETURN(const std::vector<IndexEntry> indexes, catalog_.ListIndexes(row.id));
    for (const IndexEntry& index : indexes) out->add_indexed_corpora(index.corpus_id);
    return absl::OkStatus();
  }

  absl::Status DoListModels(const v1::ListModelsRequest&, v1::ListModelsResponse* response,
                            const CallContext&) {
    ASSIGN_OR_RETURN(const std::vector<ModelRow> rows, catalog_.ListModels());
    for (const ModelRow& row : rows) Fill(row, response->add_models());
    return absl::OkStatus();
  }

  absl::Status DoGetModel(const v1::GetModelRequest& request, v1::Model* response,
                          const CallContext&) {
    ASSIGN_OR_RETURN(const ModelRow row, catalog_.GetModel(request.model_id()));
    Fill(row, response);
    return absl::OkStatus();
  }

  absl::Status DoListSaes(const v1::ListSaesRequest& request, v1::ListSaesResponse* response,
                          const CallContext&) {
    ASSIGN_OR_RETURN(const std::vector<SaeRow> rows, catalog_.ListSaes());
    for (const SaeRow& row : rows) {
      if (!request.model_id().empty() && row.model_id != request.model_id()) continue;
      RETURN_IF_ERROR(Fill(row, response->add_saes()));
    }
    return absl::OkStatus();
  }

  absl::Status DoGetSae(const v1::GetSaeRequest& request, v1::Sae* response, const CallContext&) {
    ASSIGN_OR_RETURN(const SaeRow row, catalog_.GetSae(request.sae_id()));
    return Fill(row, response);
  }

  absl::Status DoListCorpora(const v1::ListCorporaRequest&, v1::ListCorporaResponse* response,
                             const CallContext&) {
    ASSIGN_OR_RETURN(const std::vector<CorpusRow> rows, catalog_.ListCorpora());
    for (const CorpusRow& row : rows) ToProto(row, response->add_corpora());
    return absl::OkStatus();
  }

  absl::Status DoAddModel(const v1::AddModelRequest& request, v1::Model* response,
                          const CallContext&) {
    ASSIGN_OR_RETURN(const ModelRow row, catalog_.AddModel(request.model_id(), request.path()));
    Fill(row, response);
    return absl::OkStatus();
  }

  absl::Status DoAddSae(const v1::AddSaeRequest& request, v1::Sae* response, const CallContext&) {
    ASSIGN_OR_RETURN(const AddSaeOptions options, FromProto(request));
    ASSIGN_OR_RETURN(const SaeRow row, catalog_.AddSae(request.sae_id(), request.path(), options));
    return Fill(row, response);
  }

  absl::Status DoExportSae(const v1::ExportSaeRequest& request, v1::ExportSaeResponse* response,
                           const CallContext&) {
    ASSIGN_OR_RETURN(const ExportedSae exported,
                     catalog_.ExportSae(request.sae_id(), request.format(), request.directory()));
    for (const std::string& file : exported.files) response->add_files(file);
    response->set_bytes(exported.bytes);
    response->set_directory(ValidUtf8(exported.directory));
    return absl::OkStatus();
  }

  absl::Status DoListSaeReleases(const v1::ListSaeReleasesRequest&,
                                 v1::ListSaeReleasesResponse* response, const CallContext&) {
    for (const SaeRelease& release : SaeReleases()) ToProto(release, response->add_releases());
    return absl::OkStatus();
  }

  // The only model there is, for requests that leave it out.
  absl::StatusOr<std::string> OnlyModel() const {
    ASSIGN_OR_RETURN(const std::vector<ModelRow> rows, catalog_.ListModels());
    if (rows.size() == 1) return rows.front().id;
    return InvalidField("model_id",
                        rows.empty() ? "there is no model yet: add one with featurescope model add"
                                     : "model_id is empty, and there are several models: ",
                        absl::StrJoin(rows, ", ", [](std::string* out, const ModelRow& row) {
                          out->append(row.id);
                        }));
  }

  absl::Status DoAddCorpus(const v1::AddCorpusRequest& request,
                           MessageWriter<v1::AddCorpusResponse>& writer, const CallContext& call) {
    ASSIGN_OR_RETURN(AddCorpusOptions options, FromProto(request));
    if (options.model_id.empty()) {
      ASSIGN_OR_RETURN(options.model_id, OnlyModel());
    }
    v1::AddCorpusResponse response;
    const CorpusObserver observer = [&](const CorpusBuildProgress& progress) {
      ToProto(progress, &response);
      // A client that has gone is noticed through the call's token.
      if (!writer.Write(response).ok()) call.cancel.Cancel();
    };
    CorpusSummary summary;
    ASSIGN_OR_RETURN(const CorpusRow row, catalog_.AddCorpus(request.corpus_id(), options, observer,
                                                             call.cancel, &summary));
    ToProto(summary, &response);
    ToProto(row, response.mutable_corpus());
    return writer.Write(response);
  }

  absl::Status DoDeleteModel(const v1::DeleteModelRequest& request, v1::DeleteResponse*,
                             const CallContext&) {
    return catalog_.DeleteModel(request.model_id());
  }
  absl::Status DoDeleteSae(const v1::DeleteSaeRequest& request, v1::DeleteResponse*,
                           const CallContext&) {
    return catalog_.DeleteSae(request.sae_id());
  }
  absl::Status DoDeleteCorpus(const v1::DeleteCorpusRequest& request, v1::DeleteResponse*,
                              const CallContext&) {
    return catalog_.DeleteCorpus(request.corpus_id());
  }

  absl::Status DoLoadModel(const v1::LoadModelRequest& request, v1::Model* response,
                           const CallContext&) {
    RETURN_IF_ERROR(catalog_.LoadedModel(request.model_id()).status());
    ASSIGN_OR_RETURN(const ModelRow row, catalog_.GetModel(request.model_id()));
    Fill(row, response);
    return absl::OkStatus();
  }

  absl::Status DoUnloadModel(const v1::UnloadModelRequest& request, v1::Model* response,
                             const CallContext&) {
    RETURN_IF_ERROR(catalog_.UnloadModel(request.model_id()));
    ASSIGN_OR_RETURN(const ModelRow row, catalog_.GetModel(request.model_id()));
    Fill(row, response);
    return absl::OkStatus();
  }

  absl::Status DoTokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response,
                          const CallContext&) {
    ASSIGN_OR_RETURN(const auto tokenizer, catalog_.LoadedTokenizer(request.model_id()));
    ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, tokenizer->Encode(request.text()));
    const ModelRef model{nullptr, tokenizer};
    if (tokenizer->adds_bos() && !request.no_bos()) {
      ToProto(MakeToken(model, *tokenizer->bos_id()), response->add_tokens());
    }
    for (uint32_t id : ids) ToProto(MakeToken(model, id), response->add_tokens());
    return absl::OkStatus();
  }

  absl::Status DoDetokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response,
                            const CallContext&) {
    if (static_cast<size_t>(request.token_ids_size()) > kMaxDetokenizeIds) {
      return InvalidField("token_ids", "token_ids holds ", request.token_ids_size(),
                          " ids, more than ", kMaxDetokenizeIds);
    }
    ASSIGN_OR_RETURN(const auto tokenizer, catalog_.LoadedTokenizer(request.model_id()));
    const std::vector<uint32_t> ids(request.token_ids().begin(), request.token_ids().end());
    for (uint32_t id : ids) {
      if (id >= tokenizer->vocab_size()) {
        return InvalidField("token_ids", "token id ", id, " is out of range [0, ",
                            tokenizer->vocab_size(), ")");
      }
    }
    response->set_text(tokenizer->Decode(ids));
    return absl::OkStatus();
  }

  absl::Status DoApplyChatTemplate(const v1::ApplyChatTemplateRequest& request,
                                   v1::ApplyChatTemplateResponse* response, const CallContext&) {
    ASSIGN_OR_RETURN(const auto tokenizer, catalog_.LoadedTokenizer(request.model_id()));
    ChatOptions options;
    options.add_generation_prompt = !request.no_generation_prompt();
    ASSIGN_OR_RETURN(
        const ChatPrompt prompt,
        featurescope::ApplyChatTemplate(*tokenizer, FromProto(request.messages()), options));
    response->set_text(prompt.text);
    const ModelRef model{nullptr, tokenizer};
    for (const uint32_t id : prompt.ids) ToProto(MakeToken(model, id), response->add_tokens());
    return absl::OkStatus();
  }

  absl::Status DoGetServerInfo(const v1::GetServerInfoRequest&, v1::ServerInfo* response,
                               const CallContext&) {
    *response = server_info_();
    return absl::OkStatus();
  }

  const RpcEnvironment& rpc_;
  Catalog& catalog_;
  const std::function<v1::ServerInfo()>& server_info_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeCatalogService(const ServiceDependencies* dependencies) {
  return std::make_unique<CatalogServiceImpl>(dependencies);
}

}  // namespace featurescope
