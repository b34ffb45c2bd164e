// What a request asks for: a page, a preflight, a call.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/gateway/gateway_context.h"
#include "server/gateway/grpc_web_call.h"
#include "server/gateway/http_response.h"
#include "server/gateway/request_head.h"

namespace featurescope {

// The health check, the metrics, or a file of the web app.
HttpResponse AnswerGet(const GatewayContext& context, const RequestHead& head);
HttpResponse AnswerOptions(const GatewayContext& context, const RequestHead& head);

// The call that a POST stands for; `text` where its body is base64.
//   errors  Unimplemented    not the path of a method
//           InvalidArgument  a body or a header that is not gRPC-Web
absl::StatusOr<GrpcWebRequest> MakeRpcRequest(const GatewayContext& context,
                                              const RequestHead& head, bool text,
                                              absl::string_view peer, absl::string_view body);

}  // namespace featurescope
