// The hub's answers, read: JSON lists of files, and the headers that say what a file is.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/hub/http.h"
#include "server/hub/hub_files.h"

namespace featurescope {

// `what` begins every error message. Names of files are checked by CheckHubPath, hashes by
// IsContentHash (a file without a usable one gets ""), and a list ends at 200,000 files.

// The commit in the answer to /api/models/REPO/revision/REVISION.
absl::StatusOr<std::string> ParseCommit(absl::string_view json, absl::string_view what);
// The files of that answer, as ?blobs=true gives them.
absl::Status AppendSiblings(absl::string_view json, absl::string_view what,
                            std::vector<HubFile>* files);
// The files of one page of /api/models/REPO/tree/REVISION.
absl::Status AppendTree(absl::string_view json, absl::string_view what,
                        std::vector<HubFile>* files);
// The address of the next page in a Link header; "": this was the last.
std::string NextPage(absl::string_view link);

// Size and hash that a HEAD answer gives (X-Linked-Size, X-Linked-Etag, else Content-Length and
// ETag). DataLoss: the answer is about another commit.
absl::Status ReadFileHeaders(const HttpAnswer& response, absl::string_view commit, HubFile* file);
// DataLoss when the hub, in the answer or the redirects before it, says another commit, size or
// hash than expected.
absl::Status CheckFileHeaders(const HttpAnswer& response, absl::string_view commit,
                              const HubFile& file);
// Of a 206: it begins at `start` and the whole has the file's size. DataLoss otherwise.
absl::Status CheckRange(const HttpAnswer& response, uint64_t start, const HubFile& file);

// What Retry-After, or the rest of the window in RateLimit, asks for; 0: nothing.
absl::Duration RetryAfter(const HttpHeaders& headers, absl::Time now);

// The hub's own words on an error, in one short printable line; may be "".
std::string ErrorText(const HttpAnswer& response);

}  // namespace featurescope
