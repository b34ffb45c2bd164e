// The hub's answers: lists of files as JSON, and the headers that say what a file is.
#include <cstdlib>

#include "server/hub/hub_replies.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;  // NOLINT
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<HubFile> files;
  (void)AppendTree(text, "fuzz", &files);
  (void)AppendSiblings(text, "fuzz", &files);
  for (const HubFile& file : files) {
    if (!CheckHubPath(file.path).ok()) std::abort();
    if (!file.etag.empty() && !IsContentHash(file.etag)) std::abort();
  }
  (void)ParseCommit(text, "fuzz");
  (void)NextPage(text);
  (void)HubRepo::Parse(text);
  HttpAnswer response;
  response.status = 206;
  response.body = std::string(text);
  for (const char* name : {"content-range", "x-linked-etag", "etag", "x-linked-size", "ratelimit",
                           "retry-after", "content-length"}) {
    response.headers.Add(name, std::string(text));
  }
  HubFile file = {"weights", 1000, std::string(64, 'a')};
  (void)CheckRange(response, 10, file);
  (void)CheckFileHeaders(response, std::string(40, 'c'), file);
  (void)ReadFileHeaders(response, std::string(40, 'c'), &file);
  (void)RetryAfter(response.headers, absl::UnixEpoch());
  (void)ErrorText(response);
  return 0;
}
