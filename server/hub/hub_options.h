// Where the hub is, who asks, and where downloads are kept: the same environment variables that
// the Python tools read.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace featurescope {

// A request that failed in passing (429, 5xx, a broken connection) is sent again.
struct HubRetryPolicy {
  int max_attempts = 5;  // in a row without progress; a download that moves on starts anew
  absl::Duration base_delay = absl::Milliseconds(500);  // doubles with every attempt
  absl::Duration max_delay = absl::Seconds(30);
  absl::Duration max_retry_after = absl::Minutes(5);  // longer waits asked for are an error
};

struct HubOptions {
  std::string endpoint = "https://huggingface.co";  // no slash at the end
  std::string token;                                // "": none is sent
  std::string token_source;                         // as messages name it, "HF_TOKEN" or a file
  std::string cache_dir;                            // holds models--ORG--NAME/
  std::string ca_file;                              // PEM certificates; "": the system's
  bool offline = false;                             // nothing but the cache
  int parallel_files = 4;                           // [1, 16], each on a connection of its own
  absl::Duration connect_timeout = absl::Seconds(15);
  absl::Duration stall_timeout = absl::Seconds(30);  // no byte received for so long
  HubRetryPolicy retry;

  using Environment = std::function<std::optional<std::string>(absl::string_view name)>;

  // From HF_ENDPOINT, HF_TOKEN (or the file HF_TOKEN_PATH, else HF_HOME/token), HF_HUB_CACHE
  // (else HF_HOME/hub), HF_HOME (else XDG_CACHE_HOME/huggingface, ~/.cache/huggingface),
  // HF_HUB_OFFLINE, and CURL_CA_BUNDLE or SSL_CERT_FILE. Proxies are libcurl's: http_proxy,
  // https_proxy, no_proxy.
  //
  //   InvalidArgument     an endpoint that is no http(s) address, a token with control characters
  //   FailedPrecondition  neither HF_HOME nor HOME is set
  static absl::StatusOr<HubOptions> FromEnvironment(const Environment& environment);
  // The process's own.
  static absl::StatusOr<HubOptions> FromEnvironment();
};

}  // namespace featurescope
