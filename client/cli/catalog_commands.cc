// model, sae, corpus, tokenize, server: what the server knows.
#include <climits>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::CatalogService;

// Paths are the server's; relative ones are taken from here, which is right when both are on one
// machine.
std::string AbsolutePath(const std::string& path) {
  char resolved[PATH_MAX];
  return realpath(path.c_str(), resolved) == nullptr ? path : std::string(resolved);
}

std::string ModelLine(const v1::Model& m) {
  return absl::StrFormat(
      "model %s: %s, %d layers, d_model %d, %d heads, vocabulary %d, context %d, %s parameters%s\n",
      m.id(), m.architecture(), m.n_layers(), m.d_model(), m.n_heads(), m.d_vocab(), m.n_ctx(),
      FormatCount(static_cast<double>(m.n_parameters())),
      m.has_tokenizer() ? "" : ", no tokenizer (token ids only)");
}

std::string SaeLine(const v1::Sae& s) {
  return absl::StrFormat(
      "sae %s: %s, %s%s, d_in %d, d_sae %d, normalisation %s, b_dec %s the input; model %s at "
      "%s%s\n",
      s.id(), s.format(), s.architecture(), s.k() > 0 ? absl::StrCat(" k=", s.k()) : "", s.d_in(),
      s.d_sae(), s.normalize_activations(),
      s.apply_b_dec_to_input() ? "subtracted from" : "not subtracted from", s.model_id(),
      s.hook_name(), s.vectors_only() ? " (vectors only)" : "");
}

std::string CorpusLine(const v1::Corpus& c) {
  return absl::StrFormat(
      "corpus %s: %s tokens in %d documents, %d contexts of %d%s, tokenizer of %s\n", c.id(),
      FormatCount(static_cast<double>(c.n_tokens())), c.n_documents(), c.n_contexts(),
      c.context_size(), c.prepend_bos() ? " with BOS" : "", c.model_id());
}

template <typename Message>
void Show(CommandContext& context, const Message& message, const std::string& text) {
  if (context.json) {
    PrintJson(message);
  } else {
    Print(text);
  }
}

absl::Status AddModel(const Args& args, CommandContext& context) {
  v1::AddModelRequest request;
  request.set_model_id(args.at(0));
  request.set_path(AbsolutePath(args.at(1)));
  v1::Model model;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::AddModel,
                                      request, &model, absl::Minutes(30)));
  Show(context, model, absl::StrCat("added ", ModelLine(model)));
  return absl::OkStatus();
}

absl::Status ListModels(const Args&, CommandContext& context) {
  v1::ListModelsResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::ListModels,
                                      v1::ListModelsRequest(), &response));
  std::vector<std::vector<std::string>> rows;
  for (const auto& m : response.models()) {
    rows.push_back({m.id(), m.architecture(), absl::StrCat(m.n_layers()), absl::StrCat(m.d_model()),
                    absl::StrCat(m.n_ctx()), FormatCount(static_cast<double>(m.n_parameters())),
                    m.loaded() ? "yes" : "no", m.has_tokenizer() ? "yes" : "no"});
  }
  Show(context, response,
       FormatTable(context.terminal,
                   {"model", "architecture", "layers", "d_model", "context", "parameters", "loaded",
                    "tokenizer"},
                   rows));
  return absl::OkStatus();
}

absl::Status ShowModel(const Args& args, CommandContext& context) {
  v1::GetModelRequest request;
  request.set_model_id(args.at(0));
  v1::Model model;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::GetModel,
                                      request, &model));
  Show(context, model,
       absl::StrCat(ModelLine(model), "hash ", model.hash(), "\npath ", model.path(), "\nhooks\n  ",
                    absl::StrJoin(model.hook_names(), "\n  "), "\n"));
  return absl::OkStatus();
}

absl::Status AddSae(const Args& args, CommandContext& context) {
  v1::AddSaeRequest request;
  request.set_sae_id(args.at(0));
  request.set_path(AbsolutePath(args.at(1)));
  request.set_model_id(args.Get("model"));
  request.set_hook_name(args.Get("hook"));
  request.set_any_width(args.Has("any-width"));
  v1::Sae sae;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::AddSae,
                                      request, &sae, absl::Minutes(30)));
  Show(context, sae, absl::StrCat("added ", SaeLine(sae)));
  return absl::OkStatus();
}

