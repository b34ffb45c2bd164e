// Fetches a model or an SAE from a hub into the hub's own cache layout, so that what Python tools
// have downloaded is used, and they use what we download.
//
//   PullModel({.hub = options, .source = "openai-community/gpt2"}, progress, cancel)
//     -> .../hub/models--openai-community--gpt2/snapshots/607a30d7.../
//
// Every file is checked against its hash; an interrupted download goes on where it stopped. The
// files of a snapshot are links to ../../blobs/HASH: read them with cache_dir among the roots.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/hub/hub_options.h"
#include "server/hub/sae_releases.h"

namespace featurescope {

struct PullProgress {
  uint64_t bytes_done = 0;  // those found in the cache count as done
  uint64_t bytes_total = 0;
  uint64_t bytes_cached = 0;  // of bytes_done: found in the cache
  int files_done = 0;
  int files_total = 0;
};
// Called at most ten times a second and once at the end, by one thread at a time, but not always
// the same one. bytes_done may fall when a file has to be fetched again.
using PullProgressFn = std::function<void(const PullProgress&)>;

struct PullOptions {
  HubOptions hub;
  std::string source;  // a model: ORG/NAME[@REVISION]; an SAE: see sae_releases.h
  // Shell patterns (`*` also matches `/`; `dir/` means all below it) that replace our own choice
  // of files.
  std::vector<std::string> include;
};

struct PulledFiles {
  std::string repo;
  std::string revision;  // as asked for
  std::string commit;
  std::string snapshot_dir;        // absolute
  std::vector<std::string> files;  // relative to snapshot_dir, in order
  uint64_t bytes_total = 0;
  uint64_t bytes_downloaded = 0;
  bool from_cache = false;  // offline, or the hub could not be reached: nothing was asked of it
};

struct PulledModel : PulledFiles {
  std::string directory;  // snapshot_dir: config.json, tokenizer files, *.safetensors
};

struct PulledSae : PulledFiles {
  std::string path;  // the SAE's folder or file, absolute
  SaeSource source;
};

// Both block; run them on a thread of their own. `cancel` is polled every 100 ms.
//
//   InvalidArgument     a malformed source, a pattern that matches nothing, a file name that leads
//                       out of the snapshot
//   NotFound            no such repository, revision or SAE; offline: not in the cache
//   PermissionDenied    private or gated (the message says which token was used and where to ask
//                       for access); the cache is not writable
//   FailedPrecondition  the repository has no safetensors; the hub's certificate is not valid
//   ResourceExhausted   not enough disk space (what is there is kept and resumed); rate limited
//   DataLoss            a file's hash or size was wrong twice
//   Unavailable         the hub cannot be reached and the cache does not have all files
//   Cancelled, DeadlineExceeded
absl::StatusOr<PulledModel> PullModel(const PullOptions& options, const PullProgressFn& progress,
                                      const CancelToken& cancel);
absl::StatusOr<PulledSae> PullSae(const PullOptions& options, const PullProgressFn& progress,
                                  const CancelToken& cancel);

}  // namespace featurescope
