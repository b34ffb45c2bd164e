// model, corpus, tokenize, server: what the server knows.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/deleter.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::CatalogService;

std::string CorpusLine(const v1::Corpus& c) {
  std::string text = absl::StrFormat(
      "corpus %s: %s tokens in %d documents (%s), %d contexts of %d%s, %s, tokenizer of %s\n",
      c.id(), FormatCount(static_cast<double>(c.n_tokens())), c.n_documents(),
      absl::StrJoin(c.formats(), ", "), c.n_contexts(), c.context_size(),
      c.prepend_bos() ? " with BOS" : "", c.layout(), c.model_id());
  if (c.n_heldout_contexts() > 0) {
    absl::StrAppendFormat(&text, "  %d contexts (%s tokens) are held out\n", c.n_heldout_contexts(),
                          FormatCount(static_cast<double>(c.n_heldout_tokens())));
  }
  return text;
}

// What was left out, if anything was.
std::string CorpusNotes(const v1::AddCorpusResponse& response) {
  std::string notes;
  if (response.n_skipped_files() > 0) {
    absl::StrAppend(
        &notes, "  left out ", response.n_skipped_files(),
        " files of no known format: ", absl::StrJoin(response.skipped_files(), ", "),
        response.n_skipped_files() > static_cast<uint64_t>(response.skipped_files_size()) ? ", ..."
                                                                                          : "",
        "\n");
  }
  if (response.n_empty_documents() > 0) {
    absl::StrAppend(&notes, "  left out ", response.n_empty_documents(), " empty documents\n");
  }
  if (response.n_dropped_tokens() > 0) {
    absl::StrAppend(&notes, "  cut off ", response.n_dropped_tokens(),
                    " tokens behind the context size\n");
  }
  return notes;
}

absl::Status AddModel(const Args& args, CommandContext& context) {
  v1::AddModelRequest request;
  request.set_model_id(args.at(0));
  request.set_path(AbsolutePath(args.at(1)));
  v1::Model model;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::AddModel,
                                      request, &model, absl::Minutes(30)));
  PrintAnswer(context, model, absl::StrCat("added ", ModelText(model)));
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
                    m.dtype(), m.loaded() ? "yes" : "no", m.has_tokenizer() ? "yes" : "no"});
  }
  PrintAnswer(context, response,
              FormatTable(context.terminal,
                          {"model", "architecture", "layers", "d_model", "context", "parameters",
                           "dtype", "loaded", "tokenizer"},
                          rows));
  return absl::OkStatus();
}

absl::Status ShowModel(const Args& args, CommandContext& context) {
  v1::GetModelRequest request;
  request.set_model_id(args.at(0));
  v1::Model model;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::GetModel,
                                      request, &model));
  PrintAnswer(
      context, model,
      absl::StrCat(ModelText(model), "hash ", model.hash(), "\nsource ", model.source(), "\npath ",
                   model.path(), "\nhooks\n  ", absl::StrJoin(model.hook_names(), "\n  "), "\n"));
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
  request.set_layout(args.Get("layout"));
  request.set_document_format(args.Get("format"));
  request.set_text_separator(args.Get("separator"));
  request.set_no_csv_quotes(args.Has("no-csv-quotes"));
  request.set_append_eos(args.Has("append-eos"));
  ASSIGN_OR_RETURN(const double heldout, args.Number("heldout", 0));
  request.set_heldout_fraction(heldout);
  ASSIGN_OR_RETURN(const uint64_t context_size, args.Integer("context-size", 0));
  request.set_context_size(static_cast<uint32_t>(context_size));

  grpc::ClientContext call;
  auto stream = context.client.catalog().AddCorpus(&call, request);
  v1::AddCorpusResponse response;
  v1::Corpus corpus;
  std::string notes;
  ProgressLine progress(context.terminal);
  while (stream->Read(&response)) {
    const auto total = static_cast<double>(std::max<uint64_t>(response.bytes_total(), 1));
    if (!context.json) {
      progress.Show(static_cast<double>(response.bytes_read()) / total, "tokenizing",
                    absl::StrCat(FormatCount(static_cast<double>(response.n_tokens())), " tokens  ",
                                 FormatCount(response.tokens_per_second()), " tok/s"));
    }
    if (response.has_corpus()) {
      corpus = response.corpus();
      notes = CorpusNotes(response);
    }
  }
  progress.Finish();
  RETURN_IF_ERROR(context.client.Explain(stream->Finish()));
  PrintAnswer(context, corpus, absl::StrCat("added ", CorpusLine(corpus), notes));
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
  PrintAnswer(context, response,
              FormatTable(context.terminal,
                          {"corpus", "tokenizer of", "tokens", "documents", "context"}, rows));
  return absl::OkStatus();
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
  PrintAnswer(context, response,
              absl::StrCat(absl::StrJoin(ids, ","), "\n",
                           context.terminal.Dim(absl::StrJoin(texts, "|")), "\n"));
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
  PrintAnswer(context, info, text);
  return absl::OkStatus();
}

}  // namespace

std::string ModelText(const v1::Model& m) {
  std::string text = absl::StrFormat(
      "model %s: %s, %d layers, d_model %d, %d heads, vocabulary %d, context %d, %s parameters, "
      "computing in %s; %s%s\n",
      m.id(), m.architecture(), m.n_layers(), m.d_model(), m.n_heads(), m.d_vocab(), m.n_ctx(),
      FormatCount(static_cast<double>(m.n_parameters())), m.dtype(),
      m.has_tokenizer() ? absl::StrCat("tokenizer: ", m.tokenizer())
                        : "no tokenizer (token ids only)",
      m.has_chat_template() ? ", with a chat template" : "");
  for (const std::string& warning : m.warnings()) {
    absl::StrAppend(&text, "  warning: ", warning, "\n");
  }
  return text;
}

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
      {"corpus",
       "add",
       "Tokenizes .txt (a document each), .jsonl, .csv and .tsv files (a document a row), also as "
       ".gz "
       "and .zst, and directories of them.",
       {{"ID"}, {"FILE", true}},
       {{"model", "ID", "whose tokenizer to use; may be left out where there is one model"},
        {"context-size", "N", "tokens per context (default: the model's, at most 128)"},
        {"field", "NAME", "the text's field in .jsonl, or column in .csv and .tsv (default: text)"},
        {"layout", "HOW",
         "packed (documents follow each other; the default), split (each begins a context) or "
         "truncated (one context a document)"},
        {"format", "NAME", "text, jsonl, csv or tsv, whatever the files are called"},
        {"separator", "T", "cuts text files into documents, e.g. \"<|endoftext|>\""},
        {"no-csv-quotes", "", "a quote in .csv and .tsv is a character like any other"},
        {"append-eos", "", "end every document with the EOS token"},
        {"heldout", "SHARE", "share of the documents held out from training, 0 to 0.5"},
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
