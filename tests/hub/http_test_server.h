// A small HTTP server for tests, on a port of its own on the loopback: it answers as a function
// says, breaks off where told, and remembers what it was asked.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "server/base/mutex.h"

namespace featurescope {

struct TestRequest {
  std::string method;
  std::string target;                          // path and query, or an absolute address
  std::map<std::string, std::string> headers;  // names in lower case
  std::string Header(const std::string& name) const;
};

struct TestReply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  int64_t break_after = -1;  // bytes of the body, then the connection is closed; -1: never
  bool stall = false;        // after break_after (or the body) nothing comes and nothing is closed
  bool no_length = false;    // the body ends with the connection
};

class HttpTestServer {
 public:
  using Handler = std::function<TestReply(const TestRequest&)>;

  explicit HttpTestServer(Handler handler);
  ~HttpTestServer();
  HttpTestServer(const HttpTestServer&) = delete;
  HttpTestServer& operator=(const HttpTestServer&) = delete;

  int port() const { return port_; }
  // http://127.0.0.1:PORT
  std::string origin() const;
  std::vector<TestRequest> requests() const;
  void ForgetRequests();

 private:
  struct Connection {
    int fd;
    std::thread thread;
  };
  void Accept();
  void Serve(int fd);
  bool Answer(int fd, const TestRequest& request);

  const Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::thread acceptor_;
  mutable Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::vector<TestRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace featurescope
