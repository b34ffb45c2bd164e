// Generation, interventions and checks between the contract and the core.
#include "server/base/status.h"
#include "server/service/convert.h"
#include "server/service/status_conversion.h"

namespace featurescope {
namespace {

v1::Branch ToProto(Branch branch) {
  return branch == Branch::kSteered ? v1::STEERED : v1::BASELINE;
}

v1::GenerateFinished::Reason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return v1::GenerateFinished::LENGTH;
    case FinishReason::kEndOfText:
      return v1::GenerateFinished::END_OF_TEXT;
    case FinishReason::kStopString:
      return v1::GenerateFinished::STOP_STRING;
    case FinishReason::kContextFull:
      return v1::GenerateFinished::CONTEXT_FULL;
  }
  return v1::GenerateFinished::LENGTH;
}

void Fill(const GenerateStarted& started, v1::GenerateStarted* out) {
  for (const Token& token : started.prompt) ToProto(token, out->add_prompt());
}

void Fill(const GeneratedToken& generated, v1::GeneratedToken* out) {
  out->set_branch(ToProto(generated.branch));
  ToProto(generated.chosen.token, out->mutable_token());
  out->set_logprob(generated.chosen.logprob);
  for (const TokenAndLogprob& likely : generated.top) {
    v1::TokenLogprob* top = out->add_top_logprobs();
    ToProto(likely.token, top->mutable_token());
    top->set_logprob(likely.logprob);
  }
}

void Fill(const GenerateFinished& finished, const v1::GenerateRequest& request,
          v1::GenerateFinished* out) {
  out->set_branch(ToProto(finished.branch));
  out->set_reason(ToProto(finished.reason));
  for (size_t i = 0; i < finished.proofs.size(); ++i) {
    const EditProof& proof = finished.proofs[i];
    const v1::Intervention& intervention = request.interventions(static_cast<int>(i));
    v1::EditProof* to = out->add_proofs();
    to->set_sae_id(intervention.sae_id());
    to->set_feature(intervention.feature());
    to->mutable_positions()->Add(proof.positions.begin(), proof.positions.end());
    to->mutable_activation_before()->Add(proof.activation_before.begin(),
                                         proof.activation_before.end());
    to->mutable_activation_after()->Add(proof.activation_after.begin(),
                                        proof.activation_after.end());
    to->mutable_relative_change()->Add(proof.relative_change.begin(), proof.relative_change.end());
  }
}

absl::Status Unknown(absl::string_view name, absl::string_view field, int value) {
  return InvalidField(absl::StrCat(name, ".", field), name, ".", field, " is ", value,
                      ", which this server does not know");
}

}  // namespace

void ToProto(const GenerateEvent& event, const v1::GenerateRequest& request,
             v1::GenerateResponse* out) {
  if (const auto* started = std::get_if<GenerateStarted>(&event)) {
    Fill(*started, out->mutable_started());
  } else if (const auto* generated = std::get_if<GeneratedToken>(&event)) {
    Fill(*generated, out->mutable_token());
  } else {
    Fill(std::get<GenerateFinished>(event), request, out->mutable_finished());
  }
}

absl::StatusOr<Intervention> FromProto(const v1::Intervention& intervention,
                                       absl::string_view name) {
  Intervention out;
  out.feature = intervention.feature();
  out.value = intervention.value();
  switch (intervention.operation()) {
    case v1::ADD:
      out.operation = EditOperation::kAdd;
      break;
    case v1::SET:
      out.operation = EditOperation::kSet;
      break;
    case v1::SCALE:
      out.operation = EditOperation::kScale;
      break;
    case v1::ABLATE_ZERO:
      out.operation = EditOperation::kAblateZero;
      break;
    default:
      return Unknown(name, "operation", intervention.operation());
  }
  switch (intervention.unit()) {
    case v1::FEATURE:
      out.unit = EditUnit::kFeature;
      break;
    case v1::RESIDUAL:
      out.unit = EditUnit::kResidual;
      break;
    case v1::FEATURE_MAX:
      out.unit = EditUnit::kFeatureMax;
      break;
    case v1::FEATURE_P99:
      out.unit = EditUnit::kFeatureP99;
      break;
    default:
      return Unknown(name, "unit", intervention.unit());
  }
  switch (intervention.error_term()) {
    case v1::KEPT:
      out.error_term = ErrorTerm::kKept;
      break;
    case v1::DROPPED:
      out.error_term = ErrorTerm::kDropped;
      break;
    default:
      return Unknown(name, "error_term", intervention.error_term());
  }
  const v1::Positions& positions = intervention.positions();
  switch (positions.scope()) {
    case v1::Positions::ALL:
      out.positions.scope = PositionScope::kAll;
      break;
    case v1::Positions::PROMPT:
      out.positions.scope = PositionScope::kPrompt;
      break;
    case v1::Positions::GENERATED:
      out.positions.scope = PositionScope::kGenerated;
      break;
    default:
      return Unknown(name, "positions.scope", positions.scope());
  }
  out.positions.indices.assign(positions.indices().begin(), positions.indices().end());
  out.positions.include_special_tokens = positions.include_special_tokens();
  return out;
}

void ToProto(const SaeCheck& check, v1::CheckSaeResponse* out) {
  const auto fill = [](const SaeFit& fit, v1::SaeFit* to) {
    to->set_change(fit.change);
    to->set_explained_variance(fit.explained_variance);
    to->set_l0(fit.l0);
    to->set_norm_ratio(fit.norm_ratio);
    to->set_cosine(fit.cosine);
  };
  switch (check.verdict) {
    case SaeVerdict::kFits:
      out->set_verdict(v1::CheckSaeResponse::FITS);
      break;
    case SaeVerdict::kDoubtful:
      out->set_verdict(v1::CheckSaeResponse::DOUBTFUL);
      break;
    case SaeVerdict::kDoesNotFit:
      out->set_verdict(v1::CheckSaeResponse::DOES_NOT_FIT);
      break;
  }
  fill(check.as_bound, out->mutable_as_bound());
  for (const SaeFit& fit : check.better) fill(fit, out->add_better());
  for (const std::string& finding : check.findings) out->add_findings(ValidUtf8(finding));
  out->set_n_tokens(check.n_tokens);
  out->set_n_tried(check.n_tried);
}

}  // namespace featurescope
