#include "server/formats/torch_file.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/pickle_bytes.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char* const kFixtures[] = {
    "dictionary_learning/AutoEncoder/ae.pt",
    "dictionary_learning/AutoEncoderTopK/ae.pt",
    "dictionary_learning/BatchTopKSAE/ae.pt",
    "dictionary_learning/GatedAutoEncoder/ae.pt",
    "dictionary_learning/JumpReluAutoEncoder/ae.pt",
    "dictionary_learning/MatryoshkaBatchTopKSAE/ae.pt",
    "openai/relu/autoencoder.pt",
    "openai/topk_identity_layer_norm/autoencoder.pt",
    "openai/topk_layer_norm/autoencoder.pt",
    "seed/format1/sae.pt",
    "seed/format2/sae.pt",
    "seed/format2_legacy_container/sae.pt",
};

TorchFile Golden(const std::string& name) {
  auto file = TorchFile::Open(SourcePath("tests/golden/" + name));
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : TorchFile();
}

// A tensor's elements in row-major order, read one by one.
template <typename T>
std::vector<T> Elements(const TorchFile& file, const TorchTensor& tensor) {
  std::vector<T> elements;
  std::vector<int64_t> index(tensor.shape.size(), 0);
  for (int64_t i = 0; i < tensor.n_elements(); ++i) {
    int64_t at = tensor.offset;
    for (size_t d = 0; d < index.size(); ++d) at += index[d] * tensor.strides[d];
    T value;
    const absl::Status status =
        file.Read(file.storage_of(tensor), static_cast<uint64_t>(at) * sizeof(T),
                  absl::MakeSpan(reinterpret_cast<char*>(&value), sizeof(T)));
    EXPECT_TRUE(status.ok()) << status;
    elements.push_back(value);
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < tensor.shape[d]) break;
      index[d] = 0;
    }
  }
  return elements;
}

// The value that a path of keys leads to.
const TorchValue* At(const TorchFile& file, std::initializer_list<const char*> keys) {
  const TorchValue* value = &file.root();
  for (const char* key : keys) value = value == nullptr ? nullptr : value->Find(key);
  return value;
}

TEST(TorchFileTest, EveryFixtureOpensAndItsCheckSumsHold) {
  for (const char* name : kFixtures) {
    const TorchFile file = Golden(absl::StrCat("sae/", name));
    EXPECT_TRUE(file.root().is_dict()) << name;
    EXPECT_GE(file.storages().size(), 3u) << name;
    EXPECT_EQ(file.legacy(), absl::string_view(name).find("legacy") != absl::string_view::npos);
    EXPECT_TRUE(TorchFile::LooksLikeTorchFile(file.path())) << name;
    for (const TorchStorage& storage : file.storages()) {
      EXPECT_EQ(storage.has_crc32, !file.legacy());
      EXPECT_TRUE(file.Verify(storage).ok()) << name;
    }
  }
}

TEST(TorchFileTest, FixturesHaveTheTensorsAndSettingsOfTheirFormats) {
  const TorchFile batch_topk = Golden("sae/dictionary_learning/BatchTopKSAE/ae.pt");
  EXPECT_THAT(batch_topk.root().FindTensor("encoder.weight")->shape, ElementsAre(96, 32));
  EXPECT_THAT(batch_topk.root().FindTensor("encoder.weight")->strides, ElementsAre(1, 96));
  const TorchTensor* k = batch_topk.root().FindTensor("k");
  EXPECT_EQ(k->dtype, DType::kI32);
  EXPECT_THAT(Elements<int32_t>(batch_topk, *k), ElementsAre(6));

  const TorchFile openai = Golden("sae/openai/topk_layer_norm/autoencoder.pt");
  EXPECT_EQ(*At(openai, {"activation"})->AsString(), "TopK");
  EXPECT_EQ(*At(openai, {"activation_state_dict", "k"})->AsInt(), 6);
  EXPECT_EQ(openai.root().FindTensor("activation"), nullptr);
  EXPECT_EQ(openai.root().FindTensor("stats_last_nonzero")->dtype, DType::kI64);

  const TorchFile notebook = Golden("sae/seed/format1/sae.pt");
  EXPECT_THAT(At(notebook, {"state_dict", "enc.weight"})->AsTensor()->shape, ElementsAre(96, 32));
  EXPECT_EQ(*At(notebook, {"d_in"})->AsInt(), 32);
  EXPECT_EQ(*At(notebook, {"lr"})->AsFloat(), 0.001);
  EXPECT_EQ(*At(notebook, {"hook"})->AsString(), "blocks.3.hook_resid_post");
  EXPECT_FALSE(*At(notebook, {"normalize"})->AsBool());
}

