// A hub on the loopback: repositories in memory, served as huggingface.co serves them, with the
// content of large files on a second server (another origin), as its CDN is.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/mutex.h"
#include "server/hub/hub_options.h"
#include "tests/hub/http_test_server.h"

namespace featurescope {

struct FakeFile {
  std::string content;
  bool lfs = false;
};

struct FakeRepo {
  std::string commit = std::string(40, 'c');
  std::map<std::string, FakeFile> files;
  std::string token;       // needed for everything; "": public
  std::string gate_token;  // needed for the files' content; "": not gated
};

class FakeHub {
 public:
  // May answer in the place of the hub or the CDN.
  using Intercept = std::function<std::optional<TestReply>(const TestRequest&)>;

  FakeHub();

  struct State {
    std::map<std::string, FakeRepo> repos;
    size_t page_size = 1000;  // files on a page of a tree
    bool has_tree = true;     // mirrors may lack it
  };
  void Edit(const std::function<void(State&)>& edit) ABSL_LOCKS_EXCLUDED(mutex_);

  void InterceptHub(Intercept intercept) ABSL_LOCKS_EXCLUDED(mutex_);
  void InterceptCdn(Intercept intercept) ABSL_LOCKS_EXCLUDED(mutex_);

  std::string endpoint() const { return hub_->origin(); }
  HttpTestServer& hub() { return *hub_; }
  HttpTestServer& cdn() { return *cdn_; }
  // Requests to hub or CDN whose target contains `part`.
  std::vector<TestRequest> Requests(const std::string& part) const;

  // For this hub and that cache, with short waits.
  HubOptions Options(const std::string& cache_dir) const;

  static std::string Hash(const FakeFile& file);

 private:
  TestReply ServeHub(const TestRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  TestReply ServeCdn(const TestRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  TestReply ServeApi(const TestRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  TestReply ServeTree(const TestRequest& request, const FakeRepo& repo,
                      const std::string& repo_name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  TestReply ServeFile(const TestRequest& request, const FakeRepo& repo, const std::string& path);
  const FakeRepo* Find(const std::string& path, std::string* name, std::string* rest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
  Intercept hub_intercept_ ABSL_GUARDED_BY(mutex_);
  Intercept cdn_intercept_ ABSL_GUARDED_BY(mutex_);
  // Last: their threads use the above.
  std::unique_ptr<HttpTestServer> cdn_;
  std::unique_ptr<HttpTestServer> hub_;
};

// The reply to a request for `content`, with its range if it asks for one.
TestReply ServeContent(const TestRequest& request, const std::string& content);

// An intercept that answers as `reply` says the first `times` times that `part` is asked for.
FakeHub::Intercept FirstTimes(int times, const std::string& part, TestReply reply);

}  // namespace featurescope
