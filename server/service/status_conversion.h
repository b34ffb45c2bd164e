// absl::Status to grpc::Status, with google.rpc details for violated fields.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace featurescope {

// Codes are the same on both sides. A status made by InvalidField carries google.rpc.BadRequest.
// The message is made valid UTF-8; INTERNAL keeps its message in the log only.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace featurescope
