#include "server/service/status_conversion.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "featurescope/v1/errors.pb.h"
#include "server/base/log.h"
#include "server/base/status.h"

namespace featurescope {

std::string ValidUtf8(absl::string_view text) {
  std::string clean;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80       ? 1
                          : lead >> 5 == 6  ? 2
                          : lead >> 4 == 14 ? 3
                          : lead >> 3 == 30 ? 4
                                            : 0;
    bool valid = length > 0 && i + length <= text.size();
    for (size_t j = 1; valid && j < length; ++j) {
      valid = (static_cast<unsigned char>(text[i + j]) & 0xc0) == 0x80;
    }
    if (valid) {
      clean.append(text.data() + i, length);
      i += length;
    } else {
      absl::StrAppend(&clean, "\\x", absl::Hex(lead, absl::kZeroPad2));
      ++i;
    }
  }
  return clean;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message = ValidUtf8(status.message());
  if (status.code() == absl::StatusCode::kInternal) {
    LogError("internal error: ", message);
    message = "internal error; the server's log has the details";
  }
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const absl::optional<absl::Cord> field = status.GetPayload(kFieldPayload);
  if (!field.has_value()) return grpc::Status(code, message);

  v1::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(std::string(*field));
  violation->set_description(message);
  v1::RpcStatus details;
  details.set_code(static_cast<int>(code));
  details.set_message(message);
  auto* any = details.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.BadRequest");
  any->set_value(bad_request.SerializeAsString());
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace featurescope
