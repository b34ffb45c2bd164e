#include "server/model/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "server/base/hash.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

struct Candidate {
  uint32_t token = 0;
  double value = 0;  // a logit, later a probability
};

// Larger first; ties go to the smaller id.
bool Before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// The `n` foremost, in order.
void KeepBest(std::vector<Candidate>& candidates, int64_t n) {
  const auto middle = candidates.begin() + std::min<int64_t>(n, std::ssize(candidates));
  std::partial_sort(candidates.begin(), middle, candidates.end(), Before);
  candidates.erase(middle, candidates.end());
}

// log(sum(exp(values)))
double LogSumExp(const std::vector<Candidate>& candidates, double max) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += std::exp(candidate.value - max);
  return max + std::log(sum);
}

// The candidates of the smallest set, likeliest first, whose probability reaches top_p.
void KeepTopP(std::vector<Candidate>& candidates, double top_p) {
  const double total = std::accumulate(candidates.begin(), candidates.end(), 0.0,
                                       [](double s, const Candidate& c) { return s + c.value; });
  std::sort(candidates.begin(), candidates.end(), Before);
  double sum = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    sum += candidates[i].value;
    if (sum >= top_p * total) {
      candidates.resize(i + 1);
      return;
    }
  }
}

// `uniform` in [0, 1) picks by cumulative probability.
uint32_t Pick(const std::vector<Candidate>& candidates, double uniform) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.value;
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += candidate.value;
    if (sum > uniform * total) return candidate.token;
  }
  return candidates.back().token;
}

// Temperature, then top_k, then top_p, as in HF. `candidates` hold logits.
uint32_t Choose(const SamplingOptions& options, std::vector<Candidate> candidates, uint64_t draw) {
  if (options.temperature == 0) {
    return std::min_element(candidates.begin(), candidates.end(), Before)->token;
  }
  if (options.top_k > 0) KeepBest(candidates, options.top_k);
  const double max = std::min_element(candidates.begin(), candidates.end(), Before)->value;
  for (Candidate& candidate : candidates) {
    candidate.value = std::exp((candidate.value - max) / options.temperature);
  }
  if (options.top_p < 1) KeepTopP(candidates, options.top_p);
  const double uniform = static_cast<double>(Mix64(Mix64(options.seed) ^ draw) >> 11) * 0x1.0p-53;
  return Pick(candidates, uniform);
}

}  // namespace

absl::Status SamplingOptions::Validate() const {
  if (!(temperature >= 0 && temperature <= 100)) {
    return InvalidArgument("temperature ", temperature, " is out of range [0, 100]");
  }
  if (top_k < 0) return InvalidArgument("top_k ", top_k, " is negative; 0 means no limit");
  if (!(top_p > 0 && top_p <= 1)) {
    return InvalidArgument("top_p ", top_p, " is out of range (0, 1]");
  }
  if (!(std::abs(frequency_penalty) <= 100)) {
    return InvalidArgument("frequency_penalty ", frequency_penalty, " is out of range [-100, 100]");
  }
  if (!(std::abs(presence_penalty) <= 100)) {
    return InvalidArgument("presence_penalty ", presence_penalty, " is out of range [-100, 100]");
  }
  return absl::OkStatus();
}

SampledToken Sampler::Next(const torch::Tensor& logits, int n_top_logprobs) {
  const torch::Tensor dense = logits.contiguous();
  const float* values = dense.data_ptr<float>();
  std::vector<Candidate> candidates;
  candidates.reserve(static_cast<size_t>(dense.numel()));
  double max = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    if (!std::isfinite(values[i])) continue;
    candidates.push_back({static_cast<uint32_t>(i), values[i]});
    max = std::max(max, candidates.back().value);
  }
  SampledToken result;
  const uint64_t draw = n_drawn_++;
  if (candidates.empty()) {
    result.chosen.logprob = std::numeric_limits<float>::quiet_NaN();
    return result;
  }
  const double normaliser = LogSumExp(candidates, max);

  if (n_top_logprobs > 0) {
    std::vector<Candidate> best = candidates;
    KeepBest(best, n_top_logprobs);
    for (const Candidate& candidate : best) {
      result.top.push_back({candidate.token, static_cast<float>(candidate.value - normaliser)});
    }
  }

  for (const auto& [token, count] : generated_counts_) {
    const auto at = std::lower_bound(
        candidates.begin(), candidates.end(), token,
        [](const Candidate& candidate, uint32_t id) { return candidate.token < id; });
    if (at != candidates.end() && at->token == token) {
      at->value -= options_.frequency_penalty * count + options_.presence_penalty;
    }
  }
  const uint32_t token = Choose(options_, std::move(candidates), draw);
  result.chosen = {token, static_cast<float>(values[token] - normaliser)};
  const auto count = std::lower_bound(generated_counts_.begin(), generated_counts_.end(),
                                      std::make_pair(token, 0));
  if (count != generated_counts_.end() && count->first == token) {
    ++count->second;
  } else {
    generated_counts_.insert(count, {token, 1});
  }
  return result;
}

}  // namespace featurescope
