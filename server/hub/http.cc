#include "server/hub/http.h"

#include <curl/curl.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr int kMaxRedirects = 10;
constexpr size_t kMaxHeaderBytes = 256u << 10;
constexpr int kPollMilliseconds = 100;
using Long = long;  // NOLINT: as libcurl's variadic options want it
constexpr Long kReceiveBufferBytes = 256 << 10;

void InitializeOnce() {
  static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)initialized;
}

class Url {
 public:
  Url() : url_(curl_url()) {}
  ~Url() { curl_url_cleanup(url_); }
  Url(const Url&) = delete;
  Url& operator=(const Url&) = delete;

  // An address, or one relative to that set before.
  bool Set(const std::string& text) {
    return curl_url_set(url_, CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
  }
  std::string Get(CURLUPart part, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_url_get(url_, part, &text, flags) != CURLUE_OK) return "";
    std::string copy(text);
    curl_free(text);
    return copy;
  }

 private:
  CURLU* const url_;
};

class HeaderList {
 public:
  ~HeaderList() { curl_slist_free_all(list_); }
  void Add(const std::string& line) { list_ = curl_slist_append(list_, line.c_str()); }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

absl::Status TransferError(CURLcode code, const std::string& url, const char* detail) {
  const std::string message =
      absl::StrCat(ShownUrl(url), ": ", detail[0] != '\0' ? detail : curl_easy_strerror(code));
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return FailedPrecondition(message);
    default:
      return absl::UnavailableError(message);
  }
}

}  // namespace

absl::StatusOr<HttpOrigin> HttpOrigin::Of(const std::string& url) {
  Url parsed;
  HttpOrigin origin;
  if (parsed.Set(url)) {
    origin.scheme = absl::AsciiStrToLower(parsed.Get(CURLUPART_SCHEME));
    origin.host = absl::AsciiStrToLower(parsed.Get(CURLUPART_HOST));
    origin.port = parsed.Get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
  }
  if ((origin.scheme != "https" && origin.scheme != "http") || origin.host.empty() ||
      !parsed.Get(CURLUPART_USER).empty()) {
    return InvalidArgument("\"", ShownUrl(url), "\" is no address such as https://huggingface.co");
  }
  return origin;
}

absl::StatusOr<std::string> FollowUrl(const std::string& url, const std::string& reference) {
  Url target;
  if (!target.Set(url) || !target.Set(reference)) {
    return FailedPrecondition(ShownUrl(url), ": leads to a malformed address");
  }
  std::string result = target.Get(CURLUPART_URL);
  const absl::StatusOr<HttpOrigin> origin = HttpOrigin::Of(result);
  if (!origin.ok()) return FailedPrecondition(ShownUrl(url), ": leads elsewhere than to http");
  if (absl::StartsWith(url, "https:") && origin->scheme != "https") {
    return FailedPrecondition(ShownUrl(url), ": leads from https to ", ShownUrl(result));
  }
  return result;
}

std::string PercentEncode(absl::string_view text, absl::string_view keep) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || absl::StrContains("-._~", c) || absl::StrContains(keep, c)) {
      encoded.push_back(c);
    } else {
      encoded.push_back('%');
      encoded.push_back(kHex[byte >> 4]);
      encoded.push_back(kHex[byte & 15]);
    }
  }
  return encoded;
}

std::string ShownUrl(absl::string_view url) {
  return std::string(url.substr(0, std::min(url.find('?'), url.find('#'))));
}

void HttpHeaders::Add(std::string name, std::string value) {
  fields_.emplace_back(std::move(name), std::move(value));
}

const std::string* HttpHeaders::Find(absl::string_view name) const {
  for (auto field = fields_.rbegin(); field != fields_.rend(); ++field) {
    if (field->first == name) return &field->second;
  }
  return nullptr;
}

// What libcurl's callbacks need while one exchange runs.
struct HttpSession::Exchange {
  const HttpRequest& request;
  CURL* easy;
  HttpAnswer* response;
  size_t header_bytes = 0;
  bool started = false;
  bool enough = false;  // the rest of the body does not matter
  absl::Time last_byte = absl::InfinitePast();
  absl::Status error = absl::OkStatus();  // of a callback
  char detail[CURL_ERROR_SIZE] = "";      // libcurl's words

  bool streams() const {
    return request.on_body && (response->status == 200 || response->status == 206);
  }

  absl::Status TakeHeader(absl::string_view line) {
    last_byte = absl::Now();
    header_bytes += line.size();
    if (header_bytes > kMaxHeaderBytes) {
      return absl::UnavailableError("the answer has more than 256 KiB of header");
    }
    if (absl::StartsWith(line, "HTTP/")) {  // also after a 100-continue
      response->headers.Clear();
      return absl::OkStatus();
    }
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) return absl::OkStatus();
    response->headers.Add(absl::AsciiStrToLower(line.substr(0, colon)),
                          std::string(absl::StripAsciiWhitespace(line.substr(colon + 1))));
    return absl::OkStatus();
  }

  absl::Status TakeBody(absl::string_view bytes) {
    last_byte = absl::Now();
    RETURN_IF_ERROR(Start());
    if (enough) return absl::OkStatus();
    if (streams()) return request.on_body(bytes);
    if (response->body.size() + bytes.size() > request.max_body_bytes) {
      // Of an error page the beginning is enough.
      enough = response->status >= 300;
      if (enough) return absl::OkStatus();
      return ResourceExhausted(ShownUrl(response->url), ": the answer is larger than ",
                               request.max_body_bytes, " bytes");
    }
    response->body.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }

  // The header is complete.
  absl::Status Start() {
    if (started) return absl::OkStatus();
    started = true;
    Long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    response->status = static_cast<int>(status);
    if (streams() && request.on_start) return request.on_start(*response);
    return absl::OkStatus();
  }

  static size_t OnHeader(char* data, size_t size, size_t n, void* self) {
    auto* exchange = static_cast<Exchange*>(self);
    exchange->error.Update(exchange->TakeHeader(absl::string_view(data, size * n)));
    return exchange->error.ok() ? size * n : 0;
  }
  static size_t OnBody(char* data, size_t size, size_t n, void* self) {
    auto* exchange = static_cast<Exchange*>(self);
    exchange->error.Update(exchange->TakeBody(absl::string_view(data, size * n)));
    return exchange->error.ok() ? size * n : CURL_WRITEFUNC_ERROR;
  }
};

