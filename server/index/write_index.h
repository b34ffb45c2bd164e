// From accumulators to the rows of an index file.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/index/checkpoint.h"
#include "server/index/logit_effects.h"
#include "server/index/run_indexing.h"
#include "server/store/index_db.h"

namespace featurescope {

struct IndexResults {
  const IndexingState* state = nullptr;
  std::vector<LogitEffects> logit_effects;  // per feature; empty: none at this hook
  std::vector<double> decoder_norms;        // per feature
};

// As people write it, e.g. "float32".
std::string DtypeName(torch::ScalarType dtype);

// Statistics of one feature; `accumulator` is null when it never fired.
FeatureRow StatisticsRow(uint32_t feature, const FeatureAccumulator* accumulator,
                         uint64_t n_counted_tokens);

// Log10 densities of the features that fired, in bins of a tenth.
HistogramRow DensityHistogram(const FeatureAccumulators& features);

// Writes the file at `path`, which appears when it is complete. `progress` as in
// ComputeLogitEffects.
//   errors  those of IndexWriter and of the corpus; Cancelled
absl::Status WriteIndex(const IndexInputs& inputs, const IndexSpec& spec,
                        const IndexResults& results, const CancelToken& cancel,
                        const std::function<void(double)>& progress, const std::string& path);

}  // namespace featurescope
