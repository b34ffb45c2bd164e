// How much work fits into a quantum of background work, as a function of sizes alone: two runs of
// one job then compute the same products and give the same result.
#pragma once

#include "absl/time/time.h"

namespace featurescope {

// Floating-point operations that a device of this kind is trusted to do within `quantum`: low
// guesses of what matrix products reach on two slow cores, or on one current GPU.
inline double FlopsPerQuantum(bool on_gpu, absl::Duration quantum) {
  constexpr double kCpuFlopsPerSecond = 1e11;
  constexpr double kGpuFlopsPerSecond = 2e13;
  return absl::ToDoubleSeconds(quantum) * (on_gpu ? kGpuFlopsPerSecond : kCpuFlopsPerSecond);
}

}  // namespace featurescope
