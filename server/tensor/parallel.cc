#include "server/tensor/parallel.h"

#include "server/tensor/torch.h"

#if AT_PARALLEL_OPENMP
// The OpenMP run-time's entry point for a parallel region, which LLVM's and Intel's have as well,
// and the thread's number in it. LibTorch brings the library.
extern "C" {
void GOMP_parallel(void (*run)(void*), void* context, unsigned threads, unsigned flags);
int omp_get_thread_num();
int omp_get_num_threads();
}
#endif

namespace featurescope {

int ParallelThreads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

void RunOnThreads(int n, void (*run)(void* context, int i), void* context) {
#if AT_PARALLEL_OPENMP
  struct Region {
    int n;
    void (*run)(void*, int);
    void* context;
  };
  Region region = {n, run, context};
  GOMP_parallel(
      [](void* opaque) {
        const Region& r = *static_cast<Region*>(opaque);
        // The run-time may give fewer threads than asked for.
        for (int i = omp_get_thread_num(); i < r.n; i += omp_get_num_threads()) {
          r.run(r.context, i);
        }
      },
      &region, static_cast<unsigned>(n), 0);
#else
  for (int i = 0; i < n; ++i) run(context, i);
#endif
}

}  // namespace featurescope