TEST(TorchFileTest, TheLegacyContainerReadsAsTheZipContainerDoes) {
  const TorchFile zip = Golden("formats/views.pt");
  const TorchFile legacy = Golden("formats/views_legacy.pt");
  const TorchValue::Dict& entries = *zip.root().AsDict();
  EXPECT_EQ(entries.keys.size(), 19u);
  EXPECT_EQ(legacy.root().AsDict()->keys.size(), entries.keys.size());
  for (size_t i = 0; i < entries.keys.size(); ++i) {
    const std::string& name = *entries.keys[i].AsString();
    const TorchTensor& a = *entries.values[i].AsTensor();
    const TorchTensor& b = *legacy.root().FindTensor(name);
    EXPECT_EQ(a.dtype, b.dtype) << name;
    EXPECT_EQ(a.shape, b.shape) << name;
    EXPECT_EQ(a.strides, b.strides) << name;
    if (DTypeSize(a.dtype) == 4) {
      EXPECT_EQ(Elements<int32_t>(zip, a), Elements<int32_t>(legacy, b)) << name;
    }
    if (DTypeSize(a.dtype) == 8) {
      EXPECT_EQ(Elements<int64_t>(zip, a), Elements<int64_t>(legacy, b)) << name;
    }
  }
}

// Written by PyTorch 1.13.1: views of base = torch.arange(24.), one tensor of each dtype.
TEST(TorchFileTest, ViewsAndTiedStoragesAreRead) {
  const TorchFile file = Golden("formats/views.pt");
  const auto tensor = [&](const char* name) { return *file.root().FindTensor(name); };
  EXPECT_EQ(tensor("tied").storage, tensor("transposed").storage);
  EXPECT_EQ(tensor("tied").storage, tensor("slice").storage);
  EXPECT_TRUE(tensor("tied").is_contiguous());
  EXPECT_FALSE(tensor("transposed").is_contiguous());
  EXPECT_FALSE(tensor("slice").is_contiguous());
  EXPECT_TRUE(tensor("row").is_contiguous());
  EXPECT_TRUE(tensor("empty").is_contiguous());
  EXPECT_THAT(Elements<float>(file, tensor("slice")), ElementsAre(8, 9, 10, 14, 15, 16));
  EXPECT_THAT(Elements<float>(file, tensor("row")), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(Elements<float>(file, tensor("scalar")), ElementsAre(7));
  EXPECT_THAT(tensor("scalar").shape, IsEmpty());
  EXPECT_EQ(Elements<float>(file, tensor("transposed"))[1], 6);
  EXPECT_EQ(Elements<float>(file, tensor("every_other"))[1], 3);
  EXPECT_THAT(tensor("empty").shape, ElementsAre(0, 7));
  EXPECT_EQ(tensor("bool").dtype, DType::kBool);
  EXPECT_EQ(tensor("bfloat16").dtype, DType::kBF16);
  EXPECT_THAT(Elements<int8_t>(file, tensor("int8")), ElementsAre(-3, -2, -1, 0, 1, 2));
}

// Written by PyTorch 1.13.1 with a module's state_dict, an optimizer's, numpy scalars, dtypes,
// devices; once with protocol 2 and once with protocol 4.
TEST(TorchFileTest, ACheckpointIsReadWithAllThatSurroundsItsWeights) {
  for (const char* name : {"formats/checkpoint.pt", "formats/checkpoint_protocol4.pt"}) {
    const TorchFile file = Golden(name);
    EXPECT_EQ(*At(file, {"step"})->AsInt(), 1000);
    EXPECT_THAT(At(file, {"ae", "weight"})->AsTensor()->shape, ElementsAre(5, 3));
    EXPECT_EQ(At(file, {"ae"})->AsDict()->keys.size(), 2u);  // _metadata is no entry
    const TorchValue& group = At(file, {"optimizer", "param_groups"})->AsSequence()->at(0);
    EXPECT_EQ(*group.Find("lr")->AsFloat(), 0.001);
    EXPECT_EQ(*group.Find("betas")->AsSequence()->at(1).AsFloat(), 0.999);
    const TorchValue::Dict& states = *At(file, {"optimizer", "state"})->AsDict();
    EXPECT_EQ(*states.keys[1].AsInt(), 1);
    EXPECT_THAT(states.values[1].FindTensor("exp_avg")->shape, ElementsAre(5));
    const TorchValue& config = *At(file, {"config"});
    EXPECT_EQ(*config.Find("lm_name")->AsString(), "gpt2\u00e9");
    EXPECT_TRUE(config.Find("wandb")->is_null());
    EXPECT_EQ(*config.Find("dtype")->AsString(), "torch.bfloat16");
    EXPECT_EQ(*config.Find("device")->AsString(), "cuda:0");
    EXPECT_EQ(*config.Find("cpu")->AsString(), "cpu");
    EXPECT_EQ(*config.Find("shape")->AsSequence()->at(1).AsInt(), 3);
    EXPECT_FALSE(*config.Find("flags")->AsSequence()->at(1).AsBool());
    EXPECT_EQ(*config.Find("negative")->AsInt(), -70000);
    EXPECT_EQ(*config.Find("large")->AsInt(), int64_t{1} << 40);
    EXPECT_EQ(*config.Find("most_negative")->AsInt(), INT64_MIN);
    EXPECT_TRUE(std::isnan(*config.Find("nan")->AsFloat()));
    EXPECT_EQ(*At(file, {"norm_factor"})->AsFloat(), 0.375);
    EXPECT_EQ(*At(file, {"count"})->AsInt(), -5);
    EXPECT_EQ(*At(file, {"f32"})->AsFloat(), 1.5);
    EXPECT_EQ(*At(file, {"i32"})->AsInt(), 77);
    EXPECT_TRUE(*At(file, {"flag"})->AsBool());
    EXPECT_THAT(Elements<float>(file, *At(file, {"param"})->AsTensor()), ElementsAre(0, 1, 2, 3));
    EXPECT_EQ(At(file, {"absent", "key"}), nullptr);
    EXPECT_EQ(At(file, {"step", "key"}), nullptr);
  }
}

TEST(TorchFileTest, GetTensorSaysWhatIsThereInstead) {
  const TorchFile file = Golden("formats/checkpoint.pt");
  EXPECT_TRUE(file.GetTensor(*file.root().Find("ae"), "weight").ok());
  EXPECT_EQ(file.GetTensor(file.root(), "weight").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.GetTensor(file.root(), "step").status().message()),
              AllOf(HasSubstr("checkpoint.pt"), HasSubstr("\"step\" is an int, no tensor")));
  EXPECT_THAT(std::string(file.GetTensor(file.root(), "ae").status().message()),
              HasSubstr("is a dict"));
}

