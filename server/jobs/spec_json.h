// Job specifications as JSON: how they lie in the queue.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/index/run_indexing.h"
#include "server/train/spec.h"

namespace featurescope {

// One line with every field, keys sorted: equal specifications give equal text.
std::string TrainingSpecToJson(const TrainingSpec& spec);
std::string IndexSpecToJson(const IndexSpec& spec);

// The reverse. Unknown fields are refused.
//   errors  InvalidArgument  naming the field
absl::StatusOr<TrainingSpec> TrainingSpecFromJson(absl::string_view json);
absl::StatusOr<IndexSpec> IndexSpecFromJson(absl::string_view json);

}  // namespace featurescope
