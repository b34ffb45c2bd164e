#include "server/service/metrics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace featurescope {

void Metrics::CallStarted(const char* method) {
  absl::MutexLock lock(&mutex_);
  ++methods_[method].in_flight;
}

void Metrics::CallFinished(const char* method, absl::StatusCode code, absl::Duration took) {
  const double seconds = absl::ToDoubleSeconds(took);
  const size_t bucket = static_cast<size_t>(
      std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin());
  absl::MutexLock lock(&mutex_);
  Method& entry = methods_[method];
  --entry.in_flight;
  ++entry.finished[code];
  ++entry.buckets[bucket];
  entry.seconds += seconds;
}

void Metrics::AddGauge(std::string name, std::string help, std::function<double()> read) {
  absl::MutexLock lock(&mutex_);
  readings_.push_back({std::move(name), std::move(help), "gauge", std::move(read)});
}

void Metrics::AddCounter(std::string name, std::string help, std::function<double()> read) {
  absl::MutexLock lock(&mutex_);
  readings_.push_back({std::move(name), std::move(help), "counter", std::move(read)});
}

std::string Metrics::Render() const {
  absl::MutexLock lock(&mutex_);
  std::string out;
  absl::StrAppend(&out, "# HELP featurescope_rpc_finished_total Calls that have ended.\n",
                  "# TYPE featurescope_rpc_finished_total counter\n");
  for (const auto& [name, method] : methods_) {
    for (const auto& [code, count] : method.finished) {
      absl::StrAppend(&out, "featurescope_rpc_finished_total{method=\"", name, "\",code=\"",
                      absl::StatusCodeToString(code), "\"} ", count, "\n");
    }
  }
  absl::StrAppend(&out, "# HELP featurescope_rpc_in_flight Calls that are running or waiting.\n",
                  "# TYPE featurescope_rpc_in_flight gauge\n");
  for (const auto& [name, method] : methods_) {
    absl::StrAppend(&out, "featurescope_rpc_in_flight{method=\"", name, "\"} ", method.in_flight,
                    "\n");
  }
  absl::StrAppend(&out, "# HELP featurescope_rpc_seconds Time from arrival to answer.\n",
                  "# TYPE featurescope_rpc_seconds histogram\n");
  for (const auto& [name, method] : methods_) {
    uint64_t total = 0;
    for (size_t i = 0; i < method.buckets.size(); ++i) {
      total += method.buckets[i];
      const std::string bound = i < kBounds.size() ? absl::StrCat(kBounds[i]) : "+Inf";
      absl::StrAppend(&out, "featurescope_rpc_seconds_bucket{method=\"", name, "\",le=\"", bound,
                      "\"} ", total, "\n");
    }
    absl::StrAppend(&out, "featurescope_rpc_seconds_sum{method=\"", name, "\"} ", method.seconds,
                    "\nfeaturescope_rpc_seconds_count{method=\"", name, "\"} ", total, "\n");
  }
  for (const Reading& reading : readings_) {
    absl::StrAppend(&out, "# HELP ", reading.name, " ", reading.help, "\n# TYPE ", reading.name,
                    " ", reading.type, "\n", reading.name, " ", reading.read(), "\n");
  }
  return out;
}

}  // namespace featurescope