class HostileTorchFileTest : public testing::Test {
 protected:
  absl::StatusOr<TorchFile> Open(const std::string& bytes) {
    return TorchFile::Open(WriteBytes(dir_ / "x.pt", bytes));
  }
  std::string ErrorOfFile(const std::string& bytes) {
    const auto file = Open(bytes);
    return file.ok() ? "it opens" : std::string(file.status().message());
  }
  // Of an archive with this data.pkl and a storage "0" of 6 floats.
  std::string Error(const std::string& opcodes) {
    return ErrorOfFile(ZipBytes(TorchParts(opcodes)));
  }

  TempDir dir_;
};

TEST_F(HostileTorchFileTest, ThePlainOneIsFine) {
  const auto file = Open(ZipBytes(TorchParts(PickledDict({{"W", PickledTensor({2, 3}, {3, 1})}}))));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->root().FindTensor("W")->shape, ElementsAre(2, 3));
  EXPECT_EQ(file->storages()[0].n_elements, 6u);
}

TEST_F(HostileTorchFileTest, CodeIsRefusedByItsName) {
  EXPECT_THAT(Error("cos\nsystem\n(" + PickledText("touch /tmp/owned") + "tR"),
              AllOf(HasSubstr("x.pt"), HasSubstr("os.system"), HasSubstr("not allowed")));
  EXPECT_THAT(Error("cbuiltins\neval\n(" + PickledText("1") + "tR"), HasSubstr("builtins.eval"));
  EXPECT_THAT(Error("ctorch.storage\n_load_from_bytes\n)R"), HasSubstr("_load_from_bytes"));
  EXPECT_THAT(Error("cnumpy.core.multiarray\n_reconstruct\n)R"), HasSubstr("_reconstruct"));
  EXPECT_THAT(Error("cmodels\nSparseAutoencoder\n)\x81}b"), HasSubstr("models.SparseAutoencoder"));
  EXPECT_THAT(Error("ctorch\nComplexFloatStorage\n"), HasSubstr("torch.ComplexFloatStorage"));
}

