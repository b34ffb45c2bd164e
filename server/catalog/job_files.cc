// Files of jobs in the data directory.
#include <filesystem>
#include <set>
#include <system_error>

#include "server/base/log.h"
#include "server/base/status.h"
#include "server/catalog/catalog.h"
#include "server/catalog/staging.h"
#include "server/formats/file.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;

// What a training keeps in its work directory beside its checkpoints, and a sweep in one directory
// of it for each SAE; see server/train/run_training.h.
constexpr const char* kKeptSaes[] = {"last", "best"};

bool IsSaeDir(const std::string& dir) { return FileExists(JoinPath(dir, "cfg.json")); }

// Names of the directories in `dir`, sorted.
std::set<std::string> DirsIn(const std::string& dir) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::error_code of_entry;
    if (it->is_directory(of_entry)) names.insert(it->path().filename().string());
  }
  return names;
}

// Moves the SAEs of one training.
void KeepSaes(const std::string& from, const std::string& to) {
  for (const char* name : kKeptSaes) {
    const std::string source = JoinPath(from, name);
    const std::string place = JoinPath(to, name);
    if (!IsSaeDir(source)) continue;
    absl::Status status = EnsureDir(to);
    RemoveTree(place);
    std::error_code error;
    if (status.ok()) fs::rename(source, place, error);
    if (error) status = ErrnoStatus(error.value(), place);
    if (!status.ok()) LogWarning("a checkpoint is not kept: ", status.message());
  }
}

}  // namespace

std::string Catalog::JobDir(absl::string_view job_id) const { return EntryDir("jobs", job_id); }

absl::StatusOr<std::string> Catalog::ActivationCacheDir(absl::string_view id) const {
  RETURN_IF_ERROR(CheckId(id, "activation cache id"));
  return EntryDir("activations", id);
}

std::string Catalog::KeptCheckpoints(absl::string_view job_id) const {
  std::string dir = EntryDir("checkpoints", job_id);
  std::error_code error;
  return fs::is_directory(dir, error) ? dir : "";
}

void Catalog::EndJobFiles(absl::string_view job_id) const {
  const std::string work = JoinPath(JobDir(job_id), "work");
  const std::string kept = EntryDir("checkpoints", job_id);
  KeepSaes(work, kept);
  for (const std::string& name : DirsIn(work)) {
    if (!IsSaeDir(JoinPath(work, name))) KeepSaes(JoinPath(work, name), JoinPath(kept, name));
  }
  RemoveTree(JobDir(job_id));
  RemoveOldCheckpoints();
}

void Catalog::RemoveCheckpoints(const SaeRow& sae) const {
  if (sae.training_job_id.empty()) return;
  const std::string kept = EntryDir("checkpoints", sae.training_job_id);
  const std::string of_member = JoinPath(kept, sae.id);
  const std::set<std::string> dirs = DirsIn(of_member);
  const bool sweep = dirs.contains(kKeptSaes[0]) || dirs.contains(kKeptSaes[1]);
  RemoveTree(sweep ? of_member : kept);
  if (sweep && DirsIn(kept).empty()) RemoveTree(kept);
}

void Catalog::RemoveOldCheckpoints() const {
  const auto saes = db_->ListSaes();
  if (!saes.ok()) return;
  std::set<std::string> with_sae;
  for (const SaeRow& sae : *saes) with_sae.insert(sae.training_job_id);
  // Ids of jobs sort by time.
  const std::set<std::string> jobs = DirsIn(JoinPath(data_dir_, "checkpoints"));
  size_t n_without = 0;
  for (auto job = jobs.rbegin(); job != jobs.rend(); ++job) {
    if (with_sae.contains(*job) || ++n_without <= kMaxKeptCheckpoints) continue;
    RemoveTree(EntryDir("checkpoints", *job));
  }
}

}  // namespace featurescope
