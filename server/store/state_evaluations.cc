// Results of evaluations in state.db.
#include "absl/time/clock.h"
#include "server/base/status.h"
#include "server/store/state_db.h"

namespace featurescope {

absl::Status StateDb::AddEvaluation(const EvaluationRow& row, int64_t lease_epoch) {
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  {
    ASSIGN_OR_RETURN(Statement fence,
                     writer_->Prepare("UPDATE job SET lease_epoch=lease_epoch WHERE id=? AND "
                                      "lease_epoch=? AND state='running'"));
    RETURN_IF_ERROR(RunFenced(fence, 1, row.job_id, lease_epoch));
    ASSIGN_OR_RETURN(Statement sae, writer_->Prepare("SELECT 1 FROM sae WHERE id=?"));
    ASSIGN_OR_RETURN(const bool found, sae.BindText(1, row.sae_id).Step());
    if (!found) return NotFound("no SAE \"", row.sae_id, "\"");
    ASSIGN_OR_RETURN(Statement insert,
                     writer_->Prepare("INSERT OR IGNORE INTO evaluation(job_id, sae_id, corpus_id, "
                                      "spec, result, created_ms) VALUES(?, ?, ?, ?, ?, ?)"));
    insert.BindText(1, row.job_id).BindText(2, row.sae_id).BindText(3, row.corpus_id);
    insert.BindText(4, row.spec).BindText(5, row.result);
    insert.Bind(6, absl::ToUnixMillis(absl::Now()));
    RETURN_IF_ERROR(insert.Run());
  }
  return transaction.Commit();
}

absl::StatusOr<bool> StateDb::HasEvaluation(absl::string_view job_id) const {
  MutexLock lock(&read_mutex_);
  ASSIGN_OR_RETURN(Statement select, reader_->Prepare("SELECT 1 FROM evaluation WHERE job_id=?"));
  return select.BindText(1, job_id).Step();
}

absl::StatusOr<std::vector<EvaluationRow>> StateDb::ListEvaluations(
    absl::string_view sae_id) const {
  MutexLock lock(&read_mutex_);
  ASSIGN_OR_RETURN(Statement select,
                   reader_->Prepare("SELECT job_id, sae_id, corpus_id, spec, result, created_ms "
                                    "FROM evaluation WHERE ?1='' OR sae_id=?1 "
                                    "ORDER BY job_id DESC LIMIT ?2"));
  select.BindText(1, sae_id).Bind(2, int64_t{kMaxEvaluations});
  std::vector<EvaluationRow> rows;
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more) {
    rows.push_back({select.Text(0), select.Text(1), select.Text(2), select.Text(3), select.Text(4),
                    select.Int(5)});
    ASSIGN_OR_RETURN(more, select.Step());
  }
  return rows;
}

}  // namespace featurescope
