#include "tests/hub/http_test_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace featurescope {
namespace {

bool SendAll(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}

// Until the other side closes, or the server stops.
void WaitForEnd(int fd) {
  char byte;
  while (recv(fd, &byte, 1, 0) > 0) {
  }
}

// A header from `buffer` and the socket; what follows it stays in `buffer`.
bool ReadRequest(int fd, std::string* buffer, TestRequest* request) {
  size_t end;
  while ((end = buffer->find("\r\n\r\n")) == std::string::npos) {
    char piece[4096];
    const ssize_t n = recv(fd, piece, sizeof(piece), 0);
    if (n <= 0) return false;
    buffer->append(piece, static_cast<size_t>(n));
  }
  std::istringstream lines(buffer->substr(0, end + 2));
  buffer->erase(0, end + 4);
  std::string line;
  std::getline(lines, line);
  std::istringstream first(line);
  first >> request->method >> request->target;
  while (std::getline(lines, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    request->headers[absl::AsciiStrToLower(line.substr(0, colon))] =
        std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return true;
}

}  // namespace

std::string TestRequest::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

HttpTestServer::HttpTestServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

HttpTestServer::~HttpTestServer() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    for (Connection& connection : connections_) shutdown(connection.fd, SHUT_RDWR);
  }
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  close(listener_);
  std::list<Connection> connections;
  {
    MutexLock lock(&mutex_);
    connections.swap(connections_);
  }
  for (Connection& connection : connections) {
    connection.thread.join();
    close(connection.fd);
  }
}

std::string HttpTestServer::origin() const { return absl::StrCat("http://127.0.0.1:", port_); }

std::vector<TestRequest> HttpTestServer::requests() const {
  MutexLock lock(&mutex_);
  return requests_;
}

void HttpTestServer::ForgetRequests() {
  MutexLock lock(&mutex_);
  requests_.clear();
}

void HttpTestServer::Accept() {
  while (true) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    MutexLock lock(&mutex_);
    if (stopping_) {
      close(fd);
      return;
    }
    connections_.push_back({fd, std::thread([this, fd] { Serve(fd); })});
  }
}

void HttpTestServer::Serve(int fd) {
  std::string buffer;
  while (true) {
    TestRequest request;
    if (!ReadRequest(fd, &buffer, &request)) break;
    {
      MutexLock lock(&mutex_);
      requests_.push_back(request);
    }
    if (!Answer(fd, request)) break;
  }
  shutdown(fd, SHUT_RDWR);
}

// Whether the connection stays open.
bool HttpTestServer::Answer(int fd, const TestRequest& request) {
  const TestReply reply = handler_(request);
  std::string head = absl::StrCat("HTTP/1.1 ", reply.status, " Reply\r\n");
  bool has_length = reply.no_length;
  for (const auto& [name, value] : reply.headers) {
    absl::StrAppend(&head, name, ": ", value, "\r\n");
    has_length = has_length || absl::AsciiStrToLower(name) == "content-length";
  }
  if (!has_length) absl::StrAppend(&head, "Content-Length: ", reply.body.size(), "\r\n");
  head += "\r\n";
  if (!SendAll(fd, head)) return false;
  if (request.method == "HEAD") return true;
  const bool broken = reply.break_after >= 0;
  if (!SendAll(
          fd, broken ? reply.body.substr(0, static_cast<size_t>(reply.break_after)) : reply.body)) {
    return false;
  }
  if (reply.stall) WaitForEnd(fd);
  return !broken && !reply.stall && !reply.no_length;
}

}  // namespace featurescope
