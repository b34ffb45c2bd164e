// Text, token by token, with interventions, and beside it the same without them.
//
// All generations on one model share its steps: a new request's prompt and the next tokens of those
// already running go through the model in one packed pass.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "server/base/cancel.h"
#include "server/engine/device_worker.h"
#include "server/explore/intervention.h"
#include "server/explore/text_input.h"
#include "server/model/sampling.h"

namespace featurescope {

constexpr uint32_t kMaxNewTokens = 4096;
constexpr uint32_t kMaxTopLogprobs = 20;
constexpr size_t kMaxStopStrings = 16;
constexpr size_t kMaxStopStringBytes = 1024;

struct GenerateRequest {
  ModelRef model;
  TextInput prompt;
  uint32_t max_new_tokens = 64;  // 1 to kMaxNewTokens
  SamplingOptions sampling;
  // Generation ends with the token that completes one of these in the generated text. Needs a
  // tokenizer.
  std::vector<std::string> stop_strings;
  std::vector<Intervention> interventions;
  bool with_baseline = false;  // also without the interventions, in the same batch, same seed
  uint32_t top_logprobs = 0;   // likeliest tokens beside each generated one
  CancelToken cancel;
};

// kSteered is the branch with the interventions, also where there are none.
enum class Branch { kSteered, kBaseline };

struct GenerateStarted {
  std::vector<Token> prompt;
};

struct TokenAndLogprob {
  Token token;
  float logprob = 0;  // natural, before temperature and penalties
};

struct GeneratedToken {
  Branch branch = Branch::kSteered;
  TokenAndLogprob chosen;
  std::vector<TokenAndLogprob> top;  // falling
};

enum class FinishReason { kLength, kEndOfText, kStopString, kContextFull };

struct GenerateFinished {
  Branch branch = Branch::kSteered;
  FinishReason reason = FinishReason::kLength;
  std::vector<EditProof> proofs;  // one for each intervention, kSteered only
};

using GenerateEvent = std::variant<GenerateStarted, GeneratedToken, GenerateFinished>;

// Generates and calls `on_event` on the calling thread: GenerateStarted, then the tokens as they
// come, and a GenerateFinished for each branch. When it returns false the call ends with Cancelled
// and the device is free after the running step. Blocks; for request threads.
//
//   errors  InvalidArgument     a field out of range (the message names it); a prompt that
//                               TokenIdsOf refuses or that leaves no room in the context; an
//                               intervention that Validate refuses or that can match no position
//           FailedPrecondition  text or stop strings without a tokenizer; an intervention that
//                               matched no position before the text ended
//           ResourceExhausted   the device's queue is full, or running generations hold the memory
//                               that its cache needs
//           Cancelled, DeadlineExceeded
absl::Status Generate(const GenerateRequest& request, DeviceWorker& worker,
                      const std::function<bool(const GenerateEvent&)>& on_event);

}  // namespace featurescope
