#include "server/tensor/device.h"

#include <sched.h>

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/tensor/blas.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// The reference BLAS reaches 6 on a core where OpenBLAS reaches 150 with AVX-512, 13 with SSE3.
constexpr double kSlowGflops = 15;

// The value behind "CPU capability usage: " in LibTorch's description of itself.
std::string CpuCapability() {
  const std::string config = at::show_config();
  constexpr absl::string_view kKey = "CPU capability usage: ";
  const size_t at = config.find(std::string(kKey));
  if (at == std::string::npos) return "unknown";
  const size_t begin = at + kKey.size();
  return config.substr(begin, config.find('\n', begin) - begin);
}

double MeasureGflops() {
  constexpr int64_t kSize = 512;
  constexpr int kRuns = 3;
  const torch::Tensor a = torch::ones({kSize, kSize});
  torch::Tensor out = torch::empty({kSize, kSize});
  at::mm_out(out, a, a);  // starts the threads
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    const absl::Time start = absl::Now();
    at::mm_out(out, a, a);
    best = std::min(best, absl::ToDoubleSeconds(absl::Now() - start));
  }
  return 2.0 * kSize * kSize * kSize / best / 1e9;
}

}  // namespace

absl::StatusOr<torch::Device> ParseDevice(absl::string_view name) {
  if (name == "cpu") return torch::Device(torch::kCPU);
  int index = 0;
  absl::string_view digits = name;
  if (name != "cuda" &&
      (!absl::ConsumePrefix(&digits, "cuda:") || digits.empty() || digits.size() > 3 ||
       digits.find_first_not_of("0123456789") != absl::string_view::npos ||
       !absl::SimpleAtoi(digits, &index))) {
    return InvalidArgument("\"", name, "\" is not a device; use cpu, cuda or cuda:N");
  }
  return TorchGate("looking for a GPU", [&]() -> absl::StatusOr<torch::Device> {
    if (!torch::cuda::is_available()) {
      return FailedPrecondition("device ", name, ": this LibTorch (", TORCH_VERSION,
                                ") sees no CUDA device");
    }
    const int count = static_cast<int>(torch::cuda::device_count());
    if (index >= count) {
      return FailedPrecondition("device ", name, ": this machine has CUDA devices [0, ", count,
                                ")");
    }
    return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(index));
  });
}

void SetComputeThreads(int threads) {
  cpu_set_t processors;
  if (threads <= 0 && sched_getaffinity(0, sizeof(processors), &processors) == 0) {
    threads = CPU_COUNT(&processors);
  }
  at::set_num_threads(std::max(threads, 1));
}

ComputeEnvironment InspectComputeEnvironment() {
  ComputeEnvironment environment;
  environment.libtorch_version = TORCH_VERSION;
  const BlasLibrary blas = DescribeBlas();
  environment.blas =
      blas.kernels.empty() ? blas.name : absl::StrCat(blas.name, " (", blas.kernels, ")");
  environment.cpu_capability = CpuCapability();
  environment.threads = at::get_num_threads();
  if (absl::StatusOr<double> gflops = TorchGate("measuring a matrix product", MeasureGflops);
      gflops.ok()) {
    environment.gflops = *gflops;
  } else {
    environment.warnings.push_back(std::string(gflops.status().message()));
  }
  if (blas.name == "reference BLAS") {
    environment.warnings.push_back(absl::StrFormat(
        "matrix products run at %.1f GFLOP/s on the reference BLAS; installing OpenBLAS (Debian: "
        "libopenblas0-openmp) makes them many times faster",
        environment.gflops));
  } else if (environment.gflops < kSlowGflops) {
    environment.warnings.push_back(absl::StrFormat(
        "matrix products run at only %.1f GFLOP/s on %s; is another program using the processor, "
        "or (OpenBLAS) OPENBLAS_CORETYPE unset for a processor that it does not know?",
        environment.gflops, environment.blas));
  }
  return environment;
}

}  // namespace featurescope
