// Brings chosen files of a repository into the cache, several at once.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/hub/hub_cache.h"
#include "server/hub/hub_files.h"
#include "server/hub/hub_options.h"
#include "server/hub/pull.h"

namespace featurescope {

// Afterwards the snapshot of listing.commit has all of `files`. Gives the bytes downloaded. The
// first error stops the other downloads; all that has arrived is kept. Errors: see pull.h.
absl::StatusOr<uint64_t> DownloadFiles(const HubOptions& options, const HubCache& cache,
                                       const HubListing& listing, std::vector<HubFile> files,
                                       const PullProgressFn& progress, const CancelToken& cancel);

}  // namespace featurescope