absl::Status ListSaes(const Args& args, CommandContext& context) {
  v1::ListSaesRequest request;
  request.set_model_id(args.Get("model"));
  v1::ListSaesResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::ListSaes,
                                      request, &response));
  std::vector<std::vector<std::string>> rows;
  for (const auto& s : response.saes()) {
    rows.push_back({s.id(), s.model_id(), s.hook_name(), s.architecture(), absl::StrCat(s.d_in()),
                    absl::StrCat(s.d_sae()), absl::StrJoin(s.indexed_corpora(), ",")});
  }
  Show(
      context, response,
      FormatTable(context.terminal,
                  {"sae", "model", "hook", "architecture", "d_in", "d_sae", "indexed over"}, rows));
  return absl::OkStatus();
}

absl::Status ShowSae(const Args& args, CommandContext& context) {
  v1::GetSaeRequest request;
  request.set_sae_id(args.at(0));
  v1::Sae sae;
  RETURN_IF_ERROR(
      context.client.Call(context.client.catalog(), &CatalogService::Stub::GetSae, request, &sae));
  Show(context, sae,
       absl::StrCat(SaeLine(sae), "hash ", sae.hash(), "\npath ", sae.path(), "\nindexed over ",
                    absl::StrJoin(sae.indexed_corpora(), ", "), "\n"));
  return absl::OkStatus();
}

absl::Status AddCorpus(const Args& args, CommandContext& context) {
  v1::AddCorpusRequest request;
  request.set_corpus_id(args.at(0));
  for (size_t i = 1; i < args.positionals().size(); ++i) {
    request.add_paths(AbsolutePath(args.at(i)));
  }
  request.set_model_id(args.Get("model"));
  request.set_text_field(args.Get("field"));
  request.set_no_bos(args.Has("no-bos"));
  ASSIGN_OR_RETURN(const uint64_t context_size, args.Integer("context-size", 0));
  request.set_context_size(static_cast<uint32_t>(context_size));

  grpc::ClientContext call;
  auto stream = context.client.catalog().AddCorpus(&call, request);
  v1::AddCorpusResponse response;
  v1::Corpus corpus;
  ProgressLine progress(context.terminal);
  while (stream->Read(&response)) {
    const auto total = static_cast<double>(std::max<uint64_t>(response.bytes_total(), 1));
    if (!context.json) {
      progress.Show(static_cast<double>(response.bytes_read()) / total, "tokenizing",
                    absl::StrCat(FormatCount(static_cast<double>(response.n_tokens())), " tokens"));
    }
    if (response.has_corpus()) corpus = response.corpus();
  }
  progress.Finish();
  RETURN_IF_ERROR(context.client.Explain(stream->Finish()));
  Show(context, corpus, absl::StrCat("added ", CorpusLine(corpus)));
  return absl::OkStatus();
}

absl::Status ListCorpora(const Args&, CommandContext& context) {
  v1::ListCorporaResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::ListCorpora,
                                      v1::ListCorporaRequest(), &response));
  std::vector<std::vector<std::string>> rows;
  for (const auto& c : response.corpora()) {
    rows.push_back({c.id(), c.model_id(), absl::StrCat(c.n_tokens()), absl::StrCat(c.n_documents()),
                    absl::StrCat(c.context_size())});
  }
  Show(context, response,
       FormatTable(context.terminal, {"corpus", "tokenizer of", "tokens", "documents", "context"},
                   rows));
  return absl::OkStatus();
}

// Deletes what `method` deletes, by its id.
template <typename Request>
std::function<absl::Status(const Args&, CommandContext&)> Deleter(
    grpc::Status (CatalogService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                 v1::DeleteResponse*),
    void (*set_id)(Request*, const std::string&)) {
  return [method, set_id](const Args& args, CommandContext& context) -> absl::Status {
    Request request;
    set_id(&request, args.at(0));
    v1::DeleteResponse response;
    RETURN_IF_ERROR(context.client.Call(context.client.catalog(), method, request, &response));
    Show(context, response, absl::StrCat("deleted ", args.at(0), "\n"));
    return absl::OkStatus();
  };
}

