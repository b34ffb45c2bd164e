#include "server/gateway/http_policy.h"

#include <arpa/inet.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace featurescope {
namespace {

constexpr absl::string_view kCallHeaders =
    "content-type,x-grpc-web,x-user-agent,grpc-timeout,authorization,traceparent,tracestate,"
    "x-request-id";

bool Contains(const std::vector<std::string>& list, absl::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool IsIpAddress(absl::string_view text) {
  unsigned char address[sizeof(in6_addr)];
  const std::string terminated(text);
  if (terminated.find('\0') != std::string::npos) return false;
  return inet_pton(AF_INET, terminated.c_str(), address) == 1 ||
         inet_pton(AF_INET6, terminated.c_str(), address) == 1;
}

}  // namespace

bool IsAllowedHost(const HttpPolicy& policy, absl::string_view host) {
  if (policy.any_host) return true;
  std::string name;
  if (!host.empty() && host[0] == '[') {
    name = std::string(host.substr(1, host.find(']') - 1));
  } else {
    name = absl::AsciiStrToLower(host.substr(0, host.find(':')));
  }
  return name == "localhost" || IsIpAddress(name) || Contains(policy.allowed_hosts, name);
}

bool IsAllowedOrigin(const HttpPolicy& policy, absl::string_view origin) {
  return !origin.empty() && Contains(policy.allowed_origins, origin);
}

bool IsForbiddenCrossSite(const HttpPolicy& policy, absl::string_view sec_fetch_site,
                          absl::string_view origin) {
  return sec_fetch_site == "cross-site" && !IsAllowedOrigin(policy, origin);
}

GrpcWebMetadata PreflightHeaders(absl::string_view origin, absl::string_view requested_headers) {
  std::string headers(kCallHeaders);
  for (absl::string_view name : absl::StrSplit(requested_headers, ',')) {
    name = absl::StripAsciiWhitespace(name);
    const std::string lower = absl::AsciiStrToLower(name);
    const bool legal = std::all_of(lower.begin(), lower.end(), [](char c) {
      return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
    });
    if (legal && IsForwardedHeader(lower)) absl::StrAppend(&headers, ",", lower);
  }
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Allow-Methods", "POST"},
          {"Access-Control-Allow-Headers", headers},
          {"Access-Control-Max-Age", "7200"},
          {"Vary", "Origin"}};
}

GrpcWebMetadata CorsHeaders(const HttpPolicy& policy, absl::string_view origin,
                            const GrpcWebMetadata& exposed) {
  if (!IsAllowedOrigin(policy, origin)) return {};
  std::string names = "grpc-status,grpc-message,grpc-status-details-bin";
  for (const auto& field : exposed) absl::StrAppend(&names, ",", field.first);
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Expose-Headers", names},
          {"Vary", "Origin"}};
}

std::string CallerAddress(const HttpPolicy& policy, absl::string_view peer,
                          absl::string_view x_forwarded_for) {
  if (!Contains(policy.trusted_proxies, peer)) return std::string(peer);
  std::vector<absl::string_view> hops = absl::StrSplit(x_forwarded_for, ',');
  for (auto hop = hops.rbegin(); hop != hops.rend(); ++hop) {
    const absl::string_view address = absl::StripAsciiWhitespace(*hop);
    if (!IsIpAddress(address)) break;
    if (!Contains(policy.trusted_proxies, address)) return std::string(address);
  }
  return std::string(peer);
}

}  // namespace featurescope
