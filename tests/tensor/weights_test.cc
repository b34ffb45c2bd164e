#include "server/tensor/weights.h"

#include <filesystem>
#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace featurescope {
namespace {

class WeightsTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/weights_test.safetensors";
    torch::manual_seed(5);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  SafetensorsFile Save(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
    const absl::Status status = SaveTensors(path_, tensors);
    EXPECT_TRUE(status.ok()) << status;
    auto file = SafetensorsFile::Open(path_);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  absl::StatusOr<torch::Tensor> Load(const SafetensorsFile& file, const std::string& name,
                                     torch::ScalarType dtype) {
    return LoadTensor(file, *file.Find(name), dtype, torch::kCPU);
  }

  std::string path_;
};

TEST_F(WeightsTest, EveryDtypeRoundTrips) {
  const torch::ScalarType dtypes[] = {
      torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
      torch::kInt32,   torch::kInt16,   torch::kInt8,    torch::kUInt8,    torch::kBool};
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (torch::ScalarType dtype : dtypes) {
    tensors.push_back({c10::toString(dtype), torch::randint(0, 2, {3, 5, 2}).to(dtype)});
  }
  const SafetensorsFile file = Save(tensors);
  for (const auto& [name, tensor] : tensors) {
    const auto loaded = Load(file, name, tensor.scalar_type());
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(torch::equal(*loaded, tensor)) << name;
  }
}

TEST_F(WeightsTest, ShapesOfAllKindsRoundTrip) {
  const torch::Tensor strided = torch::randn({4, 6}).t();
  const SafetensorsFile file =
      Save({{"scalar", torch::tensor(2.5)}, {"empty", torch::empty({0, 7})}, {"strided", strided}});
  EXPECT_EQ(Load(file, "scalar", torch::kFloat32)->item<float>(), 2.5f);
  EXPECT_EQ(Load(file, "scalar", torch::kFloat32)->dim(), 0);
  EXPECT_EQ(Load(file, "empty", torch::kFloat32)->sizes(), (torch::IntArrayRef{0, 7}));
  EXPECT_TRUE(torch::equal(*Load(file, "strided", torch::kFloat32), strided));
}

TEST_F(WeightsTest, ConvertsPieceByPiece) {
  // More than one piece, and a last one that is not full.
  const torch::Tensor tensor = torch::randn({(1 << 21) + 77}).to(torch::kBFloat16);
  const SafetensorsFile file = Save({{"x", tensor}});
  EXPECT_TRUE(torch::equal(*Load(file, "x", torch::kFloat32), tensor.to(torch::kFloat32)));
}

TEST_F(WeightsTest, AllFloatingDtypesConvertIntoEachOther) {
  const torch::ScalarType dtypes[] = {torch::kFloat64, torch::kFloat32, torch::kFloat16,
                                      torch::kBFloat16};
  const torch::Tensor x = torch::randn({3, 77});
  for (torch::ScalarType stored : dtypes) {
    const SafetensorsFile file = Save({{"x", x.to(stored)}});
    for (torch::ScalarType wanted : dtypes) {
      const auto loaded = Load(file, "x", wanted);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_TRUE(torch::equal(*loaded, x.to(stored).to(wanted)));
    }
  }
}

TEST_F(WeightsTest, PartsGoStraightIntoPartsOfOtherTensors) {
  const torch::Tensor x = torch::randn({6, 1 << 19}).to(torch::kBFloat16);  // parts of two pieces
  const SafetensorsFile file = Save({{"x", x}});
  const torch::Tensor all = torch::zeros({8, 1 << 19});
  const TensorEntry& entry = *file.Find("x");
  ASSERT_TRUE(LoadTensorInto(file, entry, 0, all.narrow(0, 5, 3)).ok());
  ASSERT_TRUE(LoadTensorInto(file, entry, 3 << 19, all.narrow(0, 1, 3)).ok());
  EXPECT_TRUE(torch::equal(all.narrow(0, 5, 3), x.narrow(0, 0, 3).to(torch::kFloat32)));
  EXPECT_TRUE(torch::equal(all.narrow(0, 1, 3), x.narrow(0, 3, 3).to(torch::kFloat32)));
  EXPECT_EQ(all[0].abs().max().item<float>(), 0);
  EXPECT_EQ(all[4].abs().max().item<float>(), 0);
  EXPECT_EQ(LoadTensorInto(file, entry, 4 << 19, all.narrow(0, 0, 3)).code(),
            absl::StatusCode::kOutOfRange);
}

TEST_F(WeightsTest, NonFiniteValuesOfAPartAreNamedByTheirPlaceInTheWhole) {
  for (torch::ScalarType dtype :
       {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16}) {
    torch::Tensor x = torch::zeros({4, 5000}).to(dtype);
    x[2][4321] = -std::numeric_limits<float>::infinity();
    const SafetensorsFile file = Save({{"x", x}});
    const torch::Tensor part = torch::empty({2, 5000}, dtype);
    EXPECT_TRUE(LoadTensorInto(file, *file.Find("x"), 0, part).ok());
    const absl::Status status = LoadTensorInto(file, *file.Find("x"), 10000, part);
    EXPECT_EQ(status.message(), path_ + ": tensor x: element 14321 is not finite (-inf)");
  }
}

TEST_F(WeightsTest, NonFiniteValuesAreNamedWithTheirPlace) {
  torch::Tensor tensor = torch::zeros({2, 1 << 20});
  tensor[1][3] = std::numeric_limits<float>::infinity();
  const SafetensorsFile file = Save({{"good", torch::zeros({2})}, {"bad", tensor}});
  const absl::Status status = Load(file, "bad", torch::kFloat32).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), path_ + ": tensor bad: element 1048579 is not finite (inf)");
  EXPECT_TRUE(Load(file, "good", torch::kFloat32).ok());
}

TEST_F(WeightsTest, ValuesTooLargeForTheComputeDtypeAreRefused) {
  const SafetensorsFile file = Save({{"x", torch::tensor({1.0f, 1e6f})}});
  EXPECT_TRUE(Load(file, "x", torch::kBFloat16).ok());
  EXPECT_EQ(Load(file, "x", torch::kFloat16).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(WeightsTest, ByNameChecksTheShape) {
  const SafetensorsFile file = Save({{"x", torch::zeros({3, 4})}});
  const auto load = [&](const char* name, const std::vector<int64_t>& shape) {
    return LoadTensor(file, name, shape, torch::kFloat32, torch::kCPU).status();
  };
  EXPECT_TRUE(load("x", {3, 4}).ok());
  EXPECT_TRUE(load("x", {-1, 4}).ok());
  EXPECT_EQ(load("y", {3, 4}).code(), absl::StatusCode::kNotFound);
  const absl::Status status = load("x", {4, 3});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("[3, 4]"), std::string::npos) << status;
  EXPECT_NE(status.message().find("[4, 3]"), std::string::npos) << status;
  EXPECT_EQ(load("x", {3}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(WeightsTest, UnwritableDtypesAndPathsAreErrors) {
  EXPECT_EQ(SaveTensors(path_, {{"z", torch::zeros({2}, torch::kComplexFloat)}}).code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(SaveTensors(path_ + "/none/x.safetensors", {{"z", torch::zeros({2})}}).ok());
}

}  // namespace
}  // namespace featurescope
