// Long computations that can stop between blocks: a list of phases, each over blocks of items.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace featurescope {

struct Phase {
  std::string name;  // for timings
  // Asked when the phase begins; 0 skips it.
  std::function<int64_t()> n_items;
  int64_t block = 1;  // items per call of `run`
  std::function<void(int64_t begin, int64_t end)> run;
  absl::Duration spent;  // so far, over all rounds
};

// Runs its phases in order, again and again. Blocks always have the same borders, however the work
// is cut into turns. Not thread-safe.
class PhasedWork {
 public:
  PhasedWork() = default;
  explicit PhasedWork(std::vector<Phase> phases) : phases_(std::move(phases)) {}

  // Continues until the end of the last phase (true; the next call begins anew) or until `budget`
  // is spent (false). At least one block is run.
  bool RunFor(absl::Duration budget);

  const std::vector<Phase>& phases() const { return phases_; }

 private:
  std::vector<Phase> phases_;
  size_t phase_ = 0;
  int64_t n_items_ = -1;  // of the current phase; -1: not asked yet
  int64_t next_ = 0;
};

// One call of `run`, for work that is short.
Phase OnePhase(std::string name, std::function<void()> run);

}  // namespace featurescope
