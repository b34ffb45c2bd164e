#include "server/model/elementwise.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "server/model/elementwise_kernel.h"

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

// Every bfloat16 there is, and float32 on and between them.
TEST(ElementwiseTest, Bfloat16ConversionsAgreeWithLibTorchBitForBit) {
  const torch::Tensor bits = torch::arange(0, 65536, torch::kInt32);
  const torch::Tensor wide = torch::empty({65536});
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  WidenBfloat16(all.data(), 65536, wide.data_ptr<float>());
  EXPECT_TRUE(torch::equal(wide.view(torch::kInt32), bits.bitwise_left_shift(16)));

  torch::manual_seed(3);
  torch::Tensor values = torch::cat({wide, torch::randn({4099}) * 1e3, torch::randn({50}) * 1e38});
  values = torch::cat({values, (values.view(torch::kInt32) + 0x8000).view(torch::kFloat32),
                       (values.view(torch::kInt32) + 0x7fff).view(torch::kFloat32)});
  std::vector<uint16_t> narrow(static_cast<size_t>(values.numel()));
  NarrowToBfloat16(values.data_ptr<float>(), values.numel(), narrow.data());
  const torch::Tensor want = values.to(torch::kBFloat16);
  const torch::Tensor got =
      torch::from_blob(narrow.data(), {values.numel()}, torch::kBFloat16).clone();
  EXPECT_TRUE(torch::equal(got.isnan(), want.isnan()));
  EXPECT_TRUE(torch::equal(got.nan_to_num(0, 1, 2), want.nan_to_num(0, 1, 2)));
}

// All compute in float32 and round the result once: half a unit of 8 bits.
void ExpectRoundedOnce(const torch::Tensor& got, const torch::Tensor& want) {
  ASSERT_EQ(got.scalar_type(), torch::kBFloat16);
  const torch::Tensor error = (got.to(torch::kFloat64) - want).abs();
  EXPECT_TRUE((error <= want.abs() * 0.00391 + 1e-5).all().item<bool>())
      << (error / want.abs()).max().item<double>();
}

TEST(ElementwiseTest, Bfloat16IsRoundedOnceAtTheEnd) {
  torch::manual_seed(5);
  const torch::Tensor x = (torch::randn({7, 52}) * 3 + 1).to(torch::kBFloat16);
  const torch::Tensor wide = x.to(torch::kFloat64);
  const torch::Tensor weight = torch::randn({52});
  const torch::Tensor bias = torch::randn({52});
  torch::Tensor out = torch::empty_like(x);
  LayerNormInto(x, weight, bias, 1e-5, out);
  ExpectRoundedOnce(out, torch::layer_norm(wide, {52}, weight.to(torch::kFloat64),
                                           bias.to(torch::kFloat64), 1e-5));
  const torch::Tensor unweighted = wide / (wide.square().mean(-1, true) + 1e-5).sqrt();
  RmsNormInto(x, weight, 1e-5, out);
  ExpectRoundedOnce(out, unweighted * weight);
  RmsNormInto(x, torch::Tensor(), 1e-5, out);
  ExpectRoundedOnce(out, unweighted);

  const torch::Tensor factor = torch::randn({7, 52}).to(torch::kBFloat16);
  torch::Tensor gated = x.clone();
  ActivateInPlace(ActivationKind::kSilu, gated, factor);
  ExpectRoundedOnce(gated, torch::silu(wide) * factor.to(torch::kFloat64));
  torch::Tensor gelu = x.clone();
  ActivateInPlace(ActivationKind::kGeluTanh, gelu);
  ExpectRoundedOnce(gelu, torch::gelu(wide, "tanh"));

  const torch::Tensor angles = torch::rand({7, 3});
  const torch::Tensor heads = x.view({7, 4, 13});
  const torch::Tensor c = angles.cos().unsqueeze(1).to(torch::kFloat64);
  const torch::Tensor s = angles.sin().unsqueeze(1).to(torch::kFloat64);
  const torch::Tensor a = heads.narrow(2, 0, 3).to(torch::kFloat64);
  const torch::Tensor b = heads.narrow(2, 3, 3).to(torch::kFloat64);
  ExpectRoundedOnce(
      Rotated(heads, angles.cos(), angles.sin(), false),
      torch::cat({a * c - b * s, b * c + a * s, heads.narrow(2, 6, 7).to(torch::kFloat64)}, 2));
}

TEST(ElementwiseTest, HeadsAreNormedOneByOneWhereTheyLie) {
  torch::manual_seed(6);
  const torch::Tensor qkv = torch::randn({5, 100}) * 2;
  const torch::Tensor before = qkv.clone();
  // Three heads of 20, as a slice of a wider matrix.
  const torch::Tensor x = qkv.narrow(1, 30, 60).unflatten(1, {3, 20});
  const torch::Tensor weight = torch::randn({20});
  const torch::Tensor wide = x.to(torch::kFloat64);
  const torch::Tensor want = wide / (wide.square().mean(-1, true) + 1e-6).sqrt() * weight;
  EXPECT_LT(MaxError(RmsNormedHeads(x, weight, 1e-6, false), want), 1e-5);
  EXPECT_TRUE(torch::equal(qkv, before));
  EXPECT_TRUE(RmsNormedHeads(x, weight, 1e-6, true).is_same(x));
  EXPECT_LT(MaxError(x, want), 1e-5);
  EXPECT_TRUE(torch::equal(qkv.narrow(1, 0, 30), before.narrow(1, 0, 30)));
  EXPECT_TRUE(torch::equal(qkv.narrow(1, 90, 10), before.narrow(1, 90, 10)));
}

TEST(ElementwiseTest, GatedActivationsMultiplyByTheFactor) {
  torch::manual_seed(7);
  const torch::Tensor x = torch::randn({3, 37}) * 4;
  const torch::Tensor factor = torch::randn({3, 37});
  for (ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kGeluExact,
                              ActivationKind::kGeluTanh, ActivationKind::kSilu}) {
    torch::Tensor plain = x.clone();
    ActivateInPlace(kind, plain);
    torch::Tensor gated = x.clone();
    ActivateInPlace(kind, gated, factor);
    EXPECT_LT(MaxError(gated, (plain * factor).to(torch::kFloat64)), 1e-6);
  }
}

TEST(ElementwiseTest, SoftCapsAreTanh) {
  for (double cap : {3.0, 30.0, 50.0}) {
    const torch::Tensor x = torch::linspace(-500, 500, 4099, torch::kFloat64);
    torch::Tensor y = x.to(torch::kFloat32);
    SoftCapInPlace(cap, y);
    EXPECT_LT(MaxError(y, (x / cap).tanh() * cap), cap * 1e-6) << cap;
    EXPECT_LE(y.abs().max().item<float>(), cap);
  }
  torch::Tensor bad = torch::full({20}, std::nanf(""));
  SoftCapInPlace(30, bad);
  EXPECT_TRUE(bad.isnan().all().item<bool>());
}

}  // namespace
}  // namespace featurescope
