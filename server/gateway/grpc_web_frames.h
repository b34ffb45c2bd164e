// The gRPC-Web wire format: envelopes, the trailer frame, text mode, grpc-timeout and metadata.
//
// Pure functions on bytes; everything that comes from the network is bounded and checked here.
// Source: grpc/grpc doc/PROTOCOL-WEB.md and doc/PROTOCOL-HTTP2.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace featurescope {

// Header or trailer fields in order; names in lower case, values of `-bin` names are raw bytes.
using GrpcWebMetadata = std::vector<std::pair<std::string, std::string>>;

// Flags of an envelope.
inline constexpr uint8_t kGrpcWebMessage = 0x00;
inline constexpr uint8_t kGrpcWebCompressed = 0x01;
inline constexpr uint8_t kGrpcWebTrailer = 0x80;
inline constexpr size_t kGrpcWebEnvelopeBytes = 5;

// The private metadata key under which the gateway tells the service who called.
inline constexpr absl::string_view kPeerMetadataKey = "x-featurescope-peer";

struct GrpcWebContentType {
  bool text = false;     // the body is base64
  std::string response;  // the content type to answer with: the request's, without parameters
};

// The format named by a Content-Type header, or nothing when it is not gRPC-Web with protobuf.
std::optional<GrpcWebContentType> ParseGrpcWebContentType(absl::string_view value);

// --- Envelopes: flags (1 byte) | length (4 bytes, big endian) | payload. ---

std::array<char, kGrpcWebEnvelopeBytes> EnvelopeHeader(uint8_t flags, uint32_t length);

struct GrpcWebFrame {
  uint8_t flags = 0;
  absl::string_view payload;  // points into the input
};

// Takes one envelope off the front of `*input`.
//
//   errors  InvalidArgument    `*input` ends inside the envelope
//           ResourceExhausted  the payload is longer than `max_payload` bytes
absl::StatusOr<GrpcWebFrame> ReadFrame(absl::string_view* input, size_t max_payload);

// The only message of a request body; the result points into `body`.
//
//   errors  Unimplemented      no message, more than one message, or a compressed one
//           InvalidArgument    `body` ends inside an envelope, or unknown flags
//           ResourceExhausted  the message is longer than `max_message` bytes
absl::StatusOr<absl::string_view> SingleMessage(absl::string_view body, size_t max_message);

// --- The end of a call. ---

struct GrpcWebStatus {
  int code = 0;         // grpc-status
  std::string message;  // UTF-8; repaired and cut to 1 KiB when written
  std::string details;  // a serialised google.rpc.Status, or empty
};

// The status of a call that ends before it reaches the service.
GrpcWebStatus ToGrpcWebStatus(const absl::Status& status);

// The last frame of every response. Details whose own code differs from `status.code` are left out,
// because clients believe them first; so are trailers that the protocol reserves or HTTP forbids.
std::string TrailerFrame(const GrpcWebStatus& status, const GrpcWebMetadata& trailers);

// Initial metadata as response headers: reserved and illegal ones left out, `-bin` in base64.
GrpcWebMetadata ResponseHeaders(const GrpcWebMetadata& initial);

// `grpc-message`: bytes outside 0x20..0x7e and `%` as %XX, after replacing what is not UTF-8 by
// U+FFFD and cutting at 1 KiB of input.
std::string EncodeGrpcMessage(absl::string_view message);

// The code inside a serialised google.rpc.Status; nothing when the bytes are not such a message.
std::optional<int> StatusDetailsCode(absl::string_view details);

// --- Requests. ---

// `grpc-timeout`: 1 to 8 digits and one of H M S m u n.
absl::StatusOr<absl::Duration> ParseGrpcTimeout(absl::string_view value);

// Decodes base64 that may consist of several padded pieces, as text mode sends it. The last piece
// may lack its padding where `padding_optional`. Refuses any other character.
absl::StatusOr<std::string> DecodeBase64(absl::string_view text, bool padding_optional = false);

// Whether the path has the form /package.Service/Method.
bool IsRpcPath(absl::string_view path);

// Whether a request header (any case) is passed on to the service as metadata. The private peer key
// never is.
bool IsForwardedHeader(absl::string_view name);

// The metadata of a request: its forwarded headers with checked names and values, `-bin` decoded.
//
//   errors  InvalidArgument  a forwarded header has a value that metadata cannot hold
absl::StatusOr<GrpcWebMetadata> ForwardedMetadata(const GrpcWebMetadata& headers);

}  // namespace featurescope
