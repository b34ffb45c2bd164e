// The job queue of state.db.
#include <random>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/store/state_db.h"

namespace featurescope {
namespace {

#define JOB_COLUMNS                                                                               \
  "id, kind, spec, target, state, progress, phase, error, created_ms, started_ms, finished_ms,"   \
  "attempt, crashes, cancel_requested, lease_epoch, tokens_done, tokens_per_second, eta_seconds," \
  "bytes_done, bytes_total, bytes_per_second, files_done, files_total"
#define UNFINISHED "('queued', 'running', 'paused')"

constexpr absl::string_view kStateNames[] = {"queued", "running",   "succeeded",
                                             "failed", "cancelled", "paused"};
// Crockford's, in lower case.
constexpr absl::string_view kBase32 = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr size_t kJobIdLength = 26;
// Before what a job makes, in job_use.
constexpr char kMakes[] = "makes ";
constexpr uint32_t kMaxJobPage = 1000;
// Progress that shows that a crash was not the last one over again.
constexpr double kRealProgress = 1e-3;

JobState ParseState(absl::string_view name) {
  for (size_t i = 0; i < std::size(kStateNames); ++i) {
    if (kStateNames[i] == name) return static_cast<JobState>(i);
  }
  return JobState::kFailed;  // ruled out by the schema's CHECK
}

JobRow ReadJob(const Statement& s) {
  JobRow r;
  r.id = s.Text(0);
  r.kind = s.Text(1);
  r.spec = s.Text(2);
  r.target = s.Text(3);
  r.state = ParseState(s.Blob(4));
  r.progress = s.Double(5);
  r.phase = s.Text(6);
  r.error = s.Text(7);
  r.created_ms = s.Int(8);
  r.started_ms = s.Int(9);
  r.finished_ms = s.Int(10);
  r.attempt = static_cast<uint32_t>(s.Int(11));
  r.crashes = static_cast<uint32_t>(s.Int(12));
  r.cancel_requested = s.Int(13) != 0;
  r.lease_epoch = s.Int(14);
  r.tokens_done = static_cast<uint64_t>(s.Int(15));
  r.tokens_per_second = s.Double(16);
  r.eta_seconds = s.Double(17);
  r.transfer.bytes_done = static_cast<uint64_t>(s.Int(18));
  r.transfer.bytes_total = static_cast<uint64_t>(s.Int(19));
  r.transfer.bytes_per_second = s.Double(20);
  r.transfer.files_done = static_cast<uint32_t>(s.Int(21));
  r.transfer.files_total = static_cast<uint32_t>(s.Int(22));
  return r;
}

int64_t WallMs() { return absl::ToUnixMillis(absl::Now()); }

absl::StatusOr<JobRow> GetJobFrom(Database* db, absl::string_view id) {
  ASSIGN_OR_RETURN(Statement select, db->Prepare("SELECT " JOB_COLUMNS " FROM job WHERE id=?"));
  select.BindText(1, id);
  ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return NotFound("no job \"", id, "\"");
  return ReadJob(select);
}

absl::StatusOr<std::vector<JobRow>> ReadJobs(Statement& select) {
  std::vector<JobRow> jobs;
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more) {
    jobs.push_back(ReadJob(select));
    ASSIGN_OR_RETURN(more, select.Step());
  }
  return jobs;
}

absl::StatusOr<std::optional<JobRow>> FindSubmittedIn(Database* db,
                                                      const JobSubmission& submission) {
  if (submission.idempotency_key.empty()) return std::optional<JobRow>();
  ASSIGN_OR_RETURN(Statement select,
                   db->Prepare("SELECT " JOB_COLUMNS " FROM job WHERE idempotency_key=?"));
  select.BindText(1, submission.idempotency_key);
  ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return std::optional<JobRow>();
  JobRow job = ReadJob(select);
  if (job.kind == submission.kind && job.spec == submission.spec) {
    return std::optional<JobRow>(std::move(job));
  }
  return AlreadyExists("idempotency key \"", submission.idempotency_key, "\" was used for job ",
                       job.id, " with another specification");
}

bool IsJobId(absl::string_view id) {
  return id.size() == kJobIdLength && id.find_first_not_of(kBase32) == absl::string_view::npos;
}

}  // namespace

