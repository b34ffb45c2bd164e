// What the curves of a training job or a sweep say is going wrong.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/catalog/catalog.h"
#include "server/train/advice.h"

namespace featurescope {

struct MemberAdvice {
  std::string sae_id;
  Advice advice;
};

// What the points so far say of each of the job's SAEs, in the order of its members.
//   errors  InvalidArgument  a job of another kind
//           NotFound         what it was trained on is gone
absl::StatusOr<std::vector<MemberAdvice>> AdviseOnJob(Catalog* catalog, const JobRow& job);

}  // namespace featurescope
