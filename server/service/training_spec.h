// The contract's training specifications and the core's, field by field by name.
//
// Fields of the contract that a preset or a sweep's base does not name keep what is below them:
// member over base over preset over defaults.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "featurescope/v1/training.pb.h"
#include "server/jobs/job_advice.h"
#include "server/jobs/spec_json.h"
#include "server/jobs/training_job.h"
#include "server/train/presets.h"

namespace featurescope {

// errors  NotFound         the preset, with the names that there are
//         InvalidArgument  an unknown choice, with those that there are; a number that is not
//                          finite or out of its type's range; naming the field
absl::StatusOr<TrainingJob> FromProto(const v1::TrainingSpec& spec);
// Every field, so that the same comes back whatever the defaults are by then.
void ToProto(const TrainingJob& job, v1::TrainingSpec* out);

// Each member merged over the base; without members the base alone.
//   errors  those of a single specification, behind the member's sae_id; too many members
absl::StatusOr<SweepJob> FromProto(const v1::SweepSpec& spec);
// The base gets what all members have in common.
void ToProto(const SweepJob& job, v1::SweepSpec* out);

// With the fields that are not at their default.
void ToProto(const Preset& preset, v1::Preset* out);
void ToProto(const TrainingPlan& plan, v1::TrainingPlan* out);
void ToProto(const MemberAdvice& advice, v1::Advice* out);

}  // namespace featurescope
