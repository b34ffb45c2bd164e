#include "server/explore/generate.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "server/base/status.h"
#include "server/explore/generation.h"

namespace featurescope {
namespace {

absl::Status CheckLimits(const GenerateRequest& request) {
  if (request.max_new_tokens < 1 || request.max_new_tokens > kMaxNewTokens) {
    return InvalidArgument("max_new_tokens is ", request.max_new_tokens, ", it must be 1 to ",
                           kMaxNewTokens);
  }
  if (request.top_logprobs > kMaxTopLogprobs) {
    return InvalidArgument("top_logprobs is ", request.top_logprobs, ", it must be 0 to ",
                           kMaxTopLogprobs);
  }
  if (request.stop_strings.size() > kMaxStopStrings) {
    return InvalidArgument("there are ", request.stop_strings.size(),
                           " stop_strings, it must be 0 to ", kMaxStopStrings);
  }
  for (const std::string& stop : request.stop_strings) {
    if (stop.empty()) return InvalidArgument("stop_strings: a stop string is empty");
    if (stop.size() > kMaxStopStringBytes) {
      return InvalidArgument("stop_strings: a stop string has ", stop.size(), " bytes, at most ",
                             kMaxStopStringBytes, " are allowed");
    }
  }
  if (!request.stop_strings.empty() && request.model.tokenizer == nullptr) {
    return FailedPrecondition("stop_strings need a tokenizer, and the model has none");
  }
  return request.sampling.Validate();
}

// Whether any token that goes through the model can be edited.
bool CanMatch(const EditPositions& positions, const GenerateRequest& request,
              absl::Span<const uint32_t> prompt) {
  const auto n_prompt = static_cast<uint32_t>(prompt.size());
  // The last token generated does not go through the model again.
  const int64_t end = std::min<int64_t>(n_prompt + int64_t{request.max_new_tokens} - 1,
                                        request.model.model->config().n_ctx - 1);
  for (uint32_t p = 0; p < std::max<int64_t>(end, n_prompt); ++p) {
    const bool special = p < n_prompt && IsSpecialToken(request.model, prompt[p]);
    if (AppliesTo(positions, p, n_prompt, special)) return true;
  }
  return false;
}

absl::Status CheckInterventions(const GenerateRequest& request, absl::Span<const uint32_t> prompt) {
  const std::vector<Intervention>& edits = request.interventions;
  if (edits.size() > kMaxInterventions) {
    return InvalidArgument("there are ", edits.size(), " interventions, at most ",
                           kMaxInterventions, " are allowed");
  }
  for (size_t i = 0; i < edits.size(); ++i) {
    const std::string name = absl::StrCat("interventions[", i, "]");
    RETURN_IF_ERROR(Validate(edits[i], *request.model.model, name));
    if (!CanMatch(edits[i].positions, request, prompt)) {
      return InvalidArgument(name, ": its positions match none of the prompt's ", prompt.size(),
                             " tokens and none that can be generated and then edited");
    }
    for (size_t j = 0; j < i; ++j) {
      if (edits[j].sae.sae == edits[i].sae.sae && edits[j].error_term != edits[i].error_term) {
        return InvalidArgument(name, ": the edits of SAE ", edits[i].sae.id,
                               " must all keep the error term or all drop it");
      }
    }
  }
  return absl::OkStatus();
}

// The most that the keys and values of the request's texts can take; a cache grows by doubling.
uint64_t CacheBytes(const GenerateRequest& request, size_t n_prompt) {
  const ModelConfig& config = request.model.model->config();
  const auto most = static_cast<uint64_t>(config.n_ctx);
  const uint64_t n_tokens = std::min<uint64_t>(most, 2 * (n_prompt + request.max_new_tokens) + 64);
  const auto values_per_token =
      static_cast<uint64_t>(2 * config.n_layers * config.n_kv_heads * config.d_head);
  return (request.with_baseline ? 2 : 1) * n_tokens * values_per_token *
         c10::elementSize(request.model.model->dtype());
}

TokenAndLogprob Readable(const ModelRef& model, const TokenLogprob& token) {
  return {MakeToken(model, token.token), token.logprob};
}

GenerateEvent ToEvent(const ModelRef& model, GenerationNews news) {
  if (auto* finished = std::get_if<GenerateFinished>(&news)) return std::move(*finished);
  const BranchToken& token = std::get<BranchToken>(news);
  GeneratedToken event;
  event.branch = token.branch;
  event.chosen = Readable(model, token.sampled.chosen);
  for (const TokenLogprob& top : token.sampled.top) event.top.push_back(Readable(model, top));
  return event;
}

}  // namespace

absl::Status Generate(const GenerateRequest& asked, DeviceWorker& worker,
                      const std::function<bool(const GenerateEvent&)>& on_event) {
  GenerateRequest request = asked;
  for (Intervention& edit : request.interventions) {
    std::sort(edit.positions.indices.begin(), edit.positions.indices.end());
  }
  RETURN_IF_ERROR(CheckLimits(request));
  ASSIGN_OR_RETURN(std::vector<uint32_t> prompt,
                   TokenIdsOf(request.model, request.prompt, "prompt"));
  if (static_cast<int64_t>(prompt.size()) >= request.model.model->config().n_ctx) {
    return InvalidArgument("prompt has ", prompt.size(),
                           " tokens and leaves no room in the model's context of ",
                           request.model.model->config().n_ctx);
  }
  RETURN_IF_ERROR(CheckInterventions(request, prompt));
  RETURN_IF_ERROR(request.cancel.Check());

  ASSIGN_OR_RETURN(
      ByteBudget::Reservation cache_bytes,
      worker.held_bytes().Reserve(CacheBytes(request, prompt.size()), "the generation's cache"));
  GenerateStarted started{MakeTokens(request.model, prompt)};
  auto task = std::make_shared<GenerationTask>(request, std::move(prompt), std::move(cache_bytes));
  RETURN_IF_ERROR(worker.Post(task));
  const absl::Status stopped = absl::CancelledError("the receiver stopped the generation");
  if (!on_event(std::move(started))) {
    task->Abandon();
    return stopped;
  }
  while (std::optional<GenerationNews> news = task->Next()) {
    if (!on_event(ToEvent(request.model, *std::move(news)))) {
      task->Abandon();
      return stopped;
    }
  }
  return task->status();
}

}  // namespace featurescope