TEST_F(HostileTorchFileTest, AllowedGlobalsAreNotFreeToCombine) {
  EXPECT_THAT(Error("ctorch\nFloatStorage\n"), HasSubstr("used as a value"));
  EXPECT_THAT(Error("ctorch\nFloatStorage\n)R"), HasSubstr("torch.FloatStorage is called"));
  EXPECT_THAT(Error("ctorch._utils\n_rebuild_tensor_v2\n)R"), HasSubstr("0 arguments"));
  EXPECT_THAT(Error("ccollections\nOrderedDict\n(NtR"), HasSubstr("OrderedDict"));
  EXPECT_THAT(Error("c_codecs\nencode\n(" + PickledText("x") + PickledText("latin1") + "tR"),
              HasSubstr("_codecs.encode is called"));
  EXPECT_THAT(Error("cnumpy\ndtype\n(" + PickledText("O") + "tR"), HasSubstr("numpy.dtype"));
  EXPECT_THAT(Error("ctorch\ndevice\n(NtR"), HasSubstr("torch.device"));
  EXPECT_THAT(Error("ctorch\nSize\n(NtR"), HasSubstr("torch.Size"));
  EXPECT_THAT(Error("ctorch\nTensor\n)R"), HasSubstr("torch.Tensor is called"));
  EXPECT_THAT(Error(PickledTensor({6}, {1}) + "NNs"), HasSubstr("keys are set"));
  EXPECT_THAT(Error(PickledId({})), HasSubstr("a storage without a tensor"));
  EXPECT_THAT(Error(Bytes("C\x01x")), HasSubstr("byte strings"));
  EXPECT_THAT(Error(Bytes("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01")), HasSubstr("64 bits"));
  EXPECT_THAT(Error("}(]Nu"), HasSubstr("the key of a dict is a list"));
  EXPECT_THAT(Error(PickledDict({{"a", "N"}, {"a", "N"}})),
              HasSubstr("\"a\": the key occurs twice"));
}

