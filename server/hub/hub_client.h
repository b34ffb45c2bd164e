// The hub's HTTP interface: what a repository holds, and the content of its files.
//
// Requests that fail in passing are repeated; what remains is an error that says what to do about
// it. The token goes to the hub itself and to nobody it redirects to.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/hub/http.h"
#include "server/hub/hub_files.h"
#include "server/hub/hub_options.h"

namespace featurescope {

// Where a download goes. What it holds already is not asked for again.
class DownloadSink {
 public:
  virtual ~DownloadSink() = default;
  virtual uint64_t size() const = 0;  // bytes held, from the file's start
  virtual absl::Status Append(absl::string_view bytes) = 0;
  virtual absl::Status Restart() = 0;  // drops all bytes
};

// Not thread-safe: one per thread.
class HubClient {
 public:
  // Asked every 100 ms; an error stops the call with it.
  using Check = std::function<absl::Status()>;

  explicit HubClient(const HubOptions& options, Check check);

  // All files of a repository at a revision, and the commit that is.
  //
  //   NotFound, PermissionDenied   see pull.h
  //   InvalidArgument              a file's name leads out of the repository
  //   ResourceExhausted            more than 200,000 files
  absl::StatusOr<HubListing> List(const std::string& repo, const std::string& revision);

  // Size and hash of one file, from a HEAD request that follows no redirect away from the hub.
  absl::StatusOr<HubFile> Resolve(const std::string& repo, const std::string& commit,
                                  const std::string& path);

  // The content of a file, appended to `sink` from where it ends. DataLoss when the hub has
  // another size or another hash for it than `file` says; the content's own hash is the sink's.
  absl::Status Download(const std::string& repo, const std::string& commit, const HubFile& file,
                        DownloadSink* sink);

 private:
  // What an attempt came to.
  struct Outcome {
    absl::Status status;
    bool retry = false;                                 // failed in passing
    absl::Duration retry_after = absl::ZeroDuration();  // what the hub asks for; 0: nothing
  };

  // Repeats `attempt` while it fails in passing. `progress`, when given, counts bytes: attempts
  // are counted anew when it has grown.
  absl::Status Repeat(const std::function<Outcome()>& attempt,
                      const std::function<uint64_t()>& progress = nullptr);
  absl::Status Wait(absl::Duration duration);
  absl::StatusOr<HttpAnswer> Get(HttpRequest request, const std::string& repo,
                                 const std::string& what);
  Outcome Judge(const HttpAnswer& response, const std::string& repo, const std::string& what);
  absl::Status Refusal(const HttpAnswer& response, const std::string& repo,
                       const std::string& what) const;

  absl::Status ListTree(HubListing* listing);
  absl::Status ListSiblings(const std::string& revision, HubListing* listing);
  bool IsOfHub(const std::string& url) const;
  std::string ApiUrl(const std::string& repo, absl::string_view rest) const;
  std::string FileUrl(const std::string& repo, const std::string& commit,
                      const std::string& path) const;

  const HubOptions options_;
  const Check check_;
  HttpSession session_;
};

}  // namespace featurescope
