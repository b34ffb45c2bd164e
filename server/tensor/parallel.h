// Parallel loops on LibTorch's own threads.
//
// at::parallel_for runs serially in a file that is not compiled with OpenMP, and clang's -fopenmp
// would bring a second OpenMP run-time with threads of its own. This goes to the run-time that
// LibTorch and OpenBLAS use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace featurescope {

// The threads that a parallel loop may use; 1 within a parallel loop.
int ParallelThreads();

// Calls run(context, i) for i in [0, n) on n threads at once and waits for all of them.
void RunOnThreads(int n, void (*run)(void* context, int i), void* context);

// Calls f(from, to) on parts that together are [begin, end), in parallel where there is more than
// `grain` to do. f must give the same results however the range is cut, and must not throw.
template <typename F>
void ParallelFor(int64_t begin, int64_t end, int64_t grain, const F& f) {
  if (begin >= end) return;
  const int64_t n = end - begin;
  const int64_t most = (n + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int threads = static_cast<int>(std::min<int64_t>(ParallelThreads(), most));
  if (threads <= 1) {
    f(begin, end);
    return;
  }
  struct Context {
    const F* f;
    int64_t begin, end, part;
  };
  Context context = {&f, begin, end, (n + threads - 1) / threads};
  RunOnThreads(
      threads,
      [](void* opaque, int i) {
        const Context& c = *static_cast<Context*>(opaque);
        const int64_t from = c.begin + i * c.part;
        const int64_t to = std::min(from + c.part, c.end);
        if (from < to) (*c.f)(from, to);
      },
      &context);
}

}  // namespace featurescope
