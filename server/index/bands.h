// Activation bands: the range (0, max] of a feature cut into intervals of equal width.
//
// Band i of n holds max (n - 1 - i) / n <= activation, and less than the band above it; the highest
// band is the first, and the maximum belongs to it.
#pragma once

#include <cstdint>
#include <vector>

#include "server/index/feature_accumulators.h"

namespace featurescope {

struct Band {
  float low = 0;
  float high = 0;
  // Share of the feature's positive activations that lie in it, read off the histogram: off by no
  // more than the shares of the two bins that the band's ends cut.
  double share = 0;
  // Activations sampled from it, the strongest first, each of another context where there are
  // enough.
  std::vector<const Example*> examples;
};

// The band of `activation` among `n`. REQUIRES: 0 < activation <= max, n > 0.
uint32_t BandOf(float activation, float max, uint32_t n);

// The bands of one feature. The examples point into `feature`.
std::vector<Band> AssembleBands(const FeatureAccumulator& feature, uint32_t n,
                                size_t examples_per_band);

}  // namespace featurescope
