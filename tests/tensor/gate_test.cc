#include "server/tensor/gate.h"

#include <new>
#include <stdexcept>
#include <string>

#include "gtest/gtest.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

TEST(GateTest, PassesValuesStatusesAndNothing) {
  const absl::StatusOr<int> value = TorchGate("adding", [] { return 3; });
  EXPECT_EQ(value.value(), 3);
  const absl::Status nothing = TorchGate("adding", [] {});
  EXPECT_TRUE(nothing.ok());
  const absl::Status status = TorchGate("adding", [] { return NotFound("no sum"); });
  EXPECT_EQ(status, absl::NotFoundError("no sum"));
  const absl::StatusOr<std::string> either =
      TorchGate("adding", []() -> absl::StatusOr<std::string> { return InvalidArgument("odd"); });
  EXPECT_EQ(either.status(), absl::InvalidArgumentError("odd"));
}

TEST(GateTest, TorchErrorsAreInternalAndKeepOneLine) {
  const auto result = TorchGate("multiplying", [] {
    return torch::mm(torch::zeros({2, 3}), torch::zeros({2, 3}));
  });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(result.status().message().find("multiplying: "), 0u) << result.status();
  EXPECT_EQ(result.status().message().find('\n'), absl::string_view::npos);
}

TEST(GateTest, LackOfMemoryIsResourceExhausted) {
  const auto torch_allocation =
      TorchGate("allocating", [] { return torch::empty({int64_t{1} << 46}); });
  EXPECT_EQ(torch_allocation.status().code(), absl::StatusCode::kResourceExhausted)
      << torch_allocation.status();
  const absl::Status plain = TorchGate("allocating", [] { throw std::bad_alloc(); });
  EXPECT_EQ(plain.code(), absl::StatusCode::kResourceExhausted);
}

TEST(GateTest, OtherExceptionsAreInternal) {
  EXPECT_EQ(TorchGate("x", [] { throw std::runtime_error("bug"); }).message(), "x: bug");
  EXPECT_EQ(TorchGate("x", [] { throw 3; }).code(), absl::StatusCode::kInternal);
}

TEST(GateTest, NoGradientsAreRecordedInside) {
  const torch::Tensor x = torch::ones({2}, torch::requires_grad());
  const auto y = TorchGate("doubling", [&] { return x * 2; });
  EXPECT_FALSE(y->requires_grad());
  EXPECT_TRUE(torch::GradMode::is_enabled());
}

}  // namespace
}  // namespace featurescope
