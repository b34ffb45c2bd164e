// sae: adding, showing, checking and exporting sparse autoencoders.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/deleter.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::CatalogService;
using v1::ExploreService;

constexpr absl::Duration kLongCall = absl::Minutes(30);

std::string BosRule(const v1::Sae& sae) {
  const std::string rule = sae.prepend_bos() ? "contexts begin with BOS" : "contexts without BOS";
  return sae.prepend_bos_known() ? rule : "the files do not say";
}

// Puts a switch and its opposite into an optional field.
//   errors  InvalidArgument  both are given
absl::StatusOr<std::optional<bool>> Switch(const Args& args, const std::string& name) {
  const bool on = args.Has(name);
  const bool off = args.Has(absl::StrCat("no-", name));
  if (on && off) return InvalidArgument("--", name, " and --no-", name, " exclude each other");
  if (!on && !off) return std::optional<bool>();
  return std::optional<bool>(on);
}

absl::Status FillOverrides(const Args& args, v1::SaeOverrides* overrides) {
  ASSIGN_OR_RETURN(const std::optional<bool> b_dec, Switch(args, "apply-b-dec-to-input"));
  if (b_dec) overrides->set_apply_b_dec_to_input(*b_dec);
  ASSIGN_OR_RETURN(const std::optional<bool> rescale, Switch(args, "rescale-by-decoder-norm"));
  if (rescale) overrides->set_rescale_acts_by_decoder_norm(*rescale);
  if (args.Has("normalize-activations")) {
    overrides->set_normalize_activations(args.Get("normalize-activations"));
  }
  if (args.Has("selection")) overrides->set_selection(args.Get("selection"));
  if (args.Has("hook-out")) overrides->set_hook_name_out(args.Get("hook-out"));
  if (args.Has("norm-scaling-factor")) {
    ASSIGN_OR_RETURN(const double factor, args.Number("norm-scaling-factor", 0));
    overrides->set_norm_scaling_factor(factor);
  }
  if (args.Has("threshold")) {
    ASSIGN_OR_RETURN(const double threshold, args.Number("threshold", 0));
    overrides->set_threshold(threshold);
  }
  if (args.Has("k")) {
    ASSIGN_OR_RETURN(const uint64_t k, args.Integer("k", 0));
    overrides->set_k(static_cast<uint32_t>(k));
  }
  return absl::OkStatus();
}

absl::Status AddSae(const Args& args, CommandContext& context) {
  v1::AddSaeRequest request;
  request.set_sae_id(args.at(0));
  request.set_path(AbsolutePath(args.at(1)));
  request.set_model_id(args.Get("model"));
  request.set_hook_name(args.Get("hook"));
  request.set_any_width(args.Has("any-width"));
  ASSIGN_OR_RETURN(const std::optional<bool> center, Switch(args, "center-writing-weights"));
  if (center) request.set_center_writing_weights(*center);
  RETURN_IF_ERROR(FillOverrides(args, request.mutable_overrides()));
  v1::Sae sae;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::AddSae,
                                      request, &sae, kLongCall));
  PrintAnswer(context, sae, absl::StrCat("added ", SaeTable(context.terminal, sae)));
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
    rows.push_back({s.id(), s.model_id(), s.hook_name(), s.architecture(), s.format(),
                    absl::StrCat(s.d_in()), absl::StrCat(s.d_sae()),
                    absl::StrJoin(s.indexed_corpora(), ","),
                    s.warnings().empty() ? "" : absl::StrCat(s.warnings_size())});
  }
  PrintAnswer(context, response,
              FormatTable(context.terminal,
                          {"sae", "model", "hook", "architecture", "format", "d_in", "d_sae",
                           "indexed over", "warnings"},
                          rows));
  return absl::OkStatus();
}

absl::Status ShowSae(const Args& args, CommandContext& context) {
  v1::GetSaeRequest request;
  request.set_sae_id(args.at(0));
  v1::Sae sae;
  RETURN_IF_ERROR(
      context.client.Call(context.client.catalog(), &CatalogService::Stub::GetSae, request, &sae));
  PrintAnswer(
      context, sae,
      absl::StrCat(SaeTable(context.terminal, sae),
                   Properties(context.terminal,
                              {{"source", sae.source()},
                               {"path", sae.path()},
                               {"hash", sae.hash()},
                               {"indexed over", absl::StrJoin(sae.indexed_corpora(), ", ")}})));
  return absl::OkStatus();
}

