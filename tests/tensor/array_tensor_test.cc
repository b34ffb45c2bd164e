#include "server/tensor/array_tensor.h"

#include <caffe2/serialize/inline_container.h>

#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/pickle_bytes.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string Golden(const std::string& name) { return SourcePath("tests/golden/formats/" + name); }

NpzFile OpenNpz(const std::string& path) {
  auto file = NpzFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}
TorchFile OpenTorch(const std::string& path) {
  auto file = TorchFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

torch::Tensor Load(const NpzFile& file, absl::string_view name, torch::ScalarType dtype) {
  const auto tensor = LoadTensor(file, *file.Find(name), dtype, torch::kCPU);
  EXPECT_TRUE(tensor.ok()) << tensor.status();
  return tensor.ok() ? *tensor : torch::Tensor();
}
torch::Tensor Load(const TorchFile& file, absl::string_view name,
                   torch::ScalarType dtype = torch::kFloat32) {
  const auto tensor = LoadTensor(file, *file.root().FindTensor(name), name, dtype, torch::kCPU);
  EXPECT_TRUE(tensor.ok()) << tensor.status();
  return tensor.ok() ? *tensor : torch::Tensor();
}

// Equal in shape, dtype and every element, and row-major.
testing::AssertionResult Same(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type() || !torch::equal(a, b)) {
    return testing::AssertionFailure() << a << " is not " << b;
  }
  if (!a.is_contiguous()) return testing::AssertionFailure() << "not contiguous";
  return testing::AssertionSuccess();
}

torch::Tensor Range(int64_t n) { return torch::arange(n, torch::kFloat32); }

// A .npz with the one array x.
std::string Npz(const std::string& descr, const std::string& shape, bool fortran,
                const torch::Tensor& elements) {
  const std::string header =
      absl::StrCat("{'descr': '", descr, "', 'fortran_order': ", fortran ? "True" : "False",
                   ", 'shape': ", shape, ", }");
  std::string npy = Bytes("\x93NUMPY\x01\x00");
  AppendLe(&npy, static_cast<uint16_t>(header.size()));
  const torch::Tensor whole = elements.contiguous();
  npy += header + std::string(static_cast<const char*>(whole.data_ptr()), whole.nbytes());
  return ZipBytes({{"x.npy", npy}});
}

TEST(ArrayTensorTest, ArraysOfEveryDtypeAndOrderAreLoaded) {
  for (const char* name : {"arrays.npz", "arrays_compressed.npz"}) {
    const NpzFile file = OpenNpz(Golden(name));
    EXPECT_TRUE(Same(Load(file, "c", torch::kFloat32), Range(12).view({3, 4})));
    EXPECT_TRUE(Same(Load(file, "fortran", torch::kFloat32), Range(12).view({3, 4})));
    EXPECT_TRUE(Same(Load(file, "fortran3", torch::kFloat64),
                     Range(24).view({2, 3, 4}).to(torch::kFloat64)));
    EXPECT_TRUE(Same(Load(file, "scalar", torch::kFloat32), torch::tensor(2.5f)));
    EXPECT_TRUE(Same(Load(file, "empty", torch::kFloat32), torch::empty({0, 5})));
    EXPECT_TRUE(Same(Load(file, "bool", torch::kBool), torch::tensor({true, false, true})));
    EXPECT_TRUE(Same(Load(file, "vector", torch::kInt64), torch::arange(5)));
    for (const char* dtype : {"f2", "f4", "f8", "i1", "i2", "i4", "i8"}) {
      EXPECT_TRUE(Same(Load(file, dtype, torch::kBFloat16),
                       (Range(6) - 3).view({2, 3}).to(torch::kBFloat16)))
          << dtype;
    }
    EXPECT_TRUE(Same(Load(file, "u1", torch::kInt32), Range(6).view({2, 3}).to(torch::kInt32)));
  }
}