absl::Status Tokenize(const Args& args, CommandContext& context) {
  v1::TokenizeRequest request;
  request.set_model_id(args.Get("model"));
  request.set_text(args.Get("text"));
  request.set_no_bos(args.Has("no-bos"));
  v1::TokenizeResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::Tokenize,
                                      request, &response));
  std::vector<std::string> ids;
  std::vector<std::string> texts;
  for (const auto& token : response.tokens()) {
    ids.push_back(absl::StrCat(token.id()));
    texts.push_back(TokenLabel(token));
  }
  Show(context, response,
       absl::StrCat(absl::StrJoin(ids, ","), "\n", context.terminal.Dim(absl::StrJoin(texts, "|")),
                    "\n"));
  return absl::OkStatus();
}

absl::Status ServerInfo(const Args&, CommandContext& context) {
  v1::ServerInfo info;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(),
                                      &CatalogService::Stub::GetServerInfo,
                                      v1::GetServerInfoRequest(), &info));
  std::string text = absl::StrFormat(
      "featurescope %s on %s, up %s\n%s, %s, %d threads; LibTorch %s, gRPC %s, SQLite %s\n"
      "memory of models and SAEs: %s of %s bytes; %d of %d interactive tasks waiting\n",
      info.version(), info.device(), FormatDuration(static_cast<double>(info.uptime_seconds())),
      info.blas(), info.cpu_capability(), info.threads(), info.libtorch_version(),
      info.grpc_version(), info.sqlite_version(),
      FormatCount(static_cast<double>(info.memory_used_bytes())),
      FormatCount(static_cast<double>(info.memory_budget_bytes())), info.queue_depth(),
      info.queue_limit());
  for (const auto& warning : info.warnings()) absl::StrAppend(&text, "warning: ", warning, "\n");
  Show(context, info, text);
  return absl::OkStatus();
}

}  // namespace

std::vector<Command> CatalogCommands() {
  const Flag model{"model", "ID", "the model", true};
  return {
      {"model",
       "add",
       "Registers a model directory in HF layout.",
       {{"ID"}, {"DIR"}},
       {},
       AddModel},
      {"model", "list", "Lists the models.", {}, {}, ListModels},
      {"model", "show", "Shows a model and its hook points.", {{"ID"}}, {}, ShowModel},
      {"model",
       "delete",
       "Removes a model.",
       {{"ID"}},
       {},
       Deleter<v1::DeleteModelRequest>(
           &CatalogService::Stub::DeleteModel,
           [](v1::DeleteModelRequest* r, const std::string& id) { r->set_model_id(id); })},
      {"sae",
       "add",
       "Registers an SAE directory.",
       {{"ID"}, {"PATH"}},
       {model,
        {"hook", "NAME", "the hook point, where the files do not say it or say it wrongly"},
        {"any-width", "", "accept an SAE of another width, for vectors only"}},
       AddSae},
      {"sae", "list", "Lists the SAEs.", {}, {{"model", "ID", "only of this model"}}, ListSaes},
      {"sae", "show", "Shows an SAE.", {{"ID"}}, {}, ShowSae},
      {"sae",
       "delete",
       "Removes an SAE and its indexes.",
       {{"ID"}},
       {},
       Deleter<v1::DeleteSaeRequest>(
           &CatalogService::Stub::DeleteSae,
           [](v1::DeleteSaeRequest* r, const std::string& id) { r->set_sae_id(id); })},
      {"corpus",
       "add",
       "Tokenizes .txt files (a document each) or .jsonl files (a document a line).",
       {{"ID"}, {"FILE", true}},
       {{"model", "ID", "whose tokenizer to use; may be left out where there is one model"},
        {"context-size", "N", "tokens per context (default: the model's, at most 128)"},
        {"field", "NAME", "the text's field in .jsonl (default: text)"},
        {"no-bos", "", "no BOS token in front of each context"}},
       AddCorpus},
      {"corpus", "list", "Lists the corpora.", {}, {}, ListCorpora},
      {"corpus",
       "delete",
       "Removes a corpus.",
       {{"ID"}},
       {},
       Deleter<v1::DeleteCorpusRequest>(
           &CatalogService::Stub::DeleteCorpus,
           [](v1::DeleteCorpusRequest* r, const std::string& id) { r->set_corpus_id(id); })},
      {"tokenize",
       "",
       "Shows the tokens of a text.",
       {},
       {model, {"text", "T", "the text", true}, {"no-bos", "", "without the BOS token"}},
       Tokenize},
      {"server", "info", "Shows what the server runs on.", {}, {}, ServerInfo},
  };
}

}  // namespace featurescope
