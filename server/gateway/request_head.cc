#include "server/gateway/request_head.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace featurescope {
namespace {

absl::string_view AsView(boost::string_view text) { return {text.data(), text.size()}; }

}  // namespace

RequestHead CopyHead(
    const boost::beast::http::request_parser<boost::beast::http::empty_body>& parser) {
  const auto& message = parser.get();
  RequestHead head;
  head.method = std::string(AsView(message.method_string()));
  const absl::string_view target = AsView(message.target());
  head.path = std::string(target.substr(0, target.find_first_of("?#")));
  head.http_1_0 = message.version() < 11;
  head.keep_alive = message.keep_alive() && !head.http_1_0;
  size_t n_encodings = 0;
  size_t n_lengths = 0;
  for (const auto& field : message) {
    std::string name = absl::AsciiStrToLower(AsView(field.name_string()));
    if (name == "transfer-encoding") {
      ++n_encodings;
      if (!absl::EqualsIgnoreCase(AsView(field.value()), "chunked")) head.ambiguous_length = true;
    }
    if (name == "content-length") ++n_lengths;
    if (name == "host") ++head.n_hosts;
    if (name == "expect") {
      head.expects_continue = absl::EqualsIgnoreCase(AsView(field.value()), "100-continue");
    }
    head.fields.emplace_back(std::move(name), std::string(AsView(field.value())));
  }
  if (n_encodings + n_lengths > 1 || (head.http_1_0 && n_encodings > 0)) {
    head.ambiguous_length = true;
  }
  if (n_lengths > 0) head.content_length = parser.content_length().value_or(0);
  head.has_body = n_encodings > 0 || head.content_length.value_or(0) > 0;
  return head;
}

std::optional<HttpResponse> RefuseHead(const RequestHead& head, const HttpPolicy& policy) {
  if (head.ambiguous_length) {
    return TextResponse(400, "bad request: contradictory or unknown body length\n");
  }
  if (head.n_hosts > 1 || (head.n_hosts == 0 && !head.http_1_0)) {
    return TextResponse(400, "bad request: exactly one Host header is needed\n");
  }
  if (head.n_hosts == 1 && !IsAllowedHost(policy, head.field("host"))) {
    return TextResponse(421, absl::StrCat("this server does not answer for the host \"",
                                          absl::CHexEscape(head.field("host").substr(0, 100)),
                                          "\"; see the option for allowed hosts\n"));
  }
  if (head.path.empty() || head.path[0] != '/') {
    return TextResponse(400, "bad request: the target must be a path\n");
  }
  return std::nullopt;
}

}  // namespace featurescope