std::vector<std::string> FitCells(const std::string& binding, const v1::SaeFit& fit) {
  return {FormatNumber(fit.explained_variance()), FormatNumber(fit.l0()),
          FormatNumber(fit.norm_ratio()), FormatNumber(fit.cosine()), binding};
}

absl::Status CheckSae(const Args& args, CommandContext& context) {
  v1::CheckSaeRequest request;
  request.set_sae_id(args.at(0));
  if (args.Has("corpus") && (args.Has("text") || args.Has("tokens"))) {
    return InvalidArgument("--corpus excludes --text and --tokens");
  }
  if (args.Has("corpus")) {
    request.set_corpus_id(args.Get("corpus"));
  } else if (args.Has("text") || args.Has("tokens")) {
    ASSIGN_OR_RETURN(*request.mutable_text(), InputFromFlags(args, "text"));
  }
  ASSIGN_OR_RETURN(const uint64_t max_tokens, args.Integer("max-tokens", 0));
  request.set_max_tokens(static_cast<uint32_t>(max_tokens));
  v1::CheckSaeResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.explore(), &ExploreService::Stub::CheckSae,
                                      request, &response, kLongCall));
  std::vector<std::vector<std::string>> rows = {FitCells("as it is bound", response.as_bound())};
  for (const v1::SaeFit& fit : response.better()) rows.push_back(FitCells(fit.change(), fit));
  std::string text = absl::StrFormat("sae %s %s (%d tokens, %d other bindings tried)\n", args.at(0),
                                     context.terminal.Bold(VerdictWords(response.verdict())),
                                     response.n_tokens(), response.n_tried());
  absl::StrAppend(
      &text, FormatTable(context.terminal,
                         {"explained variance", "L0", "norm ratio", "cosine", "binding"}, rows));
  for (const std::string& finding : response.findings()) {
    absl::StrAppend(&text, "- ", finding, "\n");
  }
  PrintAnswer(context, response, text);
  if (response.verdict() != v1::CheckSaeResponse::DOES_NOT_FIT) return absl::OkStatus();
  return FailedPrecondition("SAE ", args.at(0), " does not fit what it is bound to");
}

absl::Status ExportSae(const Args& args, CommandContext& context) {
  v1::ExportSaeRequest request;
  request.set_sae_id(args.at(0));
  request.set_format(args.Get("format", "saelens"));
  request.set_directory(AbsolutePath(args.Get("out")));
  v1::ExportSaeResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &CatalogService::Stub::ExportSae,
                                      request, &response, kLongCall));
  PrintAnswer(context, response,
              absl::StrCat("wrote ", absl::StrJoin(response.files(), ", "), " (",
                           FormatBytes(static_cast<double>(response.bytes())), ") to ",
                           response.directory(), "\n"));
  return absl::OkStatus();
}

absl::Status ListReleases(const Args&, CommandContext& context) {
  v1::ListSaeReleasesResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(),
                                      &CatalogService::Stub::ListSaeReleases,
                                      v1::ListSaeReleasesRequest(), &response));
  std::vector<std::vector<std::string>> rows;
  for (const v1::SaeRelease& release : response.releases()) {
    rows.push_back(
        {absl::StrCat(release.name(), "/", release.example_id()), release.model(), release.note()});
  }
  PrintAnswer(context, response,
              FormatTable(context.terminal, {"release/id", "model", "about"}, rows));
  return absl::OkStatus();
}

std::vector<Flag> AddFlags() {
  return {
      {"model", "ID", "the model; may be left out where the files name one of the server's"},
      {"hook", "NAME", "the hook point, where the files do not say it or say it wrongly"},
      {"hook-out", "NAME", "of a transcoder: the hook point that it writes"},
      {"any-width", "", "accept an SAE of another width, for vectors only"},
      {"center-writing-weights", "", "trained on a model with centred writing weights"},
      {"no-center-writing-weights", "", "not so, whatever is known of the release"},
      {"normalize-activations", "MODE",
       "none, expected_average_only_in, constant_norm_rescale or layer_norm"},
      {"norm-scaling-factor", "X", "scale of the activations that is not folded into the weights"},
      {"apply-b-dec-to-input", "", "b_dec is taken off the input"},
      {"no-apply-b-dec-to-input", "", "b_dec is left on the input"},
      {"rescale-by-decoder-norm", "", "activations are scaled by their decoder rows' norms"},
      {"no-rescale-by-decoder-norm", "", "they are not"},
      {"selection", "HOW", "TopK and BatchTopK: per_token, threshold or whole_batch"},
      {"threshold", "X", "of BatchTopK files that tracked none"},
      {"k", "K", "of TopK files that do not say"},
  };
}

}  // namespace

