// The curves of a training or a sweep as TensorBoard's event files, under the data directory:
//
//   tensorboard/<SAE id>-<job id>/events.out.tfevents.<...>
//
// Every SAE is a run of its own, so that TensorBoard lays those of a sweep, and of all jobs, over
// each other: `tensorboard --logdir <data directory>/tensorboard`. Each attempt of a job writes
// files of its own; TensorBoard forgets the steps that a later attempt repeats (see
// server/formats/tensorboard.h). Nothing here is read again: a directory may be deleted at any
// time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/catalog/catalog.h"
#include "server/formats/tensorboard.h"
#include "server/store/state_db.h"

namespace featurescope {

// Not thread-safe.
class TensorBoardLog {
 public:
  // Of jobs of other kinds, nothing is written.
  TensorBoardLog(const Catalog& catalog, const JobRow& job);

  // Points in ascending order of steps, which take the place of those of the first one's step and
  // later. An error is logged and ends the writing: the curves are in the database all the same.
  void Write(absl::Span<const MetricRow> points);

 private:
  // The point's values by SAE; values of a sweep as a whole are each SAE's.
  std::map<std::string, std::map<std::string, double>> BySae(const MetricRow& point) const;
  absl::Status Write(const MetricRow& point, absl::Time now);

  const std::string root_;  // empty: nothing is written
  const std::string job_id_;
  const std::string sae_id_;  // a training's; empty: a sweep's are in the metrics' names
  bool failed_ = false;
  std::map<std::string, TensorBoardWriter> writers_;  // by SAE
  std::optional<uint64_t> last_step_;
};

}  // namespace featurescope
