// generate: text token by token, steered and not.
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr absl::string_view kSteerGrammar =
    "SAE:FEATURE:OP[:VALUE[:UNIT]] with OP add, set, scale or ablate_zero and UNIT feature, "
    "residual, "
    "feature_max or feature_p99, e.g. my-sae:1123:add:1.5:feature_max";

absl::Status BadSteer(absl::string_view text, absl::string_view why) {
  return InvalidArgument("--steer ", text, ": ", why, "; the form is ", kSteerGrammar);
}

// "ROLE:TEXT".
absl::StatusOr<v1::ChatMessage> ParseMessage(absl::string_view text) {
  const size_t colon = text.find(':');
  if (colon == absl::string_view::npos || colon == 0) {
    return InvalidArgument("--message ", text,
                           ": the form is ROLE:TEXT, e.g. user:Hello, with ROLE system, user or "
                           "assistant");
  }
  v1::ChatMessage message;
  message.set_role(std::string(text.substr(0, colon)));
  message.set_content(std::string(text.substr(colon + 1)));
  return message;
}

absl::StatusOr<v1::GenerateRequest> BuildRequest(const Args& args) {
  v1::GenerateRequest request;
  request.set_model_id(args.Get("model"));
  if (args.Has("message")) {
    if (args.Has("prompt") || args.Has("tokens")) {
      return InvalidArgument("--message excludes --prompt and --tokens");
    }
    for (const std::string& text : args.All("message")) {
      ASSIGN_OR_RETURN(*request.add_messages(), ParseMessage(text));
    }
  } else {
    ASSIGN_OR_RETURN(*request.mutable_prompt(), InputFromFlags(args, "prompt"));
  }
  ASSIGN_OR_RETURN(const uint64_t max_tokens, args.Integer("max-tokens", 0));
  request.set_max_new_tokens(static_cast<uint32_t>(max_tokens));
  v1::Sampling& sampling = *request.mutable_sampling();
  ASSIGN_OR_RETURN(const double temperature, args.Number("temperature", 0));
  ASSIGN_OR_RETURN(const double top_p, args.Number("top-p", 0));
  ASSIGN_OR_RETURN(const double frequency_penalty, args.Number("frequency-penalty", 0));
  ASSIGN_OR_RETURN(const uint64_t top_k, args.Integer("top-k", 0));
  ASSIGN_OR_RETURN(const uint64_t seed, args.Integer("seed", 0, UINT64_MAX));
  sampling.set_temperature(static_cast<float>(temperature));
  sampling.set_top_p(static_cast<float>(top_p));
  sampling.set_frequency_penalty(static_cast<float>(frequency_penalty));
  sampling.set_top_k(static_cast<uint32_t>(top_k));
  sampling.set_seed(seed);
  for (const std::string& stop : args.All("stop")) request.add_stop_strings(stop);

  const std::string error_term = absl::AsciiStrToUpper(args.Get("error-term", "kept"));
  const std::string scope = absl::AsciiStrToUpper(args.Get("positions", "all"));
  v1::ErrorTerm parsed_error_term;
  v1::Positions::Scope parsed_scope;
  if (!v1::ErrorTerm_Parse(error_term, &parsed_error_term)) {
    return InvalidArgument("--error-term must be kept or dropped, not \"", args.Get("error-term"),
                           "\"");
  }
  if (!v1::Positions::Scope_Parse(scope, &parsed_scope)) {
    return InvalidArgument("--positions must be all, prompt or generated, not \"",
                           args.Get("positions"), "\"");
  }
  for (const std::string& steer : args.All("steer")) {
    ASSIGN_OR_RETURN(v1::Intervention intervention, ParseSteer(steer));
    intervention.set_error_term(parsed_error_term);
    intervention.mutable_positions()->set_scope(parsed_scope);
    *request.add_interventions() = intervention;
  }
  request.set_with_baseline(args.Has("baseline") && request.interventions_size() > 0);
  return request;
}

std::string ProofLine(const v1::EditProof& proof) {
  double before = 0;
  double after = 0;
  double change = 0;
  const double n = proof.positions_size();
  for (int i = 0; i < proof.positions_size(); ++i) {
    before += proof.activation_before(i) / n;
    after += proof.activation_after(i) / n;
    change += proof.relative_change(i) / n;
  }
  return absl::StrFormat(
      "%s:%d edited at %d positions: activation %.3g -> %.3g, |change|/|x| %.3g (means)\n",
      proof.sae_id(), proof.feature(), proof.positions_size(), before, after, change);
}

