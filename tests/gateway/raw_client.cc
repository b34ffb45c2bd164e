#include "tests/gateway/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/gateway/grpc_web_frames.h"

namespace featurescope {

RawClient::RawClient(int port, int receive_buffer) {
  fd_ = socket(AF_INET, SOCK_STREAM, 0);
  if (receive_buffer > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  timeval timeout{120, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Close();
}

RawClient::~RawClient() { Close(); }

bool RawClient::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void RawClient::FinishSending() { shutdown(fd_, SHUT_WR); }

void RawClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

bool RawClient::Fill() {
  char buffer[1 << 16];
  const ssize_t received = recv(fd_, buffer, sizeof(buffer), 0);
  if (received <= 0) return false;
  pending_.append(buffer, static_cast<size_t>(received));
  return true;
}

bool RawClient::ReadLine(std::string* line) {
  size_t end;
  while ((end = pending_.find("\r\n")) == std::string::npos) {
    if (!Fill()) return false;
  }
  *line = pending_.substr(0, end);
  pending_.erase(0, end + 2);
  return true;
}

bool RawClient::Take(size_t n, std::string* out) {
  while (pending_.size() < n) {
    if (!Fill()) return false;
  }
  out->append(pending_, 0, n);
  pending_.erase(0, n);
  return true;
}

std::string RawClient::ReadHead() {
  std::string head;
  std::string line;
  do {
    if (!ReadLine(&line)) return "";
    absl::StrAppend(&head, line, "\r\n");
  } while (!line.empty());
  return head;
}

std::string RawClient::ReadBytes(size_t n) {
  std::string bytes;
  Take(n, &bytes);
  return bytes;
}

RawResponse RawClient::ReadResponse(bool is_head) {
  RawResponse response;
  response.head = ReadHead();
  if (response.head.size() < 12) return response;
  response.status = std::atoi(response.head.c_str() + 9);
  size_t start = response.head.find("\r\n") + 2;
  while (true) {
    const size_t end = response.head.find("\r\n", start);
    const std::string line = response.head.substr(start, end - start);
    if (line.empty()) break;
    const size_t colon = line.find(": ");
    response.headers[absl::AsciiStrToLower(line.substr(0, colon))] = line.substr(colon + 2);
    start = end + 2;
  }
  if (is_head || response.status == 204 || response.status == 304) {
    response.complete = true;
    return response;
  }
  if (response.headers.count("content-length") > 0) {
    response.complete =
        Take(std::strtoul(response.headers["content-length"].c_str(), nullptr, 10), &response.body);
    return response;
  }
  if (response.headers.count("transfer-encoding") == 0) {
    while (Fill()) {
    }
    response.body = std::move(pending_);
    response.complete = true;
    return response;
  }
  std::string line;
  while (ReadLine(&line)) {
    const size_t size = std::strtoul(line.c_str(), nullptr, 16);
    if (!Take(size, &response.body) || !ReadLine(&line)) break;
    if (size == 0) {
      response.complete = true;
      break;
    }
  }
  return response;
}

bool RawClient::AwaitClose(absl::Duration timeout) {
  pollfd entry{fd_, POLLIN, 0};
  if (poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) != 1) return false;
  char byte;
  return recv(fd_, &byte, 1, 0) <= 0;
}

RawResponse Exchange(int port, absl::string_view request, bool is_head) {
  RawClient client(port);
  client.Send(request);
  return client.ReadResponse(is_head);
}

std::string PostRequest(absl::string_view path, absl::string_view body,
                        absl::string_view extra_headers, absl::string_view content_type) {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: ", content_type,
                      "\r\nX-Grpc-Web: 1\r\nContent-Length: ", body.size(), "\r\n", extra_headers,
                      "\r\n", body);
}

std::string GetRequest(absl::string_view path, absl::string_view extra_headers) {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\n", extra_headers, "\r\n");
}

std::string Envelope(absl::string_view message, unsigned char flags) {
  const auto header = EnvelopeHeader(flags, static_cast<uint32_t>(message.size()));
  return absl::StrCat(absl::string_view(header.data(), header.size()), message);
}

}  // namespace featurescope
