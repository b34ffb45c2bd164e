// feature list, show, examples: what an index knows.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/feature_text.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::FeatureService;

void SetIndex(const Args& args, v1::IndexRef* index) {
  index->set_sae_id(args.Get("sae"));
  index->set_corpus_id(args.Get("corpus"));
}

absl::StatusOr<uint32_t> FeatureArgument(const Args& args) {
  ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ParseIds(args.at(0)));
  return ids.front();
}

absl::Status List(const Args& args, CommandContext& context) {
  v1::ListFeaturesRequest request;
  SetIndex(args, request.mutable_index());
  const std::string order =
      absl::StrCat("ORDER_", absl::AsciiStrToUpper(args.Get("sort", "density")));
  v1::FeatureOrder parsed;
  if (!v1::FeatureOrder_Parse(order, &parsed)) {
    return InvalidArgument(
        "--sort must be feature, density, max, mean, std, skewness, kurtosis or ",
        "decoder_norm, not \"", args.Get("sort"), "\"");
  }
  request.set_order(parsed);
  request.set_descending(!args.Has("ascending"));
  ASSIGN_OR_RETURN(const uint64_t limit, args.Integer("limit", 20, 1000));
  request.set_page_size(static_cast<uint32_t>(limit));
  request.set_page_token(args.Get("page-token"));
  v1::FeatureFilter& filter = *request.mutable_filter();
  filter.set_alive_only(!args.Has("dead"));
  filter.set_token_text(args.Get("token"));
  if (args.Has("min-density")) {
    ASSIGN_OR_RETURN(const double bound, args.Number("min-density", 0));
    filter.set_min_density(bound);
  }
  if (args.Has("max-density")) {
    ASSIGN_OR_RETURN(const double bound, args.Number("max-density", 0));
    filter.set_max_density(bound);
  }
  v1::ListFeaturesResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.features(),
                                      &FeatureService::Stub::ListFeatures, request, &response));
  if (context.json) {
    PrintJson(response);
    return absl::OkStatus();
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& f : response.features()) {
    rows.push_back({absl::StrCat(f.feature()), FormatNumber(100 * f.density(), 3),
                    FormatNumber(f.mean(), 3), FormatNumber(f.max(), 3), FormatNumber(f.p99(), 3),
                    TokenLabel(f.top_token()), TokenLabel(f.top_logit_token())});
  }
  Print(FormatTable(context.terminal,
                    {"feature", "density %", "mean", "max", "p99", "fires on", "promotes"}, rows));
  Print(context.terminal.Dim(
      absl::StrCat(response.features_size(), " of ", response.total(), " features\n")));
  if (!response.next_page_token().empty()) {
    Print(context.terminal.Dim(
        absl::StrCat("next page: --page-token ", response.next_page_token(), "\n")));
  }
  return absl::OkStatus();
}

absl::Status Show(const Args& args, CommandContext& context) {
  v1::GetFeatureRequest request;
  SetIndex(args, request.mutable_index());
  ASSIGN_OR_RETURN(const uint32_t feature, FeatureArgument(args));
  request.set_feature(feature);
  v1::Feature response;
  RETURN_IF_ERROR(context.client.Call(context.client.features(), &FeatureService::Stub::GetFeature,
                                      request, &response));
  if (context.json) {
    PrintJson(response);
  } else {
    Print(DescribeFeature(context.terminal, response));
  }
  return absl::OkStatus();
}

