#include "server/gateway/grpc_web_frames.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kMaxMessageText = 1024;  // bytes of an error message that are sent
constexpr absl::string_view kReplacement = "\xef\xbf\xbd";

// The length of the valid UTF-8 sequence at the front of `text`; 0 when there is none.
size_t Utf8SequenceLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  size_t length = 0;
  uint32_t code_point = 0;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
    code_point = lead & 0x1fu;
  } else if ((lead & 0xf0u) == 0xe0) {
    length = 3;
    code_point = lead & 0x0fu;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    code_point = lead & 0x07u;
  }
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80) return 0;
    code_point = (code_point << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong =
      (length == 3 && code_point < 0x800) || (length == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  return overlong || surrogate || code_point > 0x10ffff ? 0 : length;
}

bool IsBinary(absl::string_view name) { return absl::EndsWith(name, "-bin"); }

bool IsLegalName(absl::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isdigit(c) || absl::ascii_islower(c) || c == '-' || c == '_' || c == '.';
  });
}

bool IsLegalValue(absl::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

// Names that a response may not take from the service's metadata: those of the protocol itself and
// those that describe the HTTP message or the browser's rules for it.
bool IsReserved(absl::string_view name) {
  for (absl::string_view prefix : {"grpc-", "access-control-", "content-", "sec-", "proxy-"}) {
    if (absl::StartsWith(name, prefix)) return true;
  }
  for (absl::string_view other :
       {"te", "trailer", "transfer-encoding", "connection", "keep-alive", "upgrade", "host", "date",
        "vary", "cache-control", "x-content-type-options", "x-accel-buffering", "set-cookie"}) {
    if (name == other) return true;
  }
  return false;
}

// Calls `emit(name, value)` for those fields that may leave the server, values in printable form.
template <typename Emit>
void ForEachSendable(const GrpcWebMetadata& fields, Emit emit) {
  for (const auto& [name, value] : fields) {
    if (!IsLegalName(name) || IsReserved(name)) continue;
    if (IsBinary(name)) {
      emit(name, absl::Base64Escape(value));
    } else if (IsLegalValue(value)) {
      emit(name, value);
    }
  }
}

bool ReadVarint(absl::string_view* input, uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (input->empty()) return false;
    const auto byte = static_cast<unsigned char>(input->front());
    input->remove_prefix(1);
    *value |= static_cast<uint64_t>(byte & 0x7fu) << shift;
    if ((byte & 0x80u) == 0) return true;
  }
  return false;
}

int Base64Digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

// Appends the bytes of one group of 2 to 4 digits; false when the unused bits are not zero.
bool AppendGroup(const int (&digits)[4], size_t n_digits, std::string* out) {
  uint32_t bits = 0;
  for (size_t i = 0; i < 4; ++i) {
    bits = (bits << 6) | static_cast<uint32_t>(i < n_digits ? digits[i] : 0);
  }
  const size_t n_bytes = n_digits - 1;
  for (size_t i = 0; i < n_bytes; ++i) {
    out->push_back(static_cast<char>((bits >> (16 - 8 * i)) & 0xffu));
  }
  return n_bytes == 3 || (bits & ((1u << (8 * (3 - n_bytes))) - 1)) == 0;
}

}  // namespace

std::optional<GrpcWebContentType> ParseGrpcWebContentType(absl::string_view value) {
  absl::string_view type = absl::StripAsciiWhitespace(value.substr(0, value.find(';')));
  GrpcWebContentType parsed;
  parsed.response = absl::AsciiStrToLower(type);
  absl::string_view rest = parsed.response;
  if (!absl::ConsumePrefix(&rest, "application/grpc-web")) return std::nullopt;
  parsed.text = absl::ConsumePrefix(&rest, "-text");
  if (!rest.empty() && rest != "+proto") return std::nullopt;
  return parsed;
}

std::array<char, kGrpcWebEnvelopeBytes> EnvelopeHeader(uint8_t flags, uint32_t length) {
  return {static_cast<char>(flags), static_cast<char>(length >> 24),
          static_cast<char>((length >> 16) & 0xffu), static_cast<char>((length >> 8) & 0xffu),
          static_cast<char>(length & 0xffu)};
}

