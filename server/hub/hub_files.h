// What a hub knows of a repository's files, and which names of repositories, revisions and files
// are safe to use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

struct HubFile {
  std::string path;   // in the repository, checked by CheckHubPath
  uint64_t size = 0;  // bytes of the content
  // The content's hash, which is also its name in the cache: 64 hexadecimal digits (SHA-256) for
  // large files, 40 (SHA-1 of the git blob) for those kept in git itself. "": not known yet.
  std::string etag;
};

struct HubListing {
  std::string repo;    // ORG/NAME, as asked for
  std::string commit;  // 40 hexadecimal digits
  std::vector<HubFile> files;

  const HubFile* Find(absl::string_view path) const;
};

// ORG/NAME[@REVISION], or NAME alone for the few repositories without an organisation.
struct HubRepo {
  std::string repo;
  std::string revision = "main";  // branch, tag, commit, or refs/pr/N

  // InvalidArgument: not of that form.
  static absl::StatusOr<HubRepo> Parse(absl::string_view text);
};

absl::Status CheckHubRepo(absl::string_view repo);
absl::Status CheckHubRevision(absl::string_view revision);
// A relative path that stays inside its directory: no empty, `.` or `..` part, no control
// characters or backslashes, parts of at most 255 bytes. InvalidArgument otherwise.
absl::Status CheckHubPath(absl::string_view path);

// 40 or 64 lower-case hexadecimal digits.
bool IsContentHash(absl::string_view etag);
// 40 lower-case hexadecimal digits.
bool IsCommitHash(absl::string_view text);

// The hash in an ETag header: without W/ and quotes, in lower case.
std::string NormalizeEtag(absl::string_view header);

}  // namespace featurescope
