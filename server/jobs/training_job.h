// Training jobs and sweeps: what they would do, and running them.
//
// A training job is a sweep of one; the two differ in where results lie and how metrics are named.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/catalog/catalog.h"
#include "server/engine/run_context.h"
#include "server/jobs/spec_json.h"

namespace featurescope {

constexpr size_t kMaxSweepMembers = 64;

struct TrainingPlan {
  std::vector<TrainingJob> resolved;  // of each SAE, with every default filled in
  uint64_t steps = 0;
  // What the run holds at its peak beside the model, and what is there for it (0: not known).
  uint64_t memory_bytes = 0;
  uint64_t available_bytes = 0;
};

// Checks all that can be known before SAEs are trained on one stream, and says what would be done.
//
//   errors  NotFound, AlreadyExists  an id that is not there, or is
//           FailedPrecondition       a corpus of another tokenizer
//           InvalidArgument          those of Resolve and of RunSweep; members that differ in what
//                                    feeds them; files or hook points that do not fit the model;
//                                    more memory than there is, with what would fit
//           those of LoadTrainingInputs
absl::StatusOr<TrainingPlan> MakeTrainingPlan(Catalog* catalog, absl::Span<const TrainingJob> members);

// What the job uses, as in JobSubmission.
std::vector<std::string> ResourcesOf(const TrainingJob& job);

// Trains, and makes the results entries of the catalog. What a run before a crash has finished is
// not done again.   errors  those of RunTraining, RunSweep and the catalog
absl::Status RunTrainingJob(Catalog* catalog, const JobRow& job, const RunContext& context);
absl::Status RunSweepJob(Catalog* catalog, const JobRow& job, const RunContext& context);

}  // namespace featurescope
