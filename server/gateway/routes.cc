#include "server/gateway/routes.h"

#include <string>

#include "absl/strings/escaping.h"
#include "server/base/status.h"
#include "server/gateway/grpc_web_frames.h"

namespace featurescope {

HttpResponse AnswerGet(const GatewayContext& context, const RequestHead& head) {
  if (head.path == "/healthz") {
    return context.draining() ? TextResponse(503, "draining\n") : TextResponse(200, "ok\n");
  }
  if (head.path == "/metrics") {
    return TextResponse(200, context.metrics ? context.metrics() : "",
                        "text/plain; version=0.0.4; charset=utf-8");
  }
  return context.files.Find(head.path, head.field("accept"), head.field("accept-encoding"),
                            head.field("if-none-match"));
}

HttpResponse AnswerOptions(const GatewayContext& context, const RequestHead& head) {
  HttpResponse response;
  response.status = 204;
  const absl::string_view origin = head.field("origin");
  if (head.field("access-control-request-method").empty()) {
    response.headers = {{"Allow", IsRpcPath(head.path) ? "POST, OPTIONS" : "GET, HEAD, OPTIONS"}};
  } else if (head.field("access-control-request-method") == "POST" &&
             IsAllowedOrigin(context.policy, origin)) {
    response.headers = PreflightHeaders(origin, head.field("access-control-request-headers"));
  } else {
    return TextResponse(403, "this origin may not call\n");
  }
  return response;
}

absl::StatusOr<GrpcWebRequest> MakeRpcRequest(const GatewayContext& context,
                                              const RequestHead& head, bool text,
                                              absl::string_view peer, absl::string_view body) {
  if (!IsRpcPath(head.path)) {
    return Unimplemented("no such method: ", absl::CHexEscape(head.path.substr(0, 200)));
  }
  std::string decoded;
  if (text) {
    ASSIGN_OR_RETURN(decoded, DecodeBase64(body));
    body = decoded;
  }
  ASSIGN_OR_RETURN(const absl::string_view message,
                   SingleMessage(body, context.options.max_message_bytes));
  GrpcWebRequest request;
  request.path = head.path;
  request.message = std::string(message);
  ASSIGN_OR_RETURN(request.metadata, ForwardedMetadata(head.fields));
  request.metadata.emplace_back(std::string(kPeerMetadataKey),
                                CallerAddress(context.policy, peer, head.field("x-forwarded-for")));
  if (const absl::string_view timeout = head.field("grpc-timeout"); !timeout.empty()) {
    ASSIGN_OR_RETURN(request.timeout, ParseGrpcTimeout(timeout));
  }
  return request;
}

}  // namespace featurescope
