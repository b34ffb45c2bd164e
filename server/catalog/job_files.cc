// Files of jobs in the data directory.
#include "server/base/status.h"
#include "server/catalog/catalog.h"

namespace featurescope {

std::string Catalog::JobDir(absl::string_view job_id) const { return EntryDir("jobs", job_id); }

absl::StatusOr<std::string> Catalog::ActivationCacheDir(absl::string_view id) const {
  RETURN_IF_ERROR(CheckId(id, "activation cache id"));
  return EntryDir("activations", id);
}

}  // namespace featurescope