absl::string_view JobStateName(JobState state) { return kStateNames[static_cast<int>(state)]; }

// A ULID: 48 bits of time in ms, 80 bits of chance.
std::string StateDb::NewJobId() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  std::string id(kJobIdLength, '0');
  uint64_t ms = static_cast<uint64_t>(WallMs());
  for (int i = 9; i >= 0; --i, ms >>= 5) id[i] = kBase32[ms & 31];
  for (size_t i = 10; i < kJobIdLength; ++i) id[i] = kBase32[random() & 31];
  if (id <= last_job_id_) {
    // The same millisecond, or a clock that was set back: count on from the last one.
    id = last_job_id_;
    for (size_t i = kJobIdLength; i-- > 0;) {
      const size_t digit = kBase32.find(id[i]);
      id[i] = kBase32[(digit + 1) % 32];
      if (digit + 1 < 32) break;
    }
  }
  last_job_id_ = id;
  return id;
}

absl::Status StateDb::Recover() {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  std::vector<JobRow> jobs;
  {
    ASSIGN_OR_RETURN(Statement select,
                     writer_->Prepare("SELECT " JOB_COLUMNS " FROM job WHERE state='running'"));
    ASSIGN_OR_RETURN(jobs, ReadJobs(select));
  }
  for (const JobRow& job : jobs) {
    ASSIGN_OR_RETURN(
        Statement update,
        writer_->Prepare(
            "UPDATE job SET state='queued', lease_epoch=lease_epoch+1, "
            "lease_expires_ms=0, tokens_per_second=0, bytes_per_second=0, "
            "eta_seconds=0, crashes=CASE WHEN best_progress > crash_progress + ?2 THEN 1 "
            "ELSE crashes + 1 END, crash_progress=best_progress WHERE id=?1 "
            "RETURNING crashes"));
    update.BindText(1, job.id).Bind(2, kRealProgress);
    ASSIGN_OR_RETURN(const bool row, update.Step());
    if (!row) return Internal(path_, ": job ", job.id, " is gone");
    const int64_t crashes = update.Int(0);
    ASSIGN_OR_RETURN(const bool more, update.Step());
    if (more) return Internal(path_, ": two jobs ", job.id);
    absl::string_view state;
    std::string error;
    if (job.cancel_requested) {
      state = "cancelled";
    } else if (crashes >= static_cast<int64_t>(options_.max_crashes)) {
      state = "failed";
      error = absl::StrCat("the server stopped ", crashes, " times while running this job");
    }
    LogWarning("job ", job.id, " ran when the server stopped; it is ",
               state.empty() ? "queued again" : state);
    if (state.empty()) continue;
    ASSIGN_OR_RETURN(Statement finish,
                     writer_->Prepare("UPDATE job SET state=?, error=?, finished_ms=? WHERE id=?"));
    finish.BindText(1, state).BindText(2, error).Bind(3, WallMs()).BindText(4, job.id);
    RETURN_IF_ERROR(finish.Run());
  }
  return transaction.Commit();
}

absl::Status StateDb::CheckSubmission(const JobSubmission& submission) {
  for (const std::string& use : submission.uses) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(use, absl::MaxSplits(':', 1));
    const absl::string_view table = parts.first;
    if (table == "cache") continue;
    if (table != "model" && table != "sae" && table != "corpus") {
      return Internal("a job cannot use \"", use, "\"");
    }
    ASSIGN_OR_RETURN(Statement select,
                     writer_->Prepare(absl::StrCat("SELECT 1 FROM ", table, " WHERE id=?")));
    select.BindText(1, parts.second);
    ASSIGN_OR_RETURN(const bool found, select.Step());
    if (!found) {
      return NotFound("no ", table == "sae" ? "SAE" : table, " \"", parts.second, "\"");
    }
  }
  RETURN_IF_ERROR(CheckTarget(submission.target));
  for (const std::string& target : submission.more_targets) RETURN_IF_ERROR(CheckTarget(target));
  return absl::OkStatus();
}