absl::StatusOr<GrpcWebFrame> ReadFrame(absl::string_view* input, size_t max_payload) {
  if (input->size() < kGrpcWebEnvelopeBytes) {
    return InvalidArgument("the body ends inside an envelope: ", input->size(),
                           " bytes left, an envelope starts with ", kGrpcWebEnvelopeBytes);
  }
  const auto byte = [&](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>((*input)[i]));
  };
  const uint32_t length = byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
  if (length > max_payload) {
    return ResourceExhausted("a message of ", length, " bytes is larger than the limit of ",
                             max_payload);
  }
  if (input->size() - kGrpcWebEnvelopeBytes < length) {
    return InvalidArgument("the envelope announces ", length, " bytes, the body holds ",
                           input->size() - kGrpcWebEnvelopeBytes);
  }
  GrpcWebFrame frame{static_cast<uint8_t>(byte(0)), input->substr(kGrpcWebEnvelopeBytes, length)};
  input->remove_prefix(kGrpcWebEnvelopeBytes + length);
  return frame;
}

absl::StatusOr<absl::string_view> SingleMessage(absl::string_view body, size_t max_message) {
  if (body.empty()) return Unimplemented("the request holds no message; exactly one is needed");
  ASSIGN_OR_RETURN(const GrpcWebFrame frame, ReadFrame(&body, max_message));
  if (frame.flags == kGrpcWebCompressed) {
    return Unimplemented("compressed messages are not supported");
  }
  if (frame.flags == kGrpcWebTrailer) {
    return Unimplemented("the request holds no message, only trailers; exactly one is needed");
  }
  if (frame.flags != kGrpcWebMessage) {
    return InvalidArgument("unknown envelope flags ", static_cast<int>(frame.flags));
  }
  if (!body.empty()) {
    return Unimplemented(
        "the request holds more than one message; client streaming is not "
        "possible over gRPC-Web");
  }
  return frame.payload;
}

GrpcWebStatus ToGrpcWebStatus(const absl::Status& status) {
  return {static_cast<int>(status.code()), std::string(status.message()), ""};
}

std::string TrailerFrame(const GrpcWebStatus& status, const GrpcWebMetadata& trailers) {
  std::string block = absl::StrCat("grpc-status: ", status.code, "\r\n");
  if (!status.message.empty()) {
    absl::StrAppend(&block, "grpc-message: ", EncodeGrpcMessage(status.message), "\r\n");
  }
  if (!status.details.empty() && StatusDetailsCode(status.details) == status.code) {
    absl::StrAppend(&block, "grpc-status-details-bin: ", absl::Base64Escape(status.details),
                    "\r\n");
  }
  ForEachSendable(trailers, [&](absl::string_view name, absl::string_view value) {
    absl::StrAppend(&block, name, ": ", value, "\r\n");
  });
  const auto header = EnvelopeHeader(kGrpcWebTrailer, static_cast<uint32_t>(block.size()));
  return absl::StrCat(absl::string_view(header.data(), header.size()), block);
}

GrpcWebMetadata ResponseHeaders(const GrpcWebMetadata& initial) {
  GrpcWebMetadata headers;
  ForEachSendable(initial, [&](absl::string_view name, absl::string_view value) {
    headers.emplace_back(std::string(name), std::string(value));
  });
  return headers;
}

std::string EncodeGrpcMessage(absl::string_view message) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  const auto append = [&](absl::string_view bytes) {
    for (const char c : bytes) {
      if (c >= 0x20 && c <= 0x7e && c != '%') {
        out.push_back(c);
      } else {
        const auto byte = static_cast<unsigned char>(c);
        out.push_back('%');
        out.push_back(kHex[byte >> 4]);
        out.push_back(kHex[byte & 0x0f]);
      }
    }
  };
  size_t used = 0;
  while (used < message.size()) {
    const absl::string_view rest = message.substr(used);
    const size_t length = Utf8SequenceLength(rest);
    if (used + std::max<size_t>(length, 1) > kMaxMessageText) break;
    append(length == 0 ? kReplacement : rest.substr(0, length));
    used += std::max<size_t>(length, 1);
  }
  return out;
}

std::optional<int> StatusDetailsCode(absl::string_view details) {
  int code = 0;
  while (!details.empty()) {
    uint64_t tag = 0;
    uint64_t value = 0;
    if (!ReadVarint(&details, &tag)) return std::nullopt;
    switch (tag & 7) {
      case 0:  // varint
        if (!ReadVarint(&details, &value)) return std::nullopt;
        if (tag >> 3 == 1) code = static_cast<int>(static_cast<int64_t>(value));
        break;
      case 2:  // length-delimited
        if (!ReadVarint(&details, &value) || value > details.size()) return std::nullopt;
        details.remove_prefix(value);
        break;
      case 1:  // 64 bits
      case 5:  // 32 bits
        value = (tag & 7) == 1 ? 8 : 4;
        if (value > details.size()) return std::nullopt;
        details.remove_prefix(value);
        break;
      default:
        return std::nullopt;
    }
  }
  return code;
}

