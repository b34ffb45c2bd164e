// What a job's run needs, from the catalog.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/catalog/catalog.h"
#include "server/index/run_indexing.h"
#include "server/jobs/spec_json.h"
#include "server/train/run_training.h"

namespace featurescope {

// Load what is not loaded yet.
//   errors  NotFound, ResourceExhausted, DataLoss  of the catalog
//           InvalidArgument                        the hook point's name
absl::StatusOr<TrainingInputs> LoadTrainingInputs(Catalog* catalog, const TrainingJob& job);
absl::StatusOr<IndexInputs> LoadIndexInputs(Catalog* catalog, const IndexingJob& job);

// Ids of the model's special tokens: those of its tokenizer, or BOS and EOS of its configuration.
absl::StatusOr<std::vector<uint32_t>> SpecialTokensOf(Catalog* catalog, const ModelRow& row,
                                                      const Transformer& model);

}  // namespace featurescope
