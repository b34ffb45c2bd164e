#include "server/jobs/tensorboard_log.h"

#include <utility>

#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/jobs/spec_json.h"

namespace featurescope {
namespace {

bool IsTraining(const JobRow& job) { return job.kind == kTrainingKind || job.kind == kSweepKind; }

std::string SaeOf(const JobRow& job) {
  absl::string_view id = job.target;
  return job.kind == kTrainingKind && absl::ConsumePrefix(&id, "sae:") ? std::string(id) : "";
}

}  // namespace

TensorBoardLog::TensorBoardLog(const Catalog& catalog, const JobRow& job)
    : root_(IsTraining(job) ? JoinPath(catalog.data_dir(), "tensorboard") : ""),
      job_id_(job.id),
      sae_id_(SaeOf(job)) {}

void TensorBoardLog::Write(absl::Span<const MetricRow> points) {
  if (root_.empty() || failed_ || points.empty()) return;
  const absl::Time now = absl::Now();
  absl::Status status;
  if (last_step_ && points.front().step <= *last_step_) {
    for (auto& [sae, writer] : writers_) {
      if (status.ok()) status = writer.Restart(points.front().step, now);
    }
  }
  for (const MetricRow& point : points) {
    if (status.ok()) status = Write(point, now);
  }
  last_step_ = points.back().step;
  if (status.ok()) return;
  failed_ = true;
  LogWarning("job ", job_id_, ": no more events for TensorBoard: ", status.message());
}

std::map<std::string, std::map<std::string, double>> TensorBoardLog::BySae(
    const MetricRow& point) const {
  std::map<std::string, std::map<std::string, double>> by_sae;
  std::map<std::string, double> of_all;
  for (const auto& [name, value] : point.values) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos) {
      by_sae[name.substr(0, slash)][name.substr(slash + 1)] = value;
    } else if (!sae_id_.empty()) {
      by_sae[sae_id_][name] = value;
    } else {
      of_all[name] = value;
    }
  }
  for (auto& [sae, values] : by_sae) values.insert(of_all.begin(), of_all.end());
  return by_sae;
}

absl::Status TensorBoardLog::Write(const MetricRow& point, absl::Time now) {
  for (const auto& [sae, values] : BySae(point)) {
    auto writer = writers_.find(sae);
    if (writer == writers_.end()) {
      RETURN_IF_ERROR(CheckId(sae, "SAE id"));
      ASSIGN_OR_RETURN(TensorBoardWriter made,
                       TensorBoardWriter::Create(JoinPath(root_, absl::StrCat(sae, "-", job_id_)),
                                                 point.step, now));
      writer = writers_.emplace(sae, std::move(made)).first;
    }
    RETURN_IF_ERROR(writer->second.AddScalars(point.step, now, values));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
