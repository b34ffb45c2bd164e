// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/tensor/torch.h"

namespace featurescope {

struct SamplingOptions {
  double temperature = 0;        // 0: greedy
  int64_t top_k = 0;             // 0: no limit
  double top_p = 1;              // 1: no limit
  double frequency_penalty = 0;  // taken off a token's logit for each time it was generated
  double presence_penalty = 0;   // taken off once it was generated
  uint64_t seed = 0;

  //   errors  InvalidArgument  naming the field, its value and the allowed range
  absl::Status Validate() const;
};

struct TokenLogprob {
  uint32_t token = 0;
  float logprob = 0;  // natural logarithm, before temperature and penalties
};

struct SampledToken {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // the likeliest, falling
};

// Draws the tokens of one sequence. The n-th draw depends only on the seed, n and the logits, so
// that a sequence gives the same text whatever batch it is in.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options) {}

  // Values that are not finite count as impossible. Where none is finite the chosen token is 0 with
  // a logprob that is not a number.
  //   logits  float32 [d_vocab], on the CPU
  SampledToken Next(const torch::Tensor& logits, int n_top_logprobs);

 private:
  SamplingOptions options_;
  uint64_t n_drawn_ = 0;
  std::vector<std::pair<uint32_t, int>> generated_counts_;  // sorted by token
};

}  // namespace featurescope
