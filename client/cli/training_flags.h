// What `train` was asked for: one SAE, or the grid of a sweep, from its flags.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "featurescope/v1/training.pb.h"

namespace featurescope {

// All flags of `train` that make the specification.
std::vector<Flag> TrainingSpecFlags();

// Without --sweep there are no members; with it one for each combination of the swept values, whose
// id is the base's and then, for each swept field, its short name and value (l6-k32-lr0.001), or of
// choices the value alone (l6-batchtopk).
//
//   errors  InvalidArgument  a flag, naming it; a field that is set twice; more than 256 members
absl::StatusOr<v1::SweepSpec> TrainingFromFlags(const Args& args);

}  // namespace featurescope