absl::Status Examples(const Args& args, CommandContext& context) {
  v1::ListExamplesRequest request;
  SetIndex(args, request.mutable_index());
  ASSIGN_OR_RETURN(const uint32_t feature, FeatureArgument(args));
  request.set_feature(feature);
  request.set_kind(args.Has("bands") ? v1::ListExamplesRequest::BANDS
                                     : v1::ListExamplesRequest::TOP);
  ASSIGN_OR_RETURN(const uint64_t window, args.Integer("window", 12));
  ASSIGN_OR_RETURN(const uint64_t limit, args.Integer("limit", args.Has("bands") ? 3 : 10, 100));
  request.set_window(static_cast<uint32_t>(window));
  request.set_page_size(static_cast<uint32_t>(limit));
  v1::ListExamplesResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.features(),
                                      &FeatureService::Stub::ListExamples, request, &response));
  if (context.json) {
    PrintJson(response);
    return absl::OkStatus();
  }
  if (response.examples().empty()) Print("no examples: the feature never fired on this corpus\n");
  uint32_t band = 0;
  for (const auto& example : response.examples()) {
    if (example.band() != band) {
      band = example.band();
      Print(context.terminal.Bold(
          absl::StrFormat("activation %.3g to %.3g, %.3g %% of the firings\n", example.band_low(),
                          example.band_high(), 100 * example.band_share())));
    }
    Print(absl::StrCat(HeatStrip(context.terminal, example), "\n"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string HeatStrip(const Terminal& terminal, const v1::Example& example) {
  float max = 0;
  for (float act : example.acts()) max = std::max(max, act);
  std::string strip = absl::StrFormat("%8.3g  ", example.activation());
  for (int i = 0; i < example.tokens_size(); ++i) {
    const float act = i < example.acts_size() ? example.acts(i) : 0;
    absl::StrAppend(&strip, terminal.Heat(example.tokens(i).display(), max > 0 ? act / max : 0));
  }
  return strip;
}

std::string DescribeFeature(const Terminal& terminal, const v1::Feature& feature) {
  const v1::FeatureStats& s = feature.stats();
  std::string text = absl::StrFormat(
      "%s\n  fires on %.4g %% of tokens (%d times)\n"
      "  activation: mean %.4g, max %.4g, std %.4g, p50 %.4g, p90 %.4g, p99 %.4g\n  decoder norm "
      "%.4g\n",
      terminal.Bold(absl::StrCat("feature ", s.feature())), 100 * s.density(), s.n_active(),
      s.mean(), s.max(), s.std(), s.p50(), s.p90(), s.p99(), s.decoder_norm());
  uint64_t most = 1;
  for (uint64_t count : feature.activations().counts()) most = std::max(most, count);
  static constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string bars;
  for (uint64_t count : feature.activations().counts()) {
    bars += kBlocks[count == 0 ? 0 : std::max<uint64_t>(1, 8 * count / most)];
  }
  if (feature.activations().edges_size() > 1) {
    absl::StrAppendFormat(&text, "  histogram %.3g %s %.3g\n", feature.activations().edges(0), bars,
                          *feature.activations().edges().rbegin());
  }
  auto logits = [&](const char* title, const auto& effects) {
    absl::StrAppend(&text, "  ", title);
    for (const auto& effect : effects) {
      absl::StrAppendFormat(&text, "  %s %+.2f", TokenLabel(effect.token()), effect.effect());
    }
    absl::StrAppend(&text, "\n");
  };
  logits("promotes  ", feature.top_logits());
  logits("suppresses", feature.bottom_logits());
  return text;
}

std::vector<Command> FeatureCommands() {
  const Flag sae{"sae", "ID", "the SAE", true};
  const Flag corpus{"corpus", "ID", "the corpus it was indexed over, where there are several"};
  return {
      {"feature",
       "list",
       "Lists features by any statistic.",
       {},
       {sae,
        corpus,
        {"sort", "BY", "feature, density, max, mean, std, skewness, kurtosis, decoder_norm"},
        {"ascending", "", "the smallest first"},
        {"limit", "N", "how many (default: 20, at most 1000)"},
        {"page-token", "T", "continue where the last page ended"},
        {"min-density", "X", "share of tokens, 0 to 1"},
        {"max-density", "X", "share of tokens, 0 to 1"},
        {"token", "T", "text in the strongest token or in a top logit's token"},
        {"dead", "", "also those that never fired"}},
       List},
      {"feature",
       "show",
       "Shows a feature's statistics and logit effects.",
       {{"FEATURE"}},
       {sae, corpus},
       Show},
      {"feature",
       "examples",
       "Shows what a feature fires on.",
       {{"FEATURE"}},
       {sae,
        corpus,
        {"bands", "", "samples of every activation band in place of the strongest"},
        {"window", "N", "tokens on each side (default: 12)"},
        {"limit", "N", "how many (default: 10; 3 of each band)"}},
       Examples},
  };
}

}  // namespace featurescope