absl::Status StateDb::CheckTarget(absl::string_view target) {
  if (target.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      Statement select,
      writer_->Prepare("SELECT id FROM job WHERE state IN " UNFINISHED " AND (target=?1 OR id IN "
                       "(SELECT job_id FROM job_use WHERE resource=?2))"));
  select.BindText(1, target).BindText(2, absl::StrCat(kMakes, target));
  ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return absl::OkStatus();
  return AlreadyExists("job ", select.Text(0), ", which has not finished, already makes ", target);
}

absl::StatusOr<JobRow> StateDb::SubmitJob(const JobSubmission& submission) {
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  ASSIGN_OR_RETURN(const std::optional<JobRow> submitted,
                   FindSubmittedIn(writer_.get(), submission));
  if (submitted) return *submitted;
  RETURN_IF_ERROR(CheckSubmission(submission));
  const std::string id = NewJobId();
  {
    ASSIGN_OR_RETURN(Statement insert,
                     writer_->Prepare("INSERT INTO job(id, kind, spec, target, idempotency_key, "
                                      "state, created_ms) VALUES(?, ?, ?, ?, ?, 'queued', ?)"));
    insert.BindText(1, id).BindText(2, submission.kind).BindText(3, submission.spec);
    insert.BindText(4, submission.target);
    if (submission.idempotency_key.empty()) {
      insert.BindNull(5);
    } else {
      insert.BindText(5, submission.idempotency_key);
    }
    RETURN_IF_ERROR(insert.Bind(6, WallMs()).Run());
  }
  std::vector<std::string> resources = submission.uses;
  for (const std::string& target : submission.more_targets) {
    resources.push_back(absl::StrCat(kMakes, target));
  }
  for (const std::string& use : resources) {
    ASSIGN_OR_RETURN(
        Statement insert,
        writer_->Prepare("INSERT OR IGNORE INTO job_use(job_id, resource) VALUES(?, ?)"));
    RETURN_IF_ERROR(insert.BindText(1, id).BindText(2, use).Run());
  }
  ASSIGN_OR_RETURN(JobRow job, GetJobFrom(writer_.get(), id));
  RETURN_IF_ERROR(transaction.Commit());
  return job;
}

absl::StatusOr<std::optional<JobRow>> StateDb::FindSubmitted(
    const JobSubmission& submission) const {
  MutexLock lock(&read_mutex_);
  return FindSubmittedIn(reader_.get(), submission);
}

absl::StatusOr<JobRow> StateDb::GetJob(absl::string_view id) const {
  MutexLock lock(&read_mutex_);
  return GetJobFrom(reader_.get(), id);
}

absl::StatusOr<JobPage> StateDb::ListJobs(absl::Span<const JobState> states, uint32_t page_size,
                                          absl::string_view page_token) const {
  if (page_size < 1 || page_size > kMaxJobPage) {
    return InvalidArgument("page size ", page_size, " is out of range [1, ", kMaxJobPage, "]");
  }
  if (!page_token.empty() && !IsJobId(page_token)) {
    return InvalidArgument("the page token is not one of this list");
  }
  std::string where = "id < ?1";
  if (!states.empty()) {
    absl::StrAppend(&where, " AND state IN (",
                    absl::StrJoin(states, ",",
                                  [](std::string* out, JobState state) {
                                    absl::StrAppend(out, "'", JobStateName(state), "'");
                                  }),
                    ")");
  }
  MutexLock lock(&read_mutex_);
  ASSIGN_OR_RETURN(Statement select,
                   reader_->Prepare(absl::StrCat("SELECT " JOB_COLUMNS " FROM job WHERE ", where,
                                                 " ORDER BY id DESC LIMIT ?2")));
  // "~" sorts behind every id.
  select.BindText(1, page_token.empty() ? "~" : page_token).Bind(2, int64_t{page_size} + 1);
  JobPage page;
  ASSIGN_OR_RETURN(page.jobs, ReadJobs(select));
  if (page.jobs.size() > page_size) {
    page.jobs.pop_back();
    page.next_page_token = page.jobs.back().id;
  }
  return page;
}