TEST_F(HostileTorchFileTest, NumpyScalarsOfOtherTypesAreRefused) {
  const auto scalar = [](const std::string& dtype, const std::string& order,
                         const std::string& bytes) {
    return "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + PickledText(dtype) + "tR(K\x03" +
           PickledText(order) + "tbc_codecs\nencode\n(" + PickledText(bytes) +
           PickledText("latin1") + "tRtR";
  };
  EXPECT_EQ(Error(scalar("b1", "|", "\x01")), "it opens");
  EXPECT_THAT(Error(scalar("b1", ">", "\x01")), HasSubstr("little-endian"));
  EXPECT_THAT(Error(scalar("f8", "<", "1234")), HasSubstr("numpy scalar of dtype \"f8\" and 4"));
  EXPECT_THAT(Error(scalar("O", "|", "12345678")), HasSubstr("dtype \"O\""));
  EXPECT_THAT(Error(scalar("b1", "|", "\u0100")), HasSubstr("no byte"));
}

TEST_F(HostileTorchFileTest, TensorsLieInsideTheirStorages) {
  const auto error = [&](std::vector<int64_t> shape, std::vector<int64_t> strides,
                         int64_t offset = 0) {
    return Error(PickledDict({{"W", PickledTensor(shape, strides, offset)}}));
  };
  EXPECT_EQ(error({2, 3}, {3, 1}), "it opens");
  EXPECT_EQ(error({2}, {5}), "it opens");
  EXPECT_EQ(error({0, 3}, {3, 1}, 6), "it opens");
  EXPECT_EQ(error({}, {}, 5), "it opens");
  EXPECT_THAT(error({2, 3}, {3, 1}, 1),
              AllOf(HasSubstr("\"W\""), HasSubstr("leaves its storage of 6")));
  EXPECT_THAT(error({7}, {1}), HasSubstr("leaves"));
  EXPECT_THAT(error({}, {}, 6), HasSubstr("leaves"));
  EXPECT_THAT(error({0}, {1}, 7), HasSubstr("leaves"));
  EXPECT_THAT(error({2}, {6}), HasSubstr("leaves"));
  EXPECT_THAT(error({2}, {INT64_MAX}), HasSubstr("leaves"));
  EXPECT_THAT(error({2}, {INT64_MAX}, INT64_MAX), HasSubstr("leaves"));
  EXPECT_THAT(error({3, 3}, {INT64_MAX / 2, INT64_MAX / 2}), HasSubstr("leaves"));
  EXPECT_THAT(error({2}, {1}, -1), HasSubstr("bad tensor"));
  EXPECT_THAT(error({2}, {-1}), HasSubstr("no integer >= 0"));
  EXPECT_THAT(error({-1}, {1}), HasSubstr("no integer >= 0"));
  EXPECT_THAT(error({2, 3}, {3}), HasSubstr("bad tensor"));
  EXPECT_THAT(error({INT64_MAX, INT64_MAX}, {0, 0}), HasSubstr("63 bits"));
  EXPECT_THAT(error({0, INT64_MAX, INT64_MAX}, {0, 0, 0}), HasSubstr("63 bits"));
  EXPECT_THAT(error(std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1)),
              HasSubstr("at most 16"));
  // A broadcast view is larger than all there is.
  EXPECT_THAT(error({1000000, 1000000}, {0, 0}), HasSubstr("repeats elements"));
  EXPECT_THAT(error({7}, {0}), HasSubstr("repeats elements"));
}

TEST_F(HostileTorchFileTest, StoragesMatchTheirMembers) {
  const auto error = [&](const PickledStorage& storage) {
    return Error(PickledTensor({1}, {1}, 0, storage));
  };
  EXPECT_THAT(error({"1"}), HasSubstr("storage \"1\": its member is missing"));
  EXPECT_THAT(error({"../0"}), HasSubstr("missing"));
  EXPECT_THAT(error({"0", 5}), HasSubstr("needs 20 bytes, its member has 24"));
  EXPECT_THAT(error({"0", 7}), HasSubstr("needs 28 bytes"));
  EXPECT_THAT(error({"0", -6}), HasSubstr("bad shape"));
  EXPECT_THAT(error({"0", INT64_MAX}), HasSubstr("63 bits"));
  EXPECT_THAT(error({"0", 6, "torch\nSize"}), HasSubstr("torch.Size is no type of a storage"));
  EXPECT_THAT(error({std::string(600, 'k')}), HasSubstr("known form"));
  EXPECT_THAT(
      Error(PickledDict({{"a", PickledTensor({1}, {1})},
                         {"b", PickledTensor({1}, {1}, 0, {"0", 3, "torch\nLongStorage"})}})),
      HasSubstr("two ways"));
  std::vector<ZipPart> parts = TorchParts(PickledTensor({1}, {1}));
  parts[2].deflate = true;
  EXPECT_THAT(ErrorOfFile(ZipBytes(parts)), HasSubstr("is compressed"));
}

