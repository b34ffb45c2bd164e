// What a job's run needs, from the catalog.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/catalog/catalog.h"
#include "server/index/run_indexing.h"
#include "server/jobs/spec_json.h"
#include "server/train/run_training.h"

namespace featurescope {

// Load what is not loaded yet. A run on files needs no model, unless for its device.
//   errors  NotFound, ResourceExhausted, DataLoss  of the catalog
//           InvalidArgument                        the hook points' names; the files
//           PermissionDenied                       files outside the allowed roots
absl::StatusOr<TrainingInputs> LoadTrainingInputs(Catalog* catalog, const TrainingJob& job);
// The same for the other hook points of another member of the job's sweep.
absl::Status SetHooks(const TrainingJob& job, TrainingInputs* inputs);
absl::StatusOr<IndexInputs> LoadIndexInputs(Catalog* catalog, const IndexingJob& job);

// FailedPrecondition unless the corpus was tokenised as the model does it.
absl::Status CheckTokenizer(const CorpusRow& corpus, const ModelRow& model);

// Ids of the model's special tokens: those of its tokenizer, or BOS and EOS of its configuration.
absl::StatusOr<std::vector<uint32_t>> SpecialTokensOf(Catalog* catalog, const ModelRow& row,
                                                      const Transformer& model);

}  // namespace featurescope
