#include "client/client.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "featurescope/v1/errors.pb.h"

namespace featurescope {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;

// The first violated field in the status's details; empty when there is none.
std::string ViolatedField(const grpc::Status& status) {
  v1::RpcStatus details;
  v1::BadRequest bad_request;
  if (!details.ParseFromString(status.error_details())) return "";
  for (const auto& any : details.details()) {
    if (absl::EndsWith(any.type_url(), "/google.rpc.BadRequest") &&
        bad_request.ParseFromString(any.value()) && bad_request.field_violations_size() > 0) {
      return bad_request.field_violations(0).field();
    }
  }
  return "";
}

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  const std::string field = ViolatedField(status);
  if (!field.empty() && !absl::StrContains(message, field)) {
    message = absl::StrCat(field, ": ", message);
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), message);
}

Client::Client(const std::string& address) : address_(address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  // A server on this machine is not reached through a proxy.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A connection that fails in passing is tried again; a server that is not there costs about
  // a second.
  arguments.SetServiceConfigJSON(R"({"methodConfig": [{"name": [{}], "retryPolicy": {
      "maxAttempts": 4, "initialBackoff": "0.3s", "maxBackoff": "0.5s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]}}]})");
  // The channel's own pause between connections, else 1 s, must be shorter than those pauses.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  catalog_ = v1::CatalogService::NewStub(channel_);
  explore_ = v1::ExploreService::NewStub(channel_);
  features_ = v1::FeatureService::NewStub(channel_);
  jobs_ = v1::JobService::NewStub(channel_);
}

absl::Status Client::Explain(const grpc::Status& status) const {
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(absl::StrCat(
        "no answer from the server at ", address_, " (", status.error_message(),
        "); is it running? Another address is given by --server or FEATURESCOPE_SERVER"));
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
    return absl::UnimplementedError(absl::StrCat(
        "the server at ", address_, " does not know this call; it is older than this program"));
  }
  return FromGrpcStatus(status);
}

}  // namespace featurescope
