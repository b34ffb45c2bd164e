// An HTTP answer that is known as a whole, and the text of any answer's head.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/gateway/grpc_web_frames.h"

namespace featurescope {

struct HttpResponse {
  int status = 200;
  GrpcWebMetadata headers;                  // beside Content-Length, Date and Connection
  std::shared_ptr<const std::string> body;  // shared with the static files; null: empty
};

// A short text answer with a content type and no caching.
HttpResponse TextResponse(int status, std::string text,
                          absl::string_view content_type = "text/plain; charset=utf-8");

// The head of an answer, blank line included.
//
//   framing     the line that says where the body ends, e.g. "Content-Length: 3"; empty: where the
//               connection does, or there is none
//   keep_alive  false adds "Connection: close"
std::string ResponseHead(int status, const GrpcWebMetadata& headers, absl::string_view framing,
                         bool keep_alive, absl::Time now);

}  // namespace featurescope
