// The server's own figures, in Prometheus' text format. Labels are methods and codes only, so that
// the number of series is fixed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace featurescope {

// Thread-safe.
class Metrics {
 public:
  void CallStarted(const char* method);
  void CallFinished(const char* method, absl::StatusCode code, absl::Duration took);

  // A value read when the metrics are. `name` and `help` follow Prometheus' conventions.
  void AddGauge(std::string name, std::string help, std::function<double()> read);
  void AddCounter(std::string name, std::string help, std::function<double()> read);

  std::string Render() const;

 private:
  static constexpr std::array<double, 12> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                     0.1,   0.25,   0.5,   1,    5,     30};  // s
  struct Method {
    int64_t in_flight = 0;
    std::map<absl::StatusCode, uint64_t> finished;
    std::array<uint64_t, kBounds.size() + 1> buckets{};
    double seconds = 0;
  };
  struct Reading {
    std::string name;
    std::string help;
    const char* type;
    std::function<double()> read;
  };

  mutable absl::Mutex mutex_;
  std::map<std::string, Method> methods_ ABSL_GUARDED_BY(mutex_);
  std::vector<Reading> readings_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace featurescope