TEST(ArrayTensorTest, ViewsOfEveryKindAreLoadedRowMajor) {
  for (const char* name : {"views.pt", "views_legacy.pt"}) {
    const TorchFile file = OpenTorch(Golden(name));
    const torch::Tensor base = Range(24);
    EXPECT_TRUE(Same(Load(file, "tied"), base));
    EXPECT_TRUE(Same(Load(file, "transposed"), base.view({4, 6}).t().contiguous()));
    EXPECT_TRUE(
        Same(Load(file, "slice"), base.view({4, 6}).narrow(0, 1, 2).narrow(1, 2, 3).contiguous()));
    EXPECT_TRUE(Same(Load(file, "row"), base.narrow(0, 6, 6)));
    EXPECT_TRUE(Same(Load(file, "scalar"), torch::tensor(7.0f)));
    EXPECT_TRUE(Same(Load(file, "every_other"), base.slice(0, 1, 24, 2).contiguous()));
    EXPECT_TRUE(Same(Load(file, "one"), base.view({4, 1, 6}).permute({2, 1, 0}).contiguous()));
    EXPECT_TRUE(Same(Load(file, "permuted", torch::kInt32),
                     base.view({2, 3, 4}).permute({2, 0, 1}).to(torch::kInt32).contiguous()));
    EXPECT_TRUE(Same(Load(file, "empty"), torch::empty({0, 7})));
    EXPECT_TRUE(Same(Load(file, "bool", torch::kBool), torch::tensor({true, false, true})));
    for (const char* dtype :
         {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"}) {
      EXPECT_TRUE(Same(Load(file, dtype), (Range(6) - 3).view({2, 3}))) << dtype;
    }
  }
}

TEST(ArrayTensorTest, LargeTransposedArraysArriveWhole) {
  // More than one piece and more than one stage, and last ones that are not full.
  const torch::Tensor x = torch::arange(3001 * 1009, torch::kInt32).view({3001, 1009});
  TempDir dir;
  const NpzFile file = OpenNpz(WriteBytes(dir / "x.npz", Npz("<i4", "(1009, 1, 3001)", true, x)));
  const torch::Tensor expected = x.t().contiguous().view({1009, 1, 3001});
  EXPECT_TRUE(Load(file, "x", torch::kInt32).equal(expected));

  ASSERT_TRUE(SaveStateDict(dir / "x.pt", {{"x", x}}).ok());
  EXPECT_TRUE(Load(OpenTorch(dir / "x.pt"), "x", torch::kInt32).equal(x));
  const std::string data(static_cast<const char*>(x.data_ptr()), x.nbytes());
  const PickledStorage storage = {"0", x.numel(), "torch\nIntStorage"};
  const auto view = [&](std::vector<int64_t> shape, std::vector<int64_t> strides, int64_t offset) {
    const std::string opcodes =
        PickledDict({{"x", PickledTensor(shape, strides, offset, storage)}});
    return Load(OpenTorch(WriteBytes(dir / "y.pt", ZipBytes(TorchParts(opcodes, data)))), "x",
                torch::kInt32);
  };
  EXPECT_TRUE(view({1009, 3001}, {1, 1009}, 0).equal(x.t()));
  EXPECT_TRUE(view({1009, 3000}, {1, 1009}, 1009).equal(x.narrow(0, 1, 3000).t()));
  EXPECT_TRUE(view({3001, 1000}, {1009, 1}, 9).equal(x.narrow(1, 9, 1000)));
  EXPECT_TRUE(view({1, 3001, 1, 1009}, {7, 1009, 5, 1}, 0).equal(x.view({1, 3001, 1, 1009})));
}

TEST(ArrayTensorTest, ShapesAreCheckedByName) {
  const NpzFile npz = OpenNpz(Golden("arrays.npz"));
  const TorchFile pt = OpenTorch(Golden("views.pt"));
  const auto from_npz = [&](const char* name, const std::vector<int64_t>& shape) {
    return LoadTensor(npz, name, shape, torch::kFloat32, torch::kCPU).status();
  };
  const auto from_pt = [&](const char* name, const std::vector<int64_t>& shape) {
    return LoadTensor(pt, pt.root(), name, shape, torch::kFloat32, torch::kCPU).status();
  };
  EXPECT_TRUE(from_npz("c", {3, 4}).ok());
  EXPECT_TRUE(from_npz("c", {-1, 4}).ok());
  EXPECT_EQ(from_npz("c", {4, 3}).message(),
            npz.path() + ": array \"c\" has shape [3, 4], expected is [4, 3] (-1: any size)");
  EXPECT_EQ(from_npz("none", {3, 4}).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(from_pt("transposed", {6, 4}).ok());
  EXPECT_EQ(from_pt("transposed", {4, 6}).message(),
            pt.path() +
                ": tensor \"transposed\" has shape [6, 4], expected is [4, 6] (-1: any "
                "size)");
  EXPECT_EQ(from_pt("none", {}).code(), absl::StatusCode::kNotFound);
  const TorchFile checkpoint = OpenTorch(Golden("checkpoint.pt"));
  EXPECT_THAT(std::string(LoadTensor(checkpoint, checkpoint.root(), "step", {}, torch::kFloat32,
                                     torch::kCPU)
                              .status()
                              .message()),
              HasSubstr("no tensor"));
}

TEST(ArrayTensorTest, NonFiniteValuesAreNamedWithTheirPlaceOrAllowed) {
  TempDir dir;
  torch::Tensor x = torch::zeros({2, 1 << 20});
  x[1][3] = kInfinity;
  ASSERT_TRUE(SaveStateDict(dir / "x.pt", {{"good", torch::zeros({2})}, {"bad", x}}).ok());
  const TorchFile pt = OpenTorch(dir / "x.pt");
  const TorchTensor& bad = *pt.root().FindTensor("bad");
  EXPECT_EQ(LoadTensor(pt, bad, "bad", torch::kFloat32, torch::kCPU).status().message(),
            pt.path() + ": tensor \"bad\": element 1048579 is not finite (inf)");
  EXPECT_TRUE(
      LoadTensor(pt, bad, "bad", torch::kFloat32, torch::kCPU, NonFinite::kAllow)->equal(x));

  const NpzFile npz = OpenNpz(WriteBytes(dir / "x.npz", Npz("<f4", "(2, 1048576)", false, x)));
  EXPECT_EQ(LoadTensor(npz, npz.arrays()[0], torch::kFloat32, torch::kCPU).status().message(),
            npz.path() + ": array \"x\": element 1048579 is not finite (inf)");
  EXPECT_TRUE(
      LoadTensor(npz, npz.arrays()[0], torch::kFloat32, torch::kCPU, NonFinite::kAllow)->equal(x));

  // 1e6 is fine in the file and too large for a half.
  ASSERT_TRUE(SaveStateDict(dir / "y.pt", {{"y", torch::tensor({1.0f, 1e6f})}}).ok());
  const TorchFile y = OpenTorch(dir / "y.pt");
  EXPECT_TRUE(LoadTensor(y, y.root(), "y", {2}, torch::kBFloat16, torch::kCPU).ok());
  EXPECT_EQ(LoadTensor(y, y.root(), "y", {2}, torch::kFloat16, torch::kCPU).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ArrayTensorTest, WhatLiesBetweenTheElementsOfAViewIsNotLookedAt) {
  TempDir dir;
  torch::Tensor x = Range(6);
  x[1] = kInfinity;
  const std::string data(static_cast<const char*>(x.data_ptr()), x.nbytes());
  const auto load = [&](int64_t offset) {
    const std::string opcodes = PickledDict({{"x", PickledTensor({2}, {2}, offset)}});
    const TorchFile file = OpenTorch(WriteBytes(dir / "x.pt", ZipBytes(TorchParts(opcodes, data))));
    return LoadTensor(file, file.root(), "x", {2}, torch::kFloat32, torch::kCPU);
  };
  EXPECT_TRUE(load(0)->equal(torch::tensor({0.0f, 2.0f})));
  EXPECT_THAT(std::string(load(1).status().message()), HasSubstr("element 0 is not finite (inf)"));
}

TEST(ArrayTensorTest, DamagedBytesAreNoticed) {
  TempDir dir;
  const std::string data(24, '\x3f');
  for (int64_t n : {6, 2}) {
    for (int64_t stride : {1, 2}) {
      if (n * stride > 6) continue;
      const std::string opcodes = PickledDict({{"x", PickledTensor({n}, {stride})}});
      const std::string bytes = ZipBytes(TorchParts(opcodes, data));
      const TorchFile file =
          OpenTorch(WriteBytes(dir / "x.pt", Patched(bytes, bytes.find(data) + 20, 'x')));
      const auto x = LoadTensor(file, file.root(), "x", {n}, torch::kFloat32, torch::kCPU);
      EXPECT_THAT(std::string(x.status().message()), HasSubstr("check sum"));
    }
  }
}

TEST(ArrayTensorTest, RowsOfRawActivationsAreLoaded) {
  TempDir dir;
  const torch::Tensor x = (torch::arange(70 * 20001) % 1000).view({70, 20001}).to(torch::kFloat16);
  const std::string bytes(static_cast<const char*>(x.data_ptr()), x.nbytes());
  const auto file = RawMemmap::Open(WriteBytes(dir / "x.bin", bytes), DType::kF16, 20001);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(LoadRows(*file, 0, 70, torch::kFloat16, torch::kCPU)->equal(x));
  EXPECT_TRUE(LoadRows(*file, 9, 60, torch::kFloat32, torch::kCPU)
                  ->equal(x.narrow(0, 9, 60).to(torch::kFloat32)));
  EXPECT_EQ(LoadRows(*file, 70, 0, torch::kFloat32, torch::kCPU)->sizes(),
            (torch::IntArrayRef{0, 20001}));
  EXPECT_EQ(LoadRows(*file, 70, 1, torch::kFloat32, torch::kCPU).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(LoadRows(*file, 0, INT64_MAX, torch::kFloat32, torch::kCPU).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST(ArrayTensorTest, NonFiniteActivationsAreNamedByRowAndColumn) {
  TempDir dir;
  torch::Tensor x = torch::zeros({5, 3});
  x[3][2] = -kInfinity;
  const std::string bytes(static_cast<const char*>(x.data_ptr()), x.nbytes());
  const auto file = RawMemmap::Open(WriteBytes(dir / "x.bin", bytes), DType::kF32, 3);
  EXPECT_EQ(LoadRows(*file, 1, 4, torch::kFloat32, torch::kCPU).status().message(),
            file->path() + ": row 3, column 2 is not finite (-inf)");
  EXPECT_TRUE(LoadRows(*file, 1, 4, torch::kFloat32, torch::kCPU, NonFinite::kAllow)
                  ->equal(x.narrow(0, 1, 4)));
  EXPECT_TRUE(LoadRows(*file, 0, 3, torch::kFloat32, torch::kCPU).ok());
}

TEST(ArrayTensorTest, SavedTensorsReadBack) {
  TempDir dir;
  torch::manual_seed(7);
  const std::vector<std::pair<std::string, torch::Tensor>> tensors = {
      {"encoder.weight", torch::randn({7, 5}).t()},
      {"b_dec", torch::randn({5})},
      {"k", torch::tensor(32, torch::kInt32)},
      {"threshold", torch::tensor(-1.0f)},
      {"group_sizes", torch::tensor({70000, 3}, torch::kInt64)},
      {"half", torch::randn({3}).to(torch::kBFloat16)},
      {"empty", torch::empty({0, 4})},
      {"flag", torch::tensor({true, false})},
  };
  ASSERT_TRUE(SaveStateDict(dir / "ae.pt", tensors).ok());
  const TorchFile file = OpenTorch(dir / "ae.pt");
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(Same(Load(file, name, tensor.scalar_type()), tensor.contiguous())) << name;
  }
}

// LibTorch's reader of the container, as the reference. (Its unpickler knows no OrderedDict.)
TEST(ArrayTensorTest, LibTorchFindsTheRecordsOfWhatIsSaved) {
  TempDir dir;
  torch::manual_seed(7);
  const std::vector<std::pair<std::string, torch::Tensor>> tensors = {
      {"encoder.weight", torch::randn({7, 5}).t()},
      {"empty", torch::empty({0, 4})},
      {"k", torch::tensor(32, torch::kInt32)}};
  ASSERT_TRUE(SaveStateDict(dir / "ae.pt", tensors).ok());
  caffe2::serialize::PyTorchStreamReader reader(dir / "ae.pt");
  EXPECT_EQ(reader.version(), 3u);
  EXPECT_TRUE(reader.hasRecord("data.pkl"));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string record = absl::StrCat("data/", i);
    const auto [data, bytes] = reader.getRecord(record);
    const torch::Tensor expected = tensors[i].second.contiguous();
    ASSERT_EQ(bytes, expected.nbytes());
    EXPECT_EQ(bytes == 0 ? 0 : memcmp(data.get(), expected.data_ptr(), bytes), 0);
    EXPECT_EQ(reader.getRecordOffset(record) % 64, 0u);
  }
}

TEST(ArrayTensorTest, WhatTorchSaveCannotHoldIsRefused) {
  TempDir dir;
  EXPECT_EQ(SaveStateDict(dir / "x.pt", {{"c", torch::zeros({1}, torch::kComplexFloat)}}).code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(FileExists(dir / "x.pt"));
}

TEST(ArrayTensorTest, FixturesLoadAsTheirFormatsDescribe) {
  const TorchFile file =
      OpenTorch(SourcePath("tests/golden/sae/dictionary_learning/MatryoshkaBatchTopKSAE/ae.pt"));
  const TorchValue& dict = file.root();
  const auto load = [&](const char* name, const std::vector<int64_t>& shape,
                        torch::ScalarType dtype) {
    const auto tensor = LoadTensor(file, dict, name, shape, dtype, torch::kCPU);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    return tensor.ok() ? *tensor : torch::Tensor();
  };
  EXPECT_EQ(load("W_enc", {32, 96}, torch::kFloat32).numel(), 32 * 96);
  EXPECT_EQ(load("k", {}, torch::kInt64).item<int64_t>(), 6);
  EXPECT_EQ(load("group_sizes", {-1}, torch::kInt64).sum().item<int64_t>(), 96);
}

}  // namespace
}  // namespace featurescope