absl::StatusOr<absl::Duration> ParseGrpcTimeout(absl::string_view value) {
  const auto malformed = [&] {
    return InvalidArgument("grpc-timeout \"", absl::CHexEscape(value.substr(0, 32)),
                           "\" is not 1 to 8 digits followed by one of H M S m u n");
  };
  if (value.size() < 2 || value.size() > 9) return malformed();
  int64_t amount = 0;
  for (const char c : value.substr(0, value.size() - 1)) {
    if (!absl::ascii_isdigit(c)) return malformed();
    amount = amount * 10 + (c - '0');
  }
  switch (value.back()) {
    case 'H':
      return absl::Hours(amount);
    case 'M':
      return absl::Minutes(amount);
    case 'S':
      return absl::Seconds(amount);
    case 'm':
      return absl::Milliseconds(amount);
    case 'u':
      return absl::Microseconds(amount);
    case 'n':
      return absl::Nanoseconds(amount);
    default:
      return malformed();
  }
}

absl::StatusOr<std::string> DecodeBase64(absl::string_view text, bool padding_optional) {
  std::string out;
  out.reserve(text.size() / 4 * 3 + 3);
  int digits[4] = {};
  size_t i = 0;
  while (i < text.size()) {
    size_t n_digits = 0;
    size_t group = 0;  // characters of this group, padding included
    for (; group < 4 && i + group < text.size(); ++group) {
      const char c = text[i + group];
      if (c == '=') continue;
      const int digit = Base64Digit(c);
      if (digit < 0 || n_digits != group) {
        return InvalidArgument("not base64: byte ", static_cast<int>(static_cast<unsigned char>(c)),
                               " at offset ", i + group);
      }
      digits[n_digits++] = digit;
    }
    const bool complete = group == 4 || (padding_optional && n_digits == group);
    if (!complete || n_digits < 2) {
      return InvalidArgument("not base64: the group at offset ", i, " has ", n_digits,
                             " digits and ", group - n_digits, " padding characters");
    }
    if (!AppendGroup(digits, n_digits, &out)) {
      return InvalidArgument("not base64: unused bits are set in the group at offset ", i);
    }
    i += group;
  }
  return out;
}

bool IsRpcPath(absl::string_view path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  if (parts.size() != 3 || !parts[0].empty() || path.size() > 512) return false;
  const auto is_identifier = [](absl::string_view name) {
    return !name.empty() && !absl::ascii_isdigit(name[0]) &&
           std::all_of(name.begin(), name.end(),
                       [](char c) { return absl::ascii_isalnum(c) || c == '_'; });
  };
  const std::vector<absl::string_view> service = absl::StrSplit(parts[1], '.');
  return service.size() >= 2 && std::all_of(service.begin(), service.end(), is_identifier) &&
         is_identifier(parts[2]);
}

bool IsForwardedHeader(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  if (lower == kPeerMetadataKey) return false;
  for (absl::string_view allowed : {"authorization", "traceparent", "tracestate", "x-request-id"}) {
    if (lower == allowed) return true;
  }
  return absl::StartsWith(lower, "x-featurescope-") || absl::StartsWith(lower, "x-sae-");
}

absl::StatusOr<GrpcWebMetadata> ForwardedMetadata(const GrpcWebMetadata& headers) {
  GrpcWebMetadata metadata;
  for (const auto& [name, raw] : headers) {
    if (!IsForwardedHeader(name)) continue;
    std::string key = absl::AsciiStrToLower(name);
    if (!IsLegalName(key)) {
      return InvalidArgument("header name \"", absl::CHexEscape(key), "\" is not legal metadata");
    }
    const absl::string_view value = absl::StripAsciiWhitespace(raw);
    if (!IsLegalValue(value)) {
      return InvalidArgument("header ", key, " holds bytes outside printable ASCII");
    }
    if (!IsBinary(key)) {
      metadata.emplace_back(std::move(key), std::string(value));
      continue;
    }
    for (const absl::string_view piece : absl::StrSplit(value, ',')) {
      auto bytes = DecodeBase64(absl::StripAsciiWhitespace(piece), /*padding_optional=*/true);
      if (!bytes.ok()) return Annotate(bytes.status(), absl::StrCat("header ", key));
      metadata.emplace_back(key, *std::move(bytes));
    }
  }
  return metadata;
}

}  // namespace featurescope