absl::StatusOr<std::vector<JobRow>> StateDb::UnfinishedJobs() const {
  MutexLock lock(&read_mutex_);
  ASSIGN_OR_RETURN(Statement select,
                   reader_->Prepare("SELECT " JOB_COLUMNS " FROM job WHERE state IN " UNFINISHED
                                    " ORDER BY id"));
  return ReadJobs(select);
}

absl::StatusOr<std::vector<std::string>> StateDb::UnfinishedJobsWith(
    absl::string_view resource) const {
  MutexLock lock(&read_mutex_);
  ASSIGN_OR_RETURN(
      Statement select,
      reader_->Prepare("SELECT id FROM job WHERE state IN " UNFINISHED
                       " AND (target=?1 OR EXISTS(SELECT 1 FROM job_use WHERE "
                       "job_id=job.id AND resource=?1)) ORDER BY id"));
  select.BindText(1, resource);
  std::vector<std::string> ids;
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more) {
    ids.push_back(select.Text(0));
    ASSIGN_OR_RETURN(more, select.Step());
  }
  return ids;
}

absl::StatusOr<std::optional<JobRow>> StateDb::ClaimJob(absl::Span<const std::string> kinds) {
  const int64_t now = SteadyMs();
  const std::string among =
      kinds.empty() ? "" : absl::StrCat("\n", absl::StrJoin(kinds, "\n"), "\n");
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  std::optional<JobRow> job;
  {
    ASSIGN_OR_RETURN(
        Statement claim,
        writer_->Prepare(
            "UPDATE job SET state='running', lease_epoch=lease_epoch+1, lease_expires_ms=?2, "
            "attempt=attempt+1, error='', "
            "started_ms=CASE WHEN started_ms=0 THEN ?3 ELSE started_ms END "
            "WHERE id=(SELECT id FROM job WHERE (state='queued' OR "
            "(state='running' AND lease_expires_ms<?1)) AND "
            "(?4='' OR instr(?4, char(10) || kind || char(10)) > 0) ORDER BY id LIMIT 1) "
            "RETURNING " JOB_COLUMNS));
    claim.Bind(1, now).Bind(2, now + absl::ToInt64Milliseconds(options_.lease)).Bind(3, WallMs());
    claim.BindText(4, among);
    ASSIGN_OR_RETURN(const bool found, claim.Step());
    if (!found) return std::optional<JobRow>();
    job = ReadJob(claim);
    ASSIGN_OR_RETURN(const bool more, claim.Step());
    if (more) return Internal(path_, ": claimed two jobs at once");
  }
  RETURN_IF_ERROR(transaction.Commit());
  return job;
}

absl::Status StateDb::RunFenced(Statement& update, int id_index, absl::string_view id,
                                int64_t lease_epoch) {
  update.BindText(id_index, id).Bind(id_index + 1, lease_epoch);
  RETURN_IF_ERROR(update.Run());
  if (writer_->changes() == 1) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrCat("job ", id, ": the lease (epoch ", lease_epoch, ") is lost"));
}

#define FENCE " WHERE id=? AND lease_epoch=? AND state='running'"

absl::Status StateDb::Heartbeat(absl::string_view id, int64_t lease_epoch) {
  const int64_t expires = SteadyMs() + absl::ToInt64Milliseconds(options_.lease);
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Statement update, writer_->Prepare("UPDATE job SET lease_expires_ms=?" FENCE));
  return RunFenced(update.Bind(1, expires), 2, id, lease_epoch);
}

