#include "server/tensor/blas.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

constexpr char kCoreType[] = "OPENBLAS_CORETYPE";

// The path, links resolved, of the library that answers BLAS calls; empty when it is built in.
std::string LibraryPath() {
  void* sgemm = dlsym(RTLD_DEFAULT, "sgemm_");
  Dl_info info{};
  if (sgemm == nullptr || dladdr(sgemm, &info) == 0 || info.dli_fname == nullptr) return "";
  char* resolved = realpath(info.dli_fname, nullptr);
  std::string path = resolved != nullptr ? resolved : info.dli_fname;
  free(resolved);
  return path;
}

// A function of the library that answers BLAS calls or of those it needs itself; nullptr when there
// is none. Not of the whole program: another library may have brought in an OpenBLAS that LibTorch
// does not use.
template <typename Function>
Function* FindFunction(const std::string& path, const char* name) {
  void* library = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return nullptr;
  void* function = dlsym(library, name);
  dlclose(library);  // it stays loaded
  return reinterpret_cast<Function*>(function);
}

// What OpenBLAS calls kernels that this processor can run.
const char* FittingKernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
    return "SkylakeX";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return nullptr;
}

}  // namespace

bool CorrectBlasKernels() {
  const std::string path = LibraryPath();
  const auto get_corename = FindFunction<char*()>(path, "openblas_get_corename");
  const auto quit = FindFunction<void()>(path, "gotoblas_dynamic_quit");
  const auto init = FindFunction<void()>(path, "gotoblas_dynamic_init");
  const char* fitting = FittingKernels();
  if (get_corename == nullptr || quit == nullptr || init == nullptr || fitting == nullptr ||
      getenv(kCoreType) != nullptr || absl::string_view(get_corename()) != "Prescott") {
    return false;
  }
  setenv(kCoreType, fitting, 0);
  quit();
  init();
  unsetenv(kCoreType);  // no business of the programs that this one starts
  return true;
}

BlasLibrary DescribeBlas() {
  BlasLibrary blas;
  const std::string path = LibraryPath();
  if (at::hasMKL()) {
    blas.name = "MKL";
  } else if (const auto get_config = FindFunction<char*()>(path, "openblas_get_config")) {
    const std::vector<std::string> words = absl::StrSplit(get_config(), ' ', absl::SkipEmpty());
    blas.name = words.size() >= 2 ? absl::StrCat(words[0], " ", words[1]) : "OpenBLAS";
    if (const auto corename = FindFunction<char*()>(path, "openblas_get_corename")) {
      blas.kernels = corename();
    }
  } else if (path.empty()) {
    blas.name = "built into LibTorch";
  } else {
    blas.name = absl::StrContains(path, "/blas/libblas.so") ? "reference BLAS" : path;
  }
  return blas;
}

}  // namespace featurescope
