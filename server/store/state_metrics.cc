// The metrics of jobs in state.db.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"
#include "server/store/state_db.h"

namespace featurescope {
namespace {

absl::StatusOr<std::string> EncodeValues(const std::map<std::string, double>& values) {
  std::string text;
  for (const auto& [name, value] : values) {
    if (name.empty() || name.find_first_of("=\n") != std::string::npos) {
      return InvalidArgument("metric name \"", name, "\" is empty or holds '=' or a line break");
    }
    if (!std::isfinite(value)) return InvalidArgument("metric ", name, " is not finite");
    absl::StrAppendFormat(&text, "%s=%.17g\n", name, value);
  }
  return text;
}

std::map<std::string, double> DecodeValues(absl::string_view text) {
  std::map<std::string, double> values;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    double value = 0;
    if (absl::SimpleAtod(parts.second, &value)) values[std::string(parts.first)] = value;
  }
  return values;
}

int64_t CountValues(absl::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

// Of the points that GetMetrics returns, about: those of many SAEs are large.
constexpr int64_t kMaxMetricBytes = 16 << 20;

}  // namespace

absl::Status StateDb::AppendMetrics(absl::string_view job_id, int64_t lease_epoch,
                                    absl::Span<const MetricRow> points) {
  if (points.empty()) return absl::OkStatus();
  MutexLock lock(&write_mutex_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(writer_.get()));
  {
    ASSIGN_OR_RETURN(Statement fence,
                     writer_->Prepare("UPDATE job SET lease_epoch=lease_epoch WHERE id=? AND "
                                      "lease_epoch=? AND state='running'"));
    RETURN_IF_ERROR(RunFenced(fence, 1, job_id, lease_epoch));
    ASSIGN_OR_RETURN(Statement supersede,
                     writer_->Prepare("DELETE FROM metric WHERE job_id=? AND step>=?"));
    supersede.BindText(1, job_id).Bind(2, static_cast<int64_t>(points.front().step));
    RETURN_IF_ERROR(supersede.Run());
  }
  for (const MetricRow& point : points) {
    ASSIGN_OR_RETURN(const std::string values, EncodeValues(point.values));
    ASSIGN_OR_RETURN(Statement insert,
                     writer_->Prepare("INSERT OR REPLACE INTO metric(job_id, step, tokens, "
                                      "metric_values) VALUES(?, ?, ?, ?)"));
    insert.BindText(1, job_id).Bind(2, static_cast<int64_t>(point.step));
    insert.Bind(3, static_cast<int64_t>(point.tokens)).BindText(4, values);
    RETURN_IF_ERROR(insert.Run());
  }
  return transaction.Commit();
}

absl::StatusOr<std::vector<MetricRow>> StateDb::GetMetrics(absl::string_view job_id,
                                                           uint32_t max_points) const {
  if (max_points < 2) return InvalidArgument("max_points ", max_points, " is less than 2");
  MutexLock lock(&read_mutex_);
  {
    ASSIGN_OR_RETURN(Statement job, reader_->Prepare("SELECT 1 FROM job WHERE id=?"));
    ASSIGN_OR_RETURN(const bool found, job.BindText(1, job_id).Step());
    if (!found) return NotFound("no job \"", job_id, "\"");
  }
  int64_t n = 0;
  int64_t largest = 1;
  {
    ASSIGN_OR_RETURN(
        Statement count,
        reader_->Prepare("SELECT count(*), max(length(metric_values)) FROM metric WHERE job_id=?"));
    ASSIGN_OR_RETURN(const bool row, count.BindText(1, job_id).Step());
    if (row) n = count.Int(0);
    if (n > 0) largest = std::max<int64_t>(count.Int(1), 1);
  }
  ASSIGN_OR_RETURN(Statement select,
                   reader_->Prepare("SELECT step, tokens, metric_values FROM metric WHERE "
                                    "job_id=? ORDER BY step"));
  const int64_t keep =
      std::min<int64_t>({n, max_points, std::max<int64_t>(kMaxMetricBytes / largest, 2)});
  std::vector<MetricRow> points;
  std::string fullest;  // of the points left out since the last one kept
  ASSIGN_OR_RETURN(bool more, select.BindText(1, job_id).Step());
  for (int64_t i = 0, kept = 0; more && kept < keep; ++i) {
    const absl::string_view text = select.Blob(2);
    // The kept-th of `keep` indices spread over [0, n - 1].
    if (i == (keep == 1 ? 0 : kept * (n - 1) / (keep - 1))) {
      points.push_back({static_cast<uint64_t>(select.Int(0)), static_cast<uint64_t>(select.Int(1)),
                        DecodeValues(text)});
      if (CountValues(fullest) > CountValues(text))
        points.back().values.merge(DecodeValues(fullest));
      fullest.clear();
      ++kept;
    } else if (CountValues(text) > CountValues(fullest)) {
      fullest = std::string(text);
    }
    ASSIGN_OR_RETURN(more, select.Step());
  }
  return points;
}

}  // namespace featurescope