absl::Status StateDb::UpdateProgress(absl::string_view id, int64_t lease_epoch,
                                     const JobProgress& progress) {
  const int64_t expires = SteadyMs() + absl::ToInt64Milliseconds(options_.lease);
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Statement update,
                   writer_->Prepare("UPDATE job SET progress=?1, best_progress=max(best_progress, "
                                    "?1), phase=?2, tokens_done=?3, tokens_per_second=?4, "
                                    "eta_seconds=?5, lease_expires_ms=?6, bytes_done=?7, "
                                    "bytes_total=?8, bytes_per_second=?9, files_done=?10, "
                                    "files_total=?11 WHERE id=?12 AND lease_epoch=?13 AND "
                                    "state='running'"));
  update.Bind(1, progress.progress).BindText(2, progress.phase);
  update.Bind(3, static_cast<int64_t>(progress.tokens_done));
  update.Bind(4, progress.tokens_per_second).Bind(5, progress.eta_seconds).Bind(6, expires);
  const JobTransfer& transfer = progress.transfer;
  update.Bind(7, static_cast<int64_t>(transfer.bytes_done));
  update.Bind(8, static_cast<int64_t>(transfer.bytes_total));
  update.Bind(9, transfer.bytes_per_second);
  update.Bind(10, int64_t{transfer.files_done}).Bind(11, int64_t{transfer.files_total});
  return RunFenced(update, 12, id, lease_epoch);
}

absl::Status StateDb::FinishJob(absl::string_view id, int64_t lease_epoch, JobState state,
                                absl::string_view error) {
  if (!IsFinal(state)) return Internal("job ", id, " cannot finish as ", JobStateName(state));
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(
      Statement update,
      writer_->Prepare("UPDATE job SET state=?1, error=?2, finished_ms=?3, lease_expires_ms=0, "
                       "eta_seconds=0, progress=CASE ?1 WHEN 'succeeded' THEN 1.0 ELSE progress "
                       "END WHERE id=?4 AND lease_epoch=?5 AND state='running'"));
  update.BindText(1, JobStateName(state)).BindText(2, error).Bind(3, WallMs());
  return RunFenced(update, 4, id, lease_epoch);
}

absl::Status StateDb::ReleaseJob(absl::string_view id, int64_t lease_epoch, JobState state,
                                 absl::string_view why) {
  if (state != JobState::kQueued && state != JobState::kPaused) {
    return Internal("job ", id, " cannot be released as ", JobStateName(state));
  }
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(
      Statement update,
      writer_->Prepare("UPDATE job SET state=CASE cancel_requested WHEN 1 THEN 'cancelled' ELSE "
                       "?1 END, finished_ms=CASE cancel_requested WHEN 1 THEN ?3 ELSE 0 END, "
                       "error=CASE cancel_requested WHEN 1 THEN '' ELSE ?2 END, "
                       "lease_expires_ms=0, tokens_per_second=0, bytes_per_second=0, eta_seconds=0 "
                       "WHERE id=?4 AND "
                       "lease_epoch=?5 AND state='running'"));
  update.BindText(1, JobStateName(state)).BindText(2, why).Bind(3, WallMs());
  return RunFenced(update, 4, id, lease_epoch);
}

absl::Status StateDb::ResumeJob(absl::string_view id) {
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(
      Statement update,
      writer_->Prepare("UPDATE job SET state='queued', error='' WHERE id=? AND state='paused'"));
  return update.BindText(1, id).Run();
}

absl::StatusOr<JobRow> StateDb::RequestCancel(absl::string_view id) {
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  ASSIGN_OR_RETURN(JobRow job, GetJobFrom(writer_.get(), id));
  if (IsFinal(job.state)) {
    return FailedPrecondition("job ", id, " has finished: it is ", JobStateName(job.state));
  }
  {
    ASSIGN_OR_RETURN(Statement update,
                     writer_->Prepare("UPDATE job SET cancel_requested=1, "
                                      "finished_ms=CASE state WHEN 'running' THEN 0 ELSE ? END, "
                                      "state=CASE state WHEN 'running' THEN 'running' ELSE "
                                      "'cancelled' END, error='' WHERE id=?"));
    RETURN_IF_ERROR(update.Bind(1, WallMs()).BindText(2, id).Run());
  }
  ASSIGN_OR_RETURN(job, GetJobFrom(writer_.get(), id));
  RETURN_IF_ERROR(transaction.Commit());
  return job;
}

#undef FENCE
#undef JOB_COLUMNS
#undef UNFINISHED

}  // namespace featurescope
