#include "server/index/bands.h"

#include <algorithm>
#include <set>
#include <utility>

namespace featurescope {
namespace {

float BandLow(float max, uint32_t band, uint32_t n) {
  return static_cast<float>(static_cast<double>(max) * (n - 1 - band) / n);
}

// The `limit` of lowest priority, contexts that were not yet taken first.
std::vector<const Example*> Choose(std::vector<const Example*> candidates, size_t limit) {
  std::sort(candidates.begin(), candidates.end(), [](const Example* a, const Example* b) {
    return std::pair(a->priority, a->activation) < std::pair(b->priority, b->activation);
  });
  // The same place can have been kept both as a sample and as one of the strongest.
  candidates.erase(std::unique(candidates.begin(), candidates.end(),
                               [](const Example* a, const Example* b) {
                                 return a->context == b->context && a->position == b->position;
                               }),
                   candidates.end());
  std::set<uint64_t> contexts;
  std::stable_partition(candidates.begin(), candidates.end(), [&contexts](const Example* e) {
    return contexts.insert(e->context).second;
  });
  if (candidates.size() > limit) candidates.resize(limit);
  std::sort(candidates.begin(), candidates.end(), [](const Example* a, const Example* b) {
    if (a->activation != b->activation) return a->activation > b->activation;
    return std::pair(a->context, a->position) < std::pair(b->context, b->position);
  });
  return candidates;
}

}  // namespace

uint32_t BandOf(float activation, float max, uint32_t n) {
  const double share = static_cast<double>(activation) / static_cast<double>(max);
  const auto from_top = static_cast<uint32_t>(std::clamp((1 - share) * n, 0.0, n - 1.0));
  // The bounds as they are shown decide, not the rounding of this quotient.
  uint32_t band = from_top > 0 ? from_top - 1 : 0;
  while (band + 1 < n && activation < BandLow(max, band, n)) ++band;
  return band;
}

std::vector<Band> AssembleBands(const FeatureAccumulator& feature, uint32_t n,
                                size_t examples_per_band) {
  std::vector<Band> bands(n);
  const auto total = static_cast<double>(feature.sums.n);
  for (uint32_t i = 0; i < n; ++i) {
    bands[i].low = BandLow(feature.max, i, n);
    bands[i].high = i == 0 ? feature.max : bands[i - 1].low;
    const double below_high =
        i == 0 ? total : feature.histogram.CountBelow(bands[i].high, feature.max);
    const double below_low = feature.histogram.CountBelow(bands[i].low, feature.max);
    bands[i].share = (below_high - below_low) / total;
  }
  std::vector<std::vector<const Example*>> samples(n);
  for (const Example* example : feature.samples.examples()) {
    samples[BandOf(example->activation, feature.max, n)].push_back(example);
  }
  // The strongest examples stand in where a band has fewer samples than it could.
  std::vector<std::vector<const Example*>> strongest(n);
  for (const Example& example : feature.top.examples()) {
    strongest[BandOf(example.activation, feature.max, n)].push_back(&example);
  }
  for (uint32_t i = 0; i < n; ++i) {
    if (samples[i].size() < examples_per_band) {
      samples[i].insert(samples[i].end(), strongest[i].begin(), strongest[i].end());
    }
    bands[i].examples = Choose(std::move(samples[i]), examples_per_band);
  }
  return bands;
}

}  // namespace featurescope
