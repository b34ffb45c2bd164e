// What the two generations of OpenMOSS' files share.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/sae/openmoss_config.h"
#include "server/sae/reader.h"

namespace featurescope {

// The scales sqrt(d_model) / average norm of the inputs and of the targets; both 1 where nothing is
// to be folded.
struct OpenMossScales {
  double in = 1;
  double out = 1;
};

// Loads encoder and decoder under the names of either generation, as they stand in the file:
// W_E [d_model, d_sae], b_E, W_D, b_D; or encoder.weight [d_sae, d_model], encoder.bias,
// decoder.weight, decoder.bias.
absl::Status LoadOpenMossWeights(WeightSource& weights, const OpenMossConfig& cfg,
                                 torch::Device device, SaeParameters* parameters);

// Takes the scale of the dataset into the weights, so that features have the scale of raw inputs:
//
//   b_E /= s_in    W_D *= s_in / s_out    b_D /= s_out
absl::StatusOr<OpenMossScales> FoldOpenMossNorm(const OpenMossConfig& cfg, SaeContent* content);

// Whether `weights` has tensors of either generation.
bool HasOpenMossNames(const WeightSource& weights);

}  // namespace featurescope
