#include "server/train/phased_work.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace featurescope {

bool PhasedWork::RunFor(absl::Duration budget) {
  const absl::Time start = absl::Now();
  absl::Time now = start;
  while (phase_ < phases_.size()) {
    Phase& phase = phases_[phase_];
    if (n_items_ < 0) n_items_ = phase.n_items();
    if (next_ >= n_items_) {
      ++phase_;
      n_items_ = -1;
      next_ = 0;
      continue;
    }
    if (now - start >= budget && now != start) return false;
    const int64_t end = std::min(next_ + phase.block, n_items_);
    phase.run(next_, end);
    next_ = end;
    const absl::Time after = absl::Now();
    phase.spent += after - now;
    now = after;
  }
  phase_ = 0;
  return true;
}

Phase OnePhase(std::string name, std::function<void()> run) {
  Phase phase;
  phase.name = std::move(name);
  phase.n_items = [] { return int64_t{1}; };
  phase.run = [run = std::move(run)](int64_t, int64_t) { run(); };
  return phase;
}

}  // namespace featurescope
