#include "server/hub/hub_options.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/hub/http.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxTokenBytes = 4096;

// The first of the variables that is set and not empty.
std::string FirstOf(const HubOptions::Environment& environment,
                    std::initializer_list<absl::string_view> names) {
  for (absl::string_view name : names) {
    if (auto value = environment(name); value && !value->empty()) return *std::move(value);
  }
  return "";
}

bool IsTrue(const std::string& value) {
  const std::string upper = absl::AsciiStrToUpper(value);
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

class Directories {
 public:
  explicit Directories(const HubOptions::Environment& environment) : environment_(environment) {}

  // `~` alone or before a slash is HOME.
  absl::StatusOr<std::string> Expand(std::string path) const {
    if (path != "~" && !absl::StartsWith(path, "~/")) return path;
    ASSIGN_OR_RETURN(const std::string home, Home());
    return absl::StrCat(home, path.substr(1));
  }

  absl::StatusOr<std::string> HubHome() const {
    if (std::string home = FirstOf(environment_, {"HF_HOME"}); !home.empty()) return Expand(home);
    if (std::string cache = FirstOf(environment_, {"XDG_CACHE_HOME"}); !cache.empty()) {
      ASSIGN_OR_RETURN(cache, Expand(cache));
      return JoinPath(cache, "huggingface");
    }
    ASSIGN_OR_RETURN(const std::string home, Home());
    return JoinPath(home, ".cache/huggingface");
  }

 private:
  absl::StatusOr<std::string> Home() const {
    std::string home = FirstOf(environment_, {"HOME"});
    if (home.empty()) {
      return FailedPrecondition("no place for downloads: set HF_HOME (HOME is not set either)");
    }
    return home;
  }

  const HubOptions::Environment& environment_;
};

absl::Status ReadToken(const HubOptions::Environment& environment, const Directories& directories,
                       HubOptions* options) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    options->token = std::string(absl::StripAsciiWhitespace(FirstOf(environment, {name})));
    options->token_source = name;
    if (!options->token.empty()) break;
  }
  if (options->token.empty()) {
    std::string path = FirstOf(environment, {"HF_TOKEN_PATH"});
    if (path.empty()) {
      ASSIGN_OR_RETURN(const std::string home, directories.HubHome());
      path = JoinPath(home, "token");
    }
    ASSIGN_OR_RETURN(path, directories.Expand(path));
    const absl::StatusOr<std::string> text = ReadFile(path, kMaxTokenBytes);
    if (text.ok()) options->token = std::string(absl::StripAsciiWhitespace(*text));
    options->token_source = path;
  }
  if (options->token.empty()) options->token_source.clear();
  for (char c : options->token) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return InvalidArgument("the token from ", options->token_source,
                             " has spaces or control characters inside");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HubOptions> HubOptions::FromEnvironment(const Environment& environment) {
  HubOptions options;
  const Directories directories(environment);
  if (std::string endpoint = FirstOf(environment, {"HF_ENDPOINT"}); !endpoint.empty()) {
    while (absl::EndsWith(endpoint, "/")) endpoint.pop_back();
    const absl::StatusOr<HttpOrigin> origin = HttpOrigin::Of(endpoint);
    if (!origin.ok()) return Annotate(origin.status(), "HF_ENDPOINT");
    options.endpoint = std::move(endpoint);
  }
  options.cache_dir = FirstOf(environment, {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  if (options.cache_dir.empty()) {
    ASSIGN_OR_RETURN(const std::string home, directories.HubHome());
    options.cache_dir = JoinPath(home, "hub");
  }
  ASSIGN_OR_RETURN(options.cache_dir, directories.Expand(options.cache_dir));
  RETURN_IF_ERROR(ReadToken(environment, directories, &options));
  if (!options.token.empty() && absl::StartsWith(options.endpoint, "http://")) {
    LogWarning("HF_ENDPOINT is ", options.endpoint, ": the token travels there unencrypted");
  }
  options.offline = IsTrue(FirstOf(environment, {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  options.ca_file = FirstOf(environment, {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"});
  return options;
}

absl::StatusOr<HubOptions> HubOptions::FromEnvironment() {
  return FromEnvironment([](absl::string_view name) -> std::optional<std::string> {
    const char* value = std::getenv(std::string(name).c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  });
}

}  // namespace featurescope
