// The head of an HTTP request as the gateway uses it.
#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/gateway/grpc_web_frames.h"
#include "server/gateway/http_policy.h"
#include "server/gateway/http_response.h"

namespace featurescope {

// What the answer needs to know of the request; copied before the body is read, so that trailer
// fields of a chunked body cannot add to it.
struct RequestHead {
  std::string method;
  std::string path;  // without query
  bool http_1_0 = false;
  bool keep_alive = false;
  bool has_body = false;
  bool expects_continue = false;
  std::optional<uint64_t> content_length;
  bool ambiguous_length = false;  // a request whose end two servers could see differently
  size_t n_hosts = 0;
  GrpcWebMetadata fields;  // names in lower case

  absl::string_view field(absl::string_view name) const {
    for (const auto& [key, value] : fields) {
      if (key == name) return value;
    }
    return "";
  }
};

RequestHead CopyHead(
    const boost::beast::http::request_parser<boost::beast::http::empty_body>& parser);

// The answer to a request that must not be looked at further; nothing where it may.
std::optional<HttpResponse> RefuseHead(const RequestHead& head, const HttpPolicy& policy);

}  // namespace featurescope