absl::Status Generate(const Args& args, CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::GenerateRequest request, BuildRequest(args));
  grpc::ClientContext call;
  auto stream = context.client.explore().Generate(&call, request);
  v1::GenerateResponse response;
  std::string baseline;
  std::string proofs;
  bool prompt_shown = false;
  while (stream->Read(&response)) {
    if (context.json) {
      PrintJson(response);
    } else if (response.has_started()) {
      std::string prompt;
      for (const auto& token : response.started().prompt()) {
        if (!token.special()) absl::StrAppend(&prompt, token.text());
      }
      Print(context.terminal.Bold(prompt));
      prompt_shown = true;
    } else if (response.has_token() && response.token().branch() == v1::STEERED) {
      Print(response.token().token().text());
    } else if (response.has_token()) {
      absl::StrAppend(&baseline, response.token().token().text());
    } else if (response.has_finished()) {
      for (const auto& proof : response.finished().proofs())
        absl::StrAppend(&proofs, ProofLine(proof));
    }
  }
  if (!context.json && prompt_shown) {
    Print("\n");
    if (request.with_baseline()) {
      Print(absl::StrCat(context.terminal.Dim("without steering: "), baseline, "\n"));
    }
    Print(context.terminal.Dim(proofs));
  }
  return context.client.Explain(stream->Finish());
}

}  // namespace

absl::StatusOr<v1::Intervention> ParseSteer(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() < 3 || parts.size() > 5) return BadSteer(text, "it must have 3 to 5 parts");
  v1::Intervention intervention;
  intervention.set_sae_id(parts[0]);
  uint32_t feature = 0;
  if (!absl::SimpleAtoi(parts[1], &feature)) {
    return BadSteer(text, absl::StrCat("\"", parts[1], "\" is no feature number"));
  }
  intervention.set_feature(feature);
  v1::Operation operation;
  const std::string op = absl::AsciiStrToUpper(parts[2]);
  if (!v1::Operation_Parse(op == "ABLATE" ? "ABLATE_ZERO" : op, &operation) ||
      operation == v1::OPERATION_UNSPECIFIED) {
    return BadSteer(text, absl::StrCat("unknown operation \"", parts[2], "\""));
  }
  intervention.set_operation(operation);
  float value = 0;
  if (parts.size() > 3) {
    if (!absl::SimpleAtof(parts[3], &value)) {
      return BadSteer(text, absl::StrCat("\"", parts[3], "\" is no number"));
    }
  } else if (operation != v1::ABLATE_ZERO) {
    return BadSteer(text, "this operation needs a value");
  }
  intervention.set_value(value);
  v1::Unit unit = v1::FEATURE;
  if (parts.size() > 4 && !v1::Unit_Parse(absl::AsciiStrToUpper(parts[4]), &unit)) {
    return BadSteer(text, absl::StrCat("unknown unit \"", parts[4], "\""));
  }
  intervention.set_unit(unit);
  return intervention;
}

std::vector<Command> GenerateCommands() {
  return {
      {"generate",
       "",
       "Generates text, with features steered.",
       {},
       {{"model", "ID", "the model", true},
        {"prompt", "T", "the text to continue"},
        {"tokens", "1,2,3", "token ids in place of a prompt"},
        {"message", "ROLE:TEXT",
         "a message of a conversation in place of a prompt, as the model's chat template writes it",
         false, true},
        {"no-bos", "", "without the BOS token that the tokenizer adds"},
        {"steer", "SAE:FEATURE:OP:VALUE[:UNIT]",
         "OP add, set, scale, ablate_zero; UNIT feature, residual, feature_max, feature_p99", false,
         true},
        {"baseline", "", "also without steering, with the same seed"},
        {"error-term", "KEPT|DROPPED",
         "whether what the SAE does not explain stays (default: kept)"},
        {"positions", "ALL|PROMPT|GENERATED",
         "where to steer (default: all; special tokens never)"},
        {"max-tokens", "N", "how many (default: 64)"},
        {"temperature", "X", "0 is greedy (default)"},
        {"top-k", "K", "sample from that many"},
        {"top-p", "P", "sample from the likeliest that make up P"},
        {"frequency-penalty", "X", "against repetition"},
        {"seed", "N", "the same seed gives the same text"},
        {"stop", "T", "end at this text", false, true}},
       Generate},
  };
}

}  // namespace featurescope
