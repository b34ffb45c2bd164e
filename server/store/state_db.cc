#include "server/store/state_db.h"

#include <sys/stat.h>
#include <time.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/store/state_schema.h"

namespace featurescope {

absl::Status CheckId(absl::string_view id, absl::string_view what) {
  constexpr size_t kMaxLength = 64;
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  bool ok = !id.empty() && id.size() <= kMaxLength && alphanumeric(id.front());
  for (const char c : id) ok = ok && (alphanumeric(c) || c == '.' || c == '_' || c == '-');
  if (ok) return absl::OkStatus();
  return InvalidArgument(what, " \"", absl::CHexEscape(id.substr(0, kMaxLength)),
                         "\" is not of the form [a-z0-9][a-z0-9._-]{0,63}");
}

StateDb::StateDb(std::string path, StateDbOptions options)
    : path_(std::move(path)), options_(std::move(options)) {}

StateDb::~StateDb() {
  // The writer closes last: it checkpoints, and the log's absence says that the stop was clean.
  {
    MutexLock lock(&read_mutex_);
    reader_.reset();
  }
  MutexLock lock(&write_mutex_);
  writer_.reset();
}

absl::StatusOr<std::unique_ptr<StateDb>> StateDb::Open(const std::string& path,
                                                       const StateDbOptions& options) {
  struct stat wal;
  const bool unclean = ::stat((path + "-wal").c_str(), &wal) == 0;
  std::unique_ptr<StateDb> db(new StateDb(path, options));
  absl::Status status;
  {
    MutexLock lock(&db->write_mutex_);
    status = db->Prepare(unclean);
  }
  if (absl::IsDataLoss(status)) {
    return absl::DataLossError(
        absl::StrCat(status.message(), ". The server's catalog and job queue are damaged: restore ",
                     path, " from a backup, or move it (and ", path, "-wal, ", path,
                     "-shm) away and add models, SAEs and corpora again"));
  }
  RETURN_IF_ERROR(status);
  return db;
}

absl::Status StateDb::Prepare(bool unclean) {
  ASSIGN_OR_RETURN(writer_, Database::Open(path_, OpenMode::kWriter));
  if (unclean) {
    LogWarning(path_, ": the last stop was not clean; checking the file");
    RETURN_IF_ERROR(writer_->QuickCheck());
  }
  RETURN_IF_ERROR(writer_->Migrate(kStateMigrations, kStateApplicationId));
  RETURN_IF_ERROR(Recover());
  {
    MutexLock lock(&read_mutex_);
    ASSIGN_OR_RETURN(reader_, Database::Open(path_, OpenMode::kReader));
  }
  ASSIGN_OR_RETURN(Statement last, writer_->Prepare("SELECT coalesce(max(id), '') FROM job"));
  ASSIGN_OR_RETURN(const bool row, last.Step());
  if (row) last_job_id_ = last.Text(0);
  return absl::OkStatus();
}

int64_t StateDb::SteadyMs() const {
  if (options_.clock_ms) return options_.clock_ms();
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

}  // namespace featurescope
