// Who may talk to the gateway: the Host check, origins and CORS, and the caller's address behind a
// trusted proxy. Pure functions on header values.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/gateway/grpc_web_frames.h"

namespace featurescope {

struct HttpPolicy {
  std::vector<std::string> allowed_origins;  // exact, e.g. "http://localhost:5173"
  std::vector<std::string> allowed_hosts;    // host names without port, lower case
  bool any_host = false;                     // no Host check
  std::vector<std::string> trusted_proxies;  // IP addresses as text
};

// Whether requests for this Host header are answered: it must name an IP address, localhost or an
// allowed host. A page of another site whose name was rebound to our address fails here.
bool IsAllowedHost(const HttpPolicy& policy, absl::string_view host);

bool IsAllowedOrigin(const HttpPolicy& policy, absl::string_view origin);

// The cross-site rule for calls: a browser says the request comes from another site, and that site
// is not configured.
bool IsForbiddenCrossSite(const HttpPolicy& policy, absl::string_view sec_fetch_site,
                          absl::string_view origin);

// Answer headers of a preflight from an allowed origin.
GrpcWebMetadata PreflightHeaders(absl::string_view origin, absl::string_view requested_headers);

// CORS headers of a call's answer: nothing for a request without Origin or from one not allowed,
// else the origin and the names a script may read (`exposed` beside the protocol's own).
GrpcWebMetadata CorsHeaders(const HttpPolicy& policy, absl::string_view origin,
                            const GrpcWebMetadata& exposed);

// The caller's address: `peer`, or, when that is a trusted proxy, the last entry of X-Forwarded-For
// that is not one itself.
std::string CallerAddress(const HttpPolicy& policy, absl::string_view peer,
                          absl::string_view x_forwarded_for);

}  // namespace featurescope
