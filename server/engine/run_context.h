// What a long run (training, indexing) gets from whoever runs it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "server/base/cancel.h"
#include "server/engine/device_worker.h"

namespace featurescope {

struct RunProgress {
  double fraction = 0;           // 0 to 1
  std::string phase;             // e.g. "training", "writing examples"
  uint64_t tokens_done = 0;      // since the run began, work before a restart included
  double tokens_per_second = 0;  // lately
};

struct RunMetrics {
  uint64_t step = 0;
  uint64_t tokens = 0;
  std::map<std::string, double> values;  // by name, e.g. loss, fvu, l0
};

struct RunContext {
  DeviceWorker* device = nullptr;  // all computing happens there, in quanta
  CancelToken cancel;
  // A directory of the run's own, which survives a crash: checkpoints go there, and a run that
  // finds one continues from it.
  std::string work_dir;
  // Called a few times a second at most, from the run's thread. May be null.
  std::function<void(const RunProgress&)> on_progress;
  // May be null.
  std::function<void(const RunMetrics&)> on_metrics;
  // Computing never takes the device for much longer than this at a time.
  absl::Duration quantum = absl::Milliseconds(200);
};

}  // namespace featurescope