std::string VerdictWords(v1::CheckSaeResponse::Verdict verdict) {
  switch (verdict) {
    case v1::CheckSaeResponse::FITS:
      return "fits";
    case v1::CheckSaeResponse::DOUBTFUL:
      return "is doubtful";
    default:
      return "does not fit";
  }
}

void PrintAnswer(CommandContext& context, const google::protobuf::Message& message,
                 absl::string_view text) {
  if (context.json) {
    PrintJson(message);
  } else {
    Print(text);
  }
}

std::string AbsolutePath(const std::string& path) {
  // Links stay: their names may say what the file is.
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error || path.empty() ? path : absolute.string();
}

std::string SaeTable(const Terminal& terminal, const v1::Sae& s) {
  const bool transcoder = s.d_out() != s.d_in() || s.hook_name_out() != s.hook_name();
  const std::string widths =
      transcoder ? absl::StrCat("d_in ", s.d_in(), ", d_sae ", s.d_sae(), ", d_out ", s.d_out())
                 : absl::StrCat("d_in ", s.d_in(), ", d_sae ", s.d_sae());
  std::string hook = s.hook_name();
  if (transcoder) absl::StrAppend(&hook, " -> ", s.hook_name_out());
  if (s.vectors_only()) absl::StrAppend(&hook, hook.empty() ? "" : " ", "(vectors only)");
  std::string text = absl::StrCat(
      "sae ", terminal.Bold(s.id()), "\n",
      Properties(
          terminal,
          {{"format", s.format()},
           {"architecture", absl::StrCat(s.architecture(), ": ", s.activation())},
           {"widths", widths},
           {"dtype", s.file_dtype()},
           {"normalisation",
            absl::StrCat(s.normalize_activations(),
                         s.apply_b_dec_to_input() ? ", b_dec subtracted from the input" : "")},
           {"model",
            absl::StrCat(s.model_id(), s.trained_on().empty()
                                           ? ""
                                           : absl::StrCat(" (files: ", s.trained_on(), ")"))},
           {"hook", hook},
           {"centring",
            s.center_writing_weights() ? "activations less their mean over d_model" : "none"},
           {"context", s.context_size() > 0 ? absl::StrCat(s.context_size(), " tokens")
                                            : "the files do not say"},
           {"BOS", BosRule(s)},
           {"folded", absl::StrJoin(s.folds(), "; ")}}));
  for (const std::string& note : s.notes()) absl::StrAppend(&text, "  note: ", note, "\n");
  for (const std::string& warning : s.warnings()) {
    absl::StrAppend(&text, "  ", terminal.Bold("warning:"), " ", warning, "\n");
  }
  return text;
}

std::vector<Command> SaeCommands() {
  return {
      {"sae",
       "add",
       "Adds an SAE in any format that the server reads, and says what it recognised.",
       {{"ID"}, {"PATH"}},
       AddFlags(),
       AddSae},
      {"sae", "list", "Lists the SAEs.", {}, {{"model", "ID", "only of this model"}}, ListSaes},
      {"sae", "show", "Shows an SAE and what was recognised in its files.", {{"ID"}}, {}, ShowSae},
      {"sae",
       "check",
       "Runs text through the model and says whether the SAE fits it; where not, why.",
       {{"ID"}},
       {{"text", "T", "the text (default: an English passage)"},
        {"tokens", "1,2,3", "token ids in place of a text"},
        {"no-bos", "", "without the BOS token that the tokenizer adds"},
        {"corpus", "ID", "contexts of a corpus in place of a text"},
        {"max-tokens", "N", "at most that many tokens (default: 1024)"}},
       CheckSae},
      {"sae",
       "export",
       "Writes an SAE's files for another program.",
       {{"ID"}},
       {{"format", "FORMAT", "saelens (version 6) or dictionary_learning (default: saelens)"},
        {"out", "DIR", "a new or empty directory on the server", true}},
       ExportSae},
      {"sae",
       "releases",
       "Lists the published SAEs that can be pulled by name.",
       {},
       {},
       ListReleases},
      {"sae",
       "delete",
       "Removes an SAE and its indexes.",
       {{"ID"}},
       {},
       Deleter<v1::DeleteSaeRequest>(
           &CatalogService::Stub::DeleteSae,
           [](v1::DeleteSaeRequest* r, const std::string& id) { r->set_sae_id(id); })},
  };
}

}  // namespace featurescope