HttpSession::HttpSession(HttpOptions options)
    : options_(std::move(options)),
      multi_((InitializeOnce(), curl_multi_init())),
      easy_(curl_easy_init()) {}

HttpSession::~HttpSession() {
  curl_easy_cleanup(easy_);
  curl_multi_cleanup(multi_);
}

absl::StatusOr<HttpAnswer> HttpSession::Send(const HttpRequest& request) {
  if (multi_ == nullptr || easy_ == nullptr) return ResourceExhausted("libcurl: out of memory");
  ASSIGN_OR_RETURN(const HttpOrigin home, HttpOrigin::Of(request.url));
  std::string url = request.url;
  std::vector<HttpHeaders> redirects;
  while (true) {
    HttpAnswer response;
    response.url = url;
    response.redirects = redirects;
    ASSIGN_OR_RETURN(const HttpOrigin origin, HttpOrigin::Of(url));
    RETURN_IF_ERROR(SendOnce(request, url, origin == home, &response));
    const std::string* location = response.headers.Find("location");
    if (!IsRedirect(response.status) || location == nullptr) return response;
    ASSIGN_OR_RETURN(url, FollowUrl(url, *location));
    ASSIGN_OR_RETURN(const HttpOrigin next, HttpOrigin::Of(url));
    if (!request.leave_origin && next != home) return response;
    if (redirects.size() == kMaxRedirects) {
      return FailedPrecondition(ShownUrl(request.url), ": more than ", kMaxRedirects, " redirects");
    }
    redirects.push_back(std::move(response.headers));
  }
}

void HttpSession::Configure(const HttpRequest& request, const std::string& url,
                            Exchange* exchange) {
  curl_easy_reset(easy_);  // keeps connections
  curl_easy_setopt(easy_, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy_, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy_, CURLOPT_NOBODY, request.head ? 1L : 0L);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYHOST, 2L);
  if (!options_.ca_file.empty()) {
    curl_easy_setopt(easy_, CURLOPT_CAINFO, options_.ca_file.c_str());
  }
  curl_easy_setopt(easy_, CURLOPT_USERAGENT, "featurescope/0.1");
  curl_easy_setopt(easy_, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy_, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<Long>(absl::ToInt64Milliseconds(options_.connect_timeout)));
  curl_easy_setopt(easy_, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy_, CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, exchange->detail);
  curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, &Exchange::OnHeader);
  curl_easy_setopt(easy_, CURLOPT_HEADERDATA, exchange);
  curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, &Exchange::OnBody);
  curl_easy_setopt(easy_, CURLOPT_WRITEDATA, exchange);
}

absl::Status HttpSession::SendOnce(const HttpRequest& request, const std::string& url,
                                   bool with_token, HttpAnswer* response) {
  Exchange exchange{request, easy_, response};
  Configure(request, url, &exchange);
  HeaderList headers;
  headers.Add("Accept-Encoding: identity");
  for (const std::string& line : request.headers) headers.Add(line);
  if (with_token && !request.token.empty()) {
    headers.Add(absl::StrCat("Authorization: Bearer ", request.token));
  }
  curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, headers.get());

  if (curl_multi_add_handle(multi_, easy_) != CURLM_OK) return Internal("libcurl: handle in use");
  const absl::Status status = Drive(request, &exchange);
  curl_multi_remove_handle(multi_, easy_);
  curl_easy_reset(easy_);  // forgets what lived in this frame
  return status;
}

absl::Status HttpSession::Drive(const HttpRequest& request, Exchange* exchange) {
  exchange->last_byte = absl::Now();
  while (true) {
    int running = 0;
    if (curl_multi_perform(multi_, &running) != CURLM_OK) return Internal("libcurl: perform");
    RETURN_IF_ERROR(exchange->error);
    if (request.check) RETURN_IF_ERROR(request.check());
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      if (message->data.result == CURLE_OK) return exchange->Start();
      return TransferError(message->data.result, exchange->response->url, exchange->detail);
    }
    if (exchange->enough) return absl::OkStatus();
    const absl::Duration silence = absl::Now() - exchange->last_byte;
    const absl::Duration patience =
        options_.stall_timeout +
        (exchange->header_bytes == 0 ? options_.connect_timeout : absl::ZeroDuration());
    if (silence > patience) {
      return absl::UnavailableError(absl::StrCat(ShownUrl(exchange->response->url),
                                                 ": nothing came for ",
                                                 absl::FormatDuration(patience)));
    }
    curl_multi_poll(multi_, nullptr, 0, kPollMilliseconds, nullptr);
  }
}

}  // namespace featurescope
