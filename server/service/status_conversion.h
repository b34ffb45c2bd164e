// absl::Status to grpc::Status, with google.rpc details for violated fields.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// The text with bytes that are no UTF-8 written as \\xNN.
std::string ValidUtf8(absl::string_view text);

// Codes are the same on both sides. A status made by InvalidField carries google.rpc.BadRequest.
// The message is made valid UTF-8; INTERNAL keeps its message in the log only.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace featurescope
