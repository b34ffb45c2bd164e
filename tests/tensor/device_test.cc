#include "server/tensor/device.h"

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "server/tensor/blas.h"

namespace featurescope {
namespace {

TEST(DeviceTest, ParsesTheCpu) {
  const auto device = ParseDevice("cpu");
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_TRUE(device->is_cpu());
}

TEST(DeviceTest, RefusesOtherNames) {
  for (const char* name :
       {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1234", "cuda:0 "}) {
    EXPECT_EQ(ParseDevice(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(DeviceTest, AGpuThatIsNotThereIsAPrecondition) {
  EXPECT_EQ(ParseDevice("cuda:999").status().code(), absl::StatusCode::kFailedPrecondition);
  if (torch::cuda::is_available()) {
    EXPECT_EQ(ParseDevice("cuda")->index(), 0);
  } else {
    EXPECT_EQ(ParseDevice("cuda").status().code(), absl::StatusCode::kFailedPrecondition);
  }
}

TEST(DeviceTest, SaysWhatArithmeticRunsOn) {
  const ComputeEnvironment environment = InspectComputeEnvironment();
  EXPECT_FALSE(environment.libtorch_version.empty());
  EXPECT_FALSE(environment.blas.empty());
  EXPECT_NE(environment.cpu_capability, "");
  EXPECT_GE(environment.threads, 1);
  EXPECT_GT(environment.gflops, 0.01);
  // The slow BLAS never goes unsaid.
  if (environment.blas == "reference BLAS") {
    ASSERT_EQ(environment.warnings.size(), 1u);
    EXPECT_NE(environment.warnings[0].find("OpenBLAS"), std::string::npos);
  }
  RecordProperty("blas", environment.blas);
  RecordProperty("gflops", std::to_string(environment.gflops));
}

// A processor that OpenBLAS does not know must not end with the kernels of 2004.
TEST(DeviceTest, OpenBlasRunsKernelsThatFitTheProcessor) {
  const BlasLibrary blas = DescribeBlas();
  if (blas.kernels.empty()) GTEST_SKIP() << blas.name << " does not say which kernels it uses";
  if (std::getenv("OPENBLAS_CORETYPE") != nullptr) GTEST_SKIP() << "OPENBLAS_CORETYPE is set";
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    EXPECT_NE(blas.kernels, "Prescott");
  }
#endif
  EXPECT_FALSE(CorrectBlasKernels());  // nothing left to correct
}

TEST(DeviceTest, ProductsAreRightAfterTheKernelsWereChosen) {
  torch::manual_seed(1);
  const torch::Tensor a = torch::randn({300, 200});
  const torch::Tensor b = torch::randn({200, 500});
  const torch::Tensor wide = a.to(torch::kFloat64).unsqueeze(2) * b.to(torch::kFloat64);
  EXPECT_LT((torch::mm(a, b) - wide.sum(1)).abs().max().item<double>(), 1e-4);
}

}  // namespace
}  // namespace featurescope
