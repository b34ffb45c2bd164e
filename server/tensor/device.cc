#include "server/tensor/device.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// The reference BLAS reaches 6 on a core where OpenBLAS reaches 150.
constexpr double kSlowGflops = 15;

// The path, links resolved, of the library that answers BLAS calls; empty when it is built in.
std::string BlasLibraryPath() {
  void* sgemm = dlsym(RTLD_DEFAULT, "sgemm_");
  Dl_info info{};
  if (sgemm == nullptr || dladdr(sgemm, &info) == 0 || info.dli_fname == nullptr) return "";
  char* resolved = realpath(info.dli_fname, nullptr);
  std::string path = resolved != nullptr ? resolved : info.dli_fname;
  free(resolved);
  return path;
}

// "OpenBLAS 0.3.21": what OpenBLAS says of itself, or empty. Asked of the library that answers
// BLAS calls, since another library may have brought in an OpenBLAS that LibTorch does not use.
std::string OpenBlasName(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return "";
  using GetConfig = const char* (*)();
  auto get_config = reinterpret_cast<GetConfig>(dlsym(library, "openblas_get_config"));
  std::string name;
  if (get_config != nullptr) {
    const std::vector<std::string> words = absl::StrSplit(get_config(), ' ', absl::SkipEmpty());
    name = words.size() >= 2 ? absl::StrCat(words[0], " ", words[1]) : "OpenBLAS";
  }
  dlclose(library);
  return name;
}

std::string BlasName() {
  if (at::hasMKL()) return "MKL";
  const std::string path = BlasLibraryPath();
  if (path.empty()) return "built into LibTorch";
  if (std::string name = OpenBlasName(path); !name.empty()) return name;
  if (absl::StrContains(path, "openblas")) return "OpenBLAS";
  if (absl::StrContains(path, "/blas/libblas.so")) return "reference BLAS";
  return path;
}

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

ComputeEnvironment InspectComputeEnvironment() {
  ComputeEnvironment environment;
  environment.libtorch_version = TORCH_VERSION;
  environment.blas = BlasName();
  environment.cpu_capability = CpuCapability();
  environment.threads = at::get_num_threads();
  if (absl::StatusOr<double> gflops = TorchGate("measuring a matrix product", MeasureGflops);
      gflops.ok()) {
    environment.gflops = *gflops;
  } else {
    environment.warnings.push_back(std::string(gflops.status().message()));
  }
  if (environment.blas == "reference BLAS" || environment.gflops < kSlowGflops) {
    environment.warnings.push_back(
        absl::StrFormat("matrix products run at %.1f GFLOP/s on %s; installing OpenBLAS (Debian: "
                        "libopenblas0-openmp) makes them many times faster",
                        environment.gflops, environment.blas));
  }
  return environment;
}

}  // namespace featurescope
