// Devices, compute dtypes and what this machine computes with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tensor/torch.h"

namespace featurescope {

// "cpu", "cuda" or "cuda:N".
//
//   errors  InvalidArgument     another name
//           FailedPrecondition  no such device on this machine or in this LibTorch
absl::StatusOr<torch::Device> ParseDevice(absl::string_view name);

// Lets computing use `threads` threads; 0: as many as the processors that this process may run on,
// which LibTorch does not always find out by itself. Call before anything computes.
void SetComputeThreads(int threads);

// What arithmetic runs on, for the server's start-up line and GetServerInfo.
struct ComputeEnvironment {
  std::string libtorch_version;
  std::string blas;  // e.g. "OpenBLAS 0.3.21 (SkylakeX)"; "reference BLAS" is the slow one
  std::string cpu_capability;  // e.g. "AVX512"
  int threads = 1;
  double gflops = 0;  // a measured fp32 matrix product, 512 cubed
  std::vector<std::string> warnings;
};
ComputeEnvironment InspectComputeEnvironment();

}  // namespace featurescope
