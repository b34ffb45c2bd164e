// tour: the most interesting features of an SAE with what they fire on, and one of them steered.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/evaluation_text.h"
#include "client/cli/feature_text.h"
#include "client/cli/training_text.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr absl::Duration kCheckDeadline = absl::Minutes(30);

using v1::FeatureService;

constexpr uint32_t kCandidates = 400;
constexpr uint32_t kExamples = 3;
constexpr uint32_t kWindow = 7;

// Interesting is what fires rarely but not hardly ever, strongly, and to an effect on the logits
// that agrees with itself: peaked distributions of activations come first.
double Interest(const v1::FeatureStats& stats) {
  if (stats.n_active() < 20 || stats.density() > 0.03 || stats.mean() <= 0) return 0;
  return stats.max() / stats.mean() * std::log1p(static_cast<double>(stats.n_active()));
}

absl::StatusOr<std::vector<v1::FeatureStats>> MostInteresting(CommandContext& context,
                                                              const v1::IndexRef& index, size_t n) {
  v1::ListFeaturesRequest request;
  *request.mutable_index() = index;
  request.set_order(v1::ORDER_MAX);
  request.set_descending(true);
  request.set_page_size(kCandidates);
  request.mutable_filter()->set_alive_only(true);
  request.mutable_filter()->set_max_density(0.03);
  v1::ListFeaturesResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.features(),
                                      &FeatureService::Stub::ListFeatures, request, &response));
  std::vector<v1::FeatureStats> all(response.features().begin(), response.features().end());
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return Interest(a) > Interest(b); });
  // One feature for each strongest token: neighbours that fire on the same word say nothing new.
  std::vector<v1::FeatureStats> chosen;
  for (const v1::FeatureStats& stats : all) {
    const bool seen = std::any_of(chosen.begin(), chosen.end(), [&](const v1::FeatureStats& other) {
      return other.top_token().id() == stats.top_token().id();
    });
    if (!seen && chosen.size() < n) chosen.push_back(stats);
  }
  return chosen;
}

// Prints the feature and gives how far its strongest activation moves the logit that it moves most.
absl::StatusOr<double> ShowFeature(CommandContext& context, const v1::IndexRef& index,
                                   uint32_t feature) {
  v1::GetFeatureRequest get;
  *get.mutable_index() = index;
  get.set_feature(feature);
  v1::Feature response;
  RETURN_IF_ERROR(context.client.Call(context.client.features(), &FeatureService::Stub::GetFeature,
                                      get, &response));
  v1::ListExamplesRequest list;
  *list.mutable_index() = index;
  list.set_feature(feature);
  list.set_window(kWindow);
  list.set_page_size(kExamples);
  v1::ListExamplesResponse examples;
  RETURN_IF_ERROR(context.client.Call(context.client.features(),
                                      &FeatureService::Stub::ListExamples, list, &examples));
  std::string promotes;
  for (int i = 0; i < std::min(5, response.top_logits_size()); ++i) {
    absl::StrAppend(&promotes, " ", TokenLabel(response.top_logits(i).token()));
  }
  Print(absl::StrFormat("\n%s  fires on %.2g %% of tokens, max %.3g, promotes%s\n",
                        context.terminal.Bold(absl::StrCat("feature ", feature)),
                        100 * response.stats().density(), response.stats().max(), promotes));
  for (const auto& example : examples.examples()) {
    Print(absl::StrCat("  ", HeatStrip(context.terminal, example), "\n"));
  }
  return response.top_logits().empty() ? 0
                                       : response.stats().max() * response.top_logits(0).effect();
}

absl::Status ShowSteering(CommandContext& context, const v1::Sae& sae, uint32_t feature,
                          const std::string& prompt) {
  v1::GenerateRequest request;
  request.set_model_id(sae.model_id());
  request.mutable_prompt()->set_text(prompt);
  request.set_max_new_tokens(32);
  request.mutable_sampling()->set_temperature(0.7f);
  request.mutable_sampling()->set_top_p(0.9f);
  request.mutable_sampling()->set_seed(7);
  request.set_with_baseline(true);
  v1::Intervention& intervention = *request.add_interventions();
  intervention.set_sae_id(sae.id());
  intervention.set_feature(feature);
  intervention.set_operation(v1::ADD);
  intervention.set_value(1);
  intervention.set_unit(v1::FEATURE_MAX);
  grpc::ClientContext call;
  auto stream = context.client.explore().Generate(&call, request);
  v1::GenerateResponse response;
  std::string texts[2];
  while (stream->Read(&response)) {
    if (response.has_token()) {
      absl::StrAppend(&texts[response.token().branch() == v1::STEERED ? 0 : 1],
                      response.token().token().display());
    }
  }
  RETURN_IF_ERROR(context.client.Explain(stream->Finish()));
  Print(absl::StrFormat(
      "\nSteering: \"%s\" with feature %d raised by its own maximum\n  %s %s\n  %s %s\n", prompt,
      feature, context.terminal.Bold("steered"), texts[0], context.terminal.Bold("default"),
      texts[1]));
  return absl::OkStatus();
}

