// The state of an indexing run between two batches, on disk.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/index/feature_accumulators.h"
#include "server/index/reconstruction.h"

namespace featurescope {

struct IndexingState {
  IndexingState(int64_t d_sae, const AccumulatorOptions& options) : features(d_sae, options) {}

  uint64_t next_context = 0;
  uint64_t tokens_done = 0;  // special ones included
  double seconds = 0;        // spent so far, over all restarts
  ReconstructionSums reconstruction;
  FeatureAccumulators features;
};

// Writes the state to `path`, which is replaced as a whole. `fingerprint` says what the state is
// of: inputs, parameters, the cut into batches.
absl::Status SaveIndexingState(const std::string& path, const std::string& fingerprint,
                               const IndexingState& state);

// Replaces *state, which must be made for the same width and options, by what `path` holds.
//   errors  NotFound            no such file
//           DataLoss            it is damaged; *state is then unusable
//           FailedPrecondition  it is of something else
absl::Status LoadIndexingState(const std::string& path, const std::string& fingerprint,
                               IndexingState* state);

}  // namespace featurescope
