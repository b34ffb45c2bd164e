// One HTTP exchange after another on a kept connection: the only file that knows libcurl.
//
// Redirects are followed here and not by libcurl, so that the token is only ever sent to the
// origin it is for. Certificates are always verified.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace featurescope {

// Scheme, host and port of an address, in lower case and with the port always there.
struct HttpOrigin {
  std::string scheme;
  std::string host;
  std::string port;

  // InvalidArgument: no http or https address, or one with a user's name in it.
  static absl::StatusOr<HttpOrigin> Of(const std::string& url);
  friend bool operator==(const HttpOrigin&, const HttpOrigin&) = default;
};

// Where `reference`, an address or one relative to `url`, leads from there. FailedPrecondition:
// nowhere, elsewhere than to http(s), or from https to http.
absl::StatusOr<std::string> FollowUrl(const std::string& url, const std::string& reference);

// `text` with everything but letters, digits and -._~ and the characters of `keep` as %XX.
std::string PercentEncode(absl::string_view text, absl::string_view keep = "");

// An address as messages may show it: without its query, which can hold a signature.
std::string ShownUrl(absl::string_view url);

// Header fields of one answer, names in lower case.
class HttpHeaders {
 public:
  void Add(std::string name, std::string value);
  void Clear() { fields_.clear(); }
  // nullptr: not there. The last one counts.
  const std::string* Find(absl::string_view name) const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

struct HttpAnswer {
  int status = 0;
  std::string url;  // that answered
  HttpHeaders headers;
  std::vector<HttpHeaders> redirects;  // what the answers before said
  std::string body;                    // not what went to on_body
};

struct HttpRequest {
  std::string url;
  bool head = false;
  std::vector<std::string> headers;  // "Name: value"
  std::string token;                 // sent as a bearer to the origin of `url` only
  // Follow redirects to other origins too; otherwise such a redirect is the answer.
  bool leave_origin = true;
  uint64_t max_body_bytes = 64u << 10;  // into HttpAnswer::body; more is an error
  // With it, the body of a 200 or 206 goes there in pieces; on_start comes before the first.
  std::function<absl::Status(const HttpAnswer&)> on_start;
  std::function<absl::Status(absl::string_view)> on_body;
  // Polled every 100 ms; an error ends the exchange with it.
  std::function<absl::Status()> check;
};

struct HttpOptions {
  std::string ca_file;  // "": the system's
  absl::Duration connect_timeout = absl::Seconds(15);
  absl::Duration stall_timeout = absl::Seconds(30);
};

// Not thread-safe: one per thread.
class HttpSession {
 public:
  explicit HttpSession(HttpOptions options);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  // The answer, whatever its status.
  //
  //   Unavailable         no connection, a broken or stalled one, a body shorter than announced:
  //                       worth another try
  //   FailedPrecondition  the certificate does not verify; a redirect from https to http; too many
  //                       redirects; a proxy that cannot be used
  //   ResourceExhausted   a body larger than max_body_bytes
  //   any                 what on_start, on_body or check returned
  absl::StatusOr<HttpAnswer> Send(const HttpRequest& request);

 private:
  struct Exchange;
  absl::Status SendOnce(const HttpRequest& request, const std::string& url, bool with_token,
                        HttpAnswer* response);
  void Configure(const HttpRequest& request, const std::string& url, Exchange* exchange);
  // Runs the exchange to its end.
  absl::Status Drive(const HttpRequest& request, Exchange* exchange);

  const HttpOptions options_;
  void* const multi_;  // CURLM
  void* const easy_;   // CURL
};

}  // namespace featurescope