// What its files were recognised as, and whether it fits its model.
absl::Status ShowFit(CommandContext& context, const v1::Sae& sae) {
  v1::CheckSaeRequest request;
  request.set_sae_id(sae.id());
  v1::CheckSaeResponse check;
  RETURN_IF_ERROR(context.client.Call(context.client.explore(), &v1::ExploreService::Stub::CheckSae,
                                      request, &check, kCheckDeadline));
  Print(absl::StrFormat(
      "%s, %s, %s; on a text of %d tokens it %s: explained variance %.3f, mean L0 %.1f\n",
      sae.format(), sae.architecture(), sae.file_dtype(), check.n_tokens(),
      context.terminal.Bold(VerdictWords(check.verdict())), check.as_bound().explained_variance(),
      check.as_bound().l0()));
  for (const std::string& finding : check.findings()) Print(absl::StrCat("- ", finding, "\n"));
  return absl::OkStatus();
}

// How good it was found to be, and what its training's curves advise; nothing where neither is
// there.
absl::Status ShowQuality(CommandContext& context, const v1::Sae& sae) {
  v1::ListEvaluationsRequest request;
  request.set_sae_id(sae.id());
  v1::ListEvaluationsResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &v1::JobService::Stub::ListEvaluations,
                                      request, &response));
  if (response.evaluations_size() > 0) {
    Print(absl::StrCat("measured ", EvaluationLine(response.evaluations(0)), "\n"));
  }
  if (sae.training_job_id().empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<v1::Advice>> advice = AdviceOn(context, sae.training_job_id());
  if (!advice.ok()) {
    // The job may be gone while its SAE stays.
    return absl::IsNotFound(advice.status()) ? absl::OkStatus() : advice.status();
  }
  for (const v1::Advice& one : *advice) {
    if (!one.sae_id().empty() && one.sae_id() != sae.id()) continue;
    Print(absl::StrCat("advice: ", one.evidence(), "; ", one.suggestion(), "\n"));
  }
  return absl::OkStatus();
}

absl::Status Tour(const Args& args, CommandContext& context) {
  if (context.json) return InvalidArgument("tour is for people; use feature list --json");
  v1::IndexRef index;
  index.set_sae_id(args.Get("sae"));
  index.set_corpus_id(args.Get("corpus"));
  ASSIGN_OR_RETURN(const uint64_t n, args.Integer("features", 6, 100));
  v1::GetSaeRequest get_sae;
  get_sae.set_sae_id(args.Get("sae"));
  v1::Sae sae;
  RETURN_IF_ERROR(context.client.Call(context.client.catalog(), &v1::CatalogService::Stub::GetSae,
                                      get_sae, &sae));
  v1::GetIndexInfoRequest get_info;
  *get_info.mutable_index() = index;
  v1::IndexInfo info;
  RETURN_IF_ERROR(context.client.Call(context.client.features(),
                                      &FeatureService::Stub::GetIndexInfo, get_info, &info));
  Print(absl::StrFormat(
      "SAE %s: %d features at %s, %d alive, mean L0 %.1f, explained variance %.3f over %s tokens\n",
      sae.id(), info.d_sae(), sae.hook_name(), info.n_alive(), info.mean_l0(),
      info.explained_variance(), FormatCount(static_cast<double>(info.n_tokens()))));
  RETURN_IF_ERROR(ShowFit(context, sae));
  RETURN_IF_ERROR(ShowQuality(context, sae));
  ASSIGN_OR_RETURN(const std::vector<v1::FeatureStats> features,
                   MostInteresting(context, index, n));
  if (features.empty())
    return FailedPrecondition("no feature of this SAE fires often enough to show");
  uint32_t steered = features.front().feature();
  double most = 0;
  for (const v1::FeatureStats& stats : features) {
    ASSIGN_OR_RETURN(const double moves, ShowFeature(context, index, stats.feature()));
    if (moves > most) {
      most = moves;
      steered = stats.feature();
    }
  }
  return ShowSteering(context, sae, steered, args.Get("prompt", "I think that"));
}

}  // namespace

std::vector<Command> TourCommands() {
  return {{"tour",
           "",
           "Shows the most interesting features of an indexed SAE, and one steered.",
           {},
           {{"sae", "ID", "the SAE", true},
            {"corpus", "ID", "the corpus it was indexed over, where there are several"},
            {"features", "N", "how many (default: 6)"},
            {"prompt", "T", "the prompt to steer"}},
           Tour}};
}

}  // namespace featurescope