TEST_F(HostileTorchFileTest, PersistentIdsHaveOneForm) {
  const std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n(";
  const std::string rest = PickledInt(0) + PickledTuple({1}) + PickledTuple({1}) + "\x89NtR";
  EXPECT_THAT(Error(rebuild + "NQ" + rest), HasSubstr("known form"));
  EXPECT_THAT(Error(rebuild + "N" + rest), HasSubstr("without a storage"));
  EXPECT_THAT(Error(rebuild + "(" + PickledText("module") + "tQ" + rest), HasSubstr("known form"));
  std::string id = PickledId({});
  id.replace(id.find("storage"), 7, "Storage");
  EXPECT_THAT(Error(rebuild + id + rest), HasSubstr("known form"));
}

TEST_F(HostileTorchFileTest, CyclesDepthAndSharedValuesAreBounded) {
  EXPECT_THAT(Error(Bytes("]q\x00h\x00"
                          "a")),
              HasSubstr("within itself"));
  EXPECT_THAT(Error(Bytes("}q\x00Nh\x00s")), HasSubstr("within itself"));
  EXPECT_THAT(Error(std::string(40, ']') + std::string(39, 'a')),
              HasSubstr("nested deeper than 32"));
  EXPECT_EQ(Error(std::string(32, ']') + std::string(31, 'a')), "it opens");
  // 30 pairs, each of the one before it twice: a billion values in a few bytes.
  std::string doubled = "N";
  for (int i = 0; i < 30; ++i) {
    doubled += std::string("q") + static_cast<char>(i) + "h" + static_cast<char>(i) + "\x86";
  }
  EXPECT_THAT(Error(doubled), HasSubstr("more than 262144 values"));
  // One long string, again and again.
  std::string strings = PickledText(std::string(1u << 20, 's')) + Bytes("q\x00") + "(";
  for (int i = 0; i < 100; ++i) strings += Bytes("h\x00");
  EXPECT_THAT(Error(strings + "t\x86"), HasSubstr("strings of more than"));
}

TEST_F(HostileTorchFileTest, OtherArchivesAndNotesAreRefused) {
  std::vector<ZipPart> parts = TorchParts(PickledTensor({1}, {1}));
  parts[1].content = "big";
  EXPECT_THAT(ErrorOfFile(ZipBytes(parts)), HasSubstr("byte order \"big\""));
  parts[1].content = "little";
  parts[3].content = "11\n";
  EXPECT_THAT(ErrorOfFile(ZipBytes(parts)), HasSubstr("version \"11\""));
  parts[3].content = "3\n";
  parts.push_back({"x/constants.pkl", "\x80\x02)."});
  EXPECT_THAT(ErrorOfFile(ZipBytes(parts)), HasSubstr("TorchScript"));
  EXPECT_THAT(ErrorOfFile(ZipBytes({{"x/other", "1"}})), HasSubstr("without data.pkl"));
  EXPECT_THAT(ErrorOfFile(ZipBytes({{"data.pkl", Pickled("N")}})), HasSubstr("without data.pkl"));
  EXPECT_THAT(ErrorOfFile(ZipBytes({})), HasSubstr("is no torch.save file"));
  EXPECT_THAT(ErrorOfFile(ZipBytes({{"x/data.pkl", Pickled("N") + "N."}})),
              HasSubstr("2 bytes follow the pickle"));
  EXPECT_THAT(ErrorOfFile("hello"), HasSubstr("is no torch.save file"));
  EXPECT_THAT(ErrorOfFile(""), HasSubstr("is no torch.save file"));
  EXPECT_THAT(ErrorOfFile(std::string(257, ' ') + "ustar"), HasSubstr("tar"));
  EXPECT_FALSE(TorchFile::LooksLikeTorchFile(WriteBytes(dir_ / "y.pt", ZipBytes({{"a.npy", ""}}))));
  EXPECT_FALSE(TorchFile::LooksLikeTorchFile(WriteBytes(dir_ / "y.pt", "")));
  EXPECT_FALSE(TorchFile::LooksLikeTorchFile(dir_ / "none"));
  EXPECT_EQ(TorchFile::Open(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(HostileTorchFileTest, DamagedWeightsAreNoticed) {
  const std::string bytes = ZipBytes(TorchParts(PickledTensor({6}, {1}), std::string(24, 'w')));
  const auto file = Open(Patched(bytes, bytes.find("wwww") + 5, 'x'));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(std::string(file->Verify(file->storages()[0]).message()),
              AllOf(HasSubstr("storage \"0\""), HasSubstr("check sum")));
  char out[8];
  EXPECT_TRUE(file->Read(file->storages()[0], 16, absl::MakeSpan(out)).ok());
  EXPECT_EQ(file->Read(file->storages()[0], 17, absl::MakeSpan(out)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(file->Read(file->storages()[0], UINT64_MAX, absl::MakeSpan(out)).code(),
            absl::StatusCode::kOutOfRange);
}

// PyTorch can leave the check sums out (torch.serialization.set_crc32_options(False)).
TEST_F(HostileTorchFileTest, FilesWithoutCheckSumsOpen) {
  std::string bytes = ZipBytes(TorchParts(PickledTensor({6}, {1})));
  for (int i = 0; i < 4; ++i) {
    bytes = Patched(bytes, ZipStructure(bytes, "PK\x03\x04", i) + 14, uint32_t{0});
    bytes = Patched(bytes, ZipStructure(bytes, "PK\x01\x02", i) + 16, uint32_t{0});
  }
  const auto file = Open(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(file->storages()[0].has_crc32);
  EXPECT_TRUE(file->Verify(file->storages()[0]).ok());
}

TEST_F(HostileTorchFileTest, EveryTruncationOfALegacyFileIsRefused) {
  const std::string bytes = ReadBytes(SourcePath("tests/golden/formats/views_legacy.pt"));
  ASSERT_TRUE(Open(bytes).ok());
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(Open(bytes.substr(0, n)).ok()) << n;
  EXPECT_THAT(ErrorOfFile(bytes + "x"), HasSubstr("1 bytes follow the last storage"));
}

TEST_F(HostileTorchFileTest, LegacyFilesThatContradictThemselvesAreRefused) {
  const std::string start = Bytes(
                                "\x80\x02\x8a\nl\xfc\x9c"
                                "F\xf9 j\xa8P\x19.") +
                            Bytes("\x80\x02M\xe9\x03.");
  const std::string system = Pickled(PickledDict({{"little_endian", "\x88"}}));
  const std::string object = Pickled(PickledTensor({2}, {1}, 0, {"key", 2}));
  const std::string keys = Pickled("](" + PickledText("key") + "e");
  std::string data;
  AppendLe(&data, int64_t{2});
  data += "12345678";
  EXPECT_EQ(ErrorOfFile(start + system + object + keys + data), "it opens");
  std::string longer;
  AppendLe(&longer, int64_t{3});
  EXPECT_THAT(ErrorOfFile(start + system + object + keys + longer + "123456789012"),
              HasSubstr("has 3 elements, its tensors say 2"));
  EXPECT_THAT(ErrorOfFile(start + system + object + keys + data.substr(0, 15)),
              HasSubstr("needs 8 bytes, the file has 7 left"));
  EXPECT_THAT(ErrorOfFile(start + system + object + keys + data.substr(0, 7)),
              HasSubstr("the file ends before it"));
  EXPECT_THAT(ErrorOfFile(start + system + object + Pickled("]") + data),
              HasSubstr("list of storages"));
  EXPECT_THAT(
      ErrorOfFile(start + system + object + Pickled("](" + PickledText("yek") + "e") + data),
      HasSubstr("unknown or repeated key"));
  EXPECT_THAT(ErrorOfFile(start + system + object + Pickled("](Ne") + data),
              HasSubstr("unknown or repeated key"));
  EXPECT_THAT(ErrorOfFile(start + Pickled(PickledDict({{"little_endian", "\x89"}})) + object),
              HasSubstr("little-endian"));
  EXPECT_THAT(ErrorOfFile(start + Pickled("N") + object), HasSubstr("little-endian"));
  std::string protocol = start;
  protocol[protocol.size() - 2] = 4;
  EXPECT_THAT(ErrorOfFile(protocol + system + object + keys + data), HasSubstr("protocol 1257"));
}

}  // namespace
}  // namespace featurescope
