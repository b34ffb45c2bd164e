#include "server/tensor/device.h"

#include <string>

#include "gtest/gtest.h"

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

}  // namespace
}  // namespace featurescope
