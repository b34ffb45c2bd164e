#include "server/model/elementwise.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace featurescope {
namespace {

double MaxError(const torch::Tensor& got, const torch::Tensor& want) {
  return (got.to(torch::kFloat64) - want).abs().max().item<double>();
}

TEST(ElementwiseTest, ActivationsAgreeWithLibTorchInDoublePrecision) {
  // From far negative to far positive, and a length that is no multiple of the lanes.
  const torch::Tensor x = torch::linspace(-120, 120, 4099, torch::kFloat64);
  const auto activated = [&](ActivationKind kind) {
    torch::Tensor y = x.to(torch::kFloat32);
    ActivateInPlace(kind, y);
    return y;
  };
  EXPECT_LT(MaxError(activated(ActivationKind::kGeluTanh), torch::gelu(x, "tanh")), 1e-5);
  EXPECT_LT(MaxError(activated(ActivationKind::kGeluExact), torch::gelu(x, "none")), 1e-5);
  EXPECT_LT(MaxError(activated(ActivationKind::kSilu), torch::silu(x)), 1e-5);
  EXPECT_LT(MaxError(activated(ActivationKind::kRelu), torch::relu(x)), 1e-5);
}

TEST(ElementwiseTest, NotANumberStaysSo) {
  for (ActivationKind kind : {ActivationKind::kGeluTanh, ActivationKind::kSilu}) {
    torch::Tensor x = torch::zeros({20});
    x[3] = std::nanf("");
    x[18] = std::nanf("");
    x[4] = std::numeric_limits<float>::infinity();
    ActivateInPlace(kind, x);
    EXPECT_EQ(x.isnan().sum().item<int64_t>(), 2);
    EXPECT_TRUE(std::isinf(x[4].item<float>()));
  }
}

TEST(ElementwiseTest, NormsAgreeWithDoublePrecision) {
  torch::manual_seed(2);
  for (int64_t d : {1, 7, 16, 48, 257}) {
    const torch::Tensor x = torch::randn({5, d}) * 3 + 10;
    const torch::Tensor weight = torch::randn({d});
    const torch::Tensor bias = torch::randn({d});
    torch::Tensor out = torch::empty({5, d});
    const torch::Tensor wide = x.to(torch::kFloat64);
    LayerNormInto(x, weight, bias, 1e-5, out);
    const torch::Tensor centred = wide - wide.mean(-1, true);
    const torch::Tensor scale = (centred.square().mean(-1, true) + 1e-5).sqrt();
    EXPECT_LT(MaxError(out, centred / scale * weight + bias), 3e-5) << d;
    RmsNormInto(x, weight, 1e-5, out);
    const torch::Tensor unweighted = wide / (wide.square().mean(-1, true) + 1e-5).sqrt();
    EXPECT_LT(MaxError(out, unweighted * weight), 1e-5) << d;
    RmsNormInto(x, torch::Tensor(), 1e-5, out);
    EXPECT_LT(MaxError(out, unweighted), 1e-5) << d;
  }
}

TEST(ElementwiseTest, RotationLeavesTheRestOfTheHeadAndTheInputAlone) {
  torch::manual_seed(4);
  const torch::Tensor x = torch::randn({3, 2, 10});
  const torch::Tensor before = x.clone();
  const torch::Tensor angles = torch::rand({3, 4});
  const torch::Tensor out = Rotated(x, angles.cos(), angles.sin(), false);
  EXPECT_TRUE(torch::equal(x, before));
  const torch::Tensor c = angles.cos().unsqueeze(1);
  const torch::Tensor s = angles.sin().unsqueeze(1);
  const torch::Tensor a = x.narrow(2, 0, 4);
  const torch::Tensor b = x.narrow(2, 4, 4);
  EXPECT_LT(MaxError(out, torch::cat({a * c - b * s, b * c + a * s, x.narrow(2, 8, 2)}, 2)), 1e-6);
  torch::Tensor again = x.clone();
  EXPECT_TRUE(torch::equal(Rotated(again, angles.cos(), angles.sin(), true), out));
  EXPECT_TRUE(torch::equal(again, out));
}

}  // namespace
}  // namespace featurescope
