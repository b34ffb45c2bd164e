// Fuzzes everything of the gateway that reads bytes from the network: envelopes, base64, timeouts,
// metadata, status details, header rules. Beside crashes it checks what must hold for any input.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/gateway/grpc_web_frames.h"
#include "server/gateway/http_policy.h"
#include "server/gateway/http_response.h"

namespace featurescope {
namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

// What a client's decodeURIComponent makes of it.
std::string PercentDecode(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    Check(text[i] >= 0x20 && text[i] <= 0x7e);
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    Check(i + 2 < text.size());
    out += absl::HexStringToBytes(text.substr(i + 1, 2));
    i += 2;
  }
  return out;
}

void FuzzBody(absl::string_view input) {
  constexpr size_t kLimit = 1000;
  const auto message = SingleMessage(input, kLimit);
  if (message.ok()) {
    Check(message->size() <= kLimit && message->size() + kGrpcWebEnvelopeBytes == input.size());
  }
  absl::string_view rest = input;
  while (!rest.empty()) {
    const size_t before = rest.size();
    const auto frame = ReadFrame(&rest, kLimit);
    if (!frame.ok()) {
      Check(rest.size() == before);
      break;
    }
    Check(frame->payload.size() + kGrpcWebEnvelopeBytes + rest.size() == before);
  }
  for (const bool padding_optional : {false, true}) {
    const auto decoded = DecodeBase64(input, padding_optional);
    if (!decoded.ok()) continue;
    Check(decoded->size() <= input.size() / 4 * 3 + 2);
    Check(DecodeBase64(absl::Base64Escape(*decoded)).value() == *decoded);
  }
}

void FuzzStatus(absl::string_view input) {
  const std::string text(input);
  const std::string encoded = EncodeGrpcMessage(input);
  // Encoding what was decoded changes nothing: it was valid UTF-8 already.
  const std::string decoded = PercentDecode(encoded);
  if (decoded.size() <= 1024) Check(EncodeGrpcMessage(decoded) == encoded);

  const int code = StatusDetailsCode(input).value_or(-1);
  const std::string frame = TrailerFrame({7, text, text}, {{text, text}, {"x-b-bin", text}});
  absl::string_view rest = frame;
  const auto trailer = ReadFrame(&rest, frame.size());
  Check(trailer.ok() && rest.empty() && trailer->flags == kGrpcWebTrailer);
  const bool has_details =
      trailer->payload.find("\r\ngrpc-status-details-bin: ") != trailer->payload.npos;
  Check(has_details == (code == 7 && !input.empty()));
  for (absl::string_view line : absl::StrSplit(trailer->payload, "\r\n")) {
    Check(line.find_first_of("\r\n") == line.npos);
  }
  absl::string_view block = trailer->payload;
  Check(block.substr(block.size() - 2) == "\r\n" && block.find("\r\n\r\n") == block.npos);
}

void FuzzHeaders(absl::string_view input) {
  const auto timeout = ParseGrpcTimeout(input);
  if (timeout.ok()) Check(*timeout >= absl::ZeroDuration());
  const auto type = ParseGrpcWebContentType(input);
  if (type) Check(type->response.find_first_of("\r\n ;") == std::string::npos);
  if (IsRpcPath(input)) Check(input.find_first_of("\r\n %?\\") == absl::string_view::npos);

  const size_t split = input.find('\n');
  const std::string first(input.substr(0, split));
  const std::string second(split == input.npos ? absl::string_view() : input.substr(split + 1));
  const auto metadata = ForwardedMetadata({{first, second}, {"x-sae-" + first, second}});
  if (metadata.ok()) {
    for (const auto& [name, value] : *metadata) {
      Check(IsForwardedHeader(name) && name != kPeerMetadataKey);
      const bool binary = name.size() >= 4 && name.substr(name.size() - 4) == "-bin";
      for (const char c : value) Check(binary || (c >= 0x20 && c <= 0x7e));
    }
  }
  for (const auto& [name, value] : ResponseHeaders({{first, second}})) {
    Check((name + value).find_first_of("\r\n") == std::string::npos);
  }
  HttpPolicy policy;
  policy.trusted_proxies = {"10.0.0.1"};
  IsAllowedHost(policy, input);
  Check(CallerAddress(policy, "10.0.0.1", input).find_first_of("\r\n ") == std::string::npos);
  for (const auto& [name, value] : PreflightHeaders("http://a", input)) {
    Check(value.find_first_of("\r\n") == std::string::npos);
  }
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  featurescope::FuzzBody(input);
  featurescope::FuzzStatus(input);
  featurescope::FuzzHeaders(input);
  return 0;
}
