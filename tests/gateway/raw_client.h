// A plain TCP client for the gateway's tests: it can send anything, also what no HTTP library
// would.
#pragma once

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace featurescope {

struct RawResponse {
  int status = 0;                              // 0: the connection ended before a whole head
  std::string head;                            // as received
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // without chunk framing
  bool complete = false;                       // the body ended as its framing says
};

class RawClient {
 public:
  // Connects to 127.0.0.1:`port`; `receive_buffer` bytes of SO_RCVBUF when > 0.
  explicit RawClient(int port, int receive_buffer = 0);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  // False when the peer no longer takes bytes.
  bool Send(absl::string_view bytes);
  // Shuts down the sending side only.
  void FinishSending();
  void Close();

  RawResponse ReadResponse(bool is_head = false);
  // Reads up to and including the blank line; empty when the connection ends first.
  std::string ReadHead();
  // Reads until `n` bytes are there or the connection ends.
  std::string ReadBytes(size_t n);
  // True when the peer closes (or resets) without sending more, within `timeout`.
  bool AwaitClose(absl::Duration timeout = absl::Minutes(2));

 private:
  bool Fill();                            // one recv into pending_; false at the end
  bool ReadLine(std::string* line);       // without CRLF
  bool Take(size_t n, std::string* out);  // appends exactly n bytes

  int fd_ = -1;
  std::string pending_;
};

// One whole request on a fresh connection.
RawResponse Exchange(int port, absl::string_view request, bool is_head = false);

// A POST with this body and further header lines (each ending with CRLF).
std::string PostRequest(absl::string_view path, absl::string_view body,
                        absl::string_view extra_headers = "",
                        absl::string_view content_type = "application/grpc-web+proto");
std::string GetRequest(absl::string_view path, absl::string_view extra_headers = "");

// An envelope around `message`.
std::string Envelope(absl::string_view message, unsigned char flags = 0);

}  // namespace featurescope
