#include "server/formats/torch_writer.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/formats/torch_file.h"
#include "server/formats/zip_archive.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
using Spec = TorchStateDictWriter::Spec;

// One member of a torch.save archive, whatever folder it lies in.
std::string Member(const std::string& path, absl::string_view name) {
  const auto archive = ZipArchive::Open(path);
  EXPECT_TRUE(archive.ok()) << archive.status();
  if (!archive.ok()) return "no archive";
  for (const ZipMember& member : archive->members()) {
    if (member.name.substr(member.name.find('/') + 1) == name) {
      return archive->Read(member, 1u << 20).value();
    }
  }
  return "no such member";
}

// What tells that a file was written: its tensors and their bytes.
std::vector<std::pair<Spec, std::string>> TensorsOf(const std::string& path) {
  const auto file = TorchFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<std::pair<Spec, std::string>> tensors;
  if (!file.ok()) return tensors;
  const TorchValue::Dict& dict = *file->root().AsDict();
  for (size_t i = 0; i < dict.keys.size(); ++i) {
    const TorchTensor& tensor = *dict.values[i].AsTensor();
    const TorchStorage& storage = file->storage_of(tensor);
    std::string bytes(storage.bytes, '\0');
    EXPECT_TRUE(tensor.is_contiguous() && tensor.offset == 0);
    EXPECT_TRUE(file->Verify(storage).ok());
    EXPECT_TRUE(file->Read(storage, 0, absl::MakeSpan(&bytes[0], bytes.size())).ok());
    tensors.push_back({{*dict.keys[i].AsString(), tensor.dtype, tensor.shape}, bytes});
  }
  return tensors;
}

absl::Status Write(const std::string& path,
                   const std::vector<std::pair<Spec, std::string>>& tensors) {
  std::vector<Spec> specs;
  for (const auto& [spec, bytes] : tensors) specs.push_back(spec);
  auto writer = TorchStateDictWriter::Create(path, specs);
  if (!writer.ok()) return writer.status();
  for (const auto& [spec, bytes] : tensors) {
    const absl::Status status = writer->Append(spec.name, bytes);
    if (!status.ok()) return status;
  }
  return writer->Finish();
}

// The goldens are torch.save(OrderedDict(...)) of PyTorch 1.13.1.
TEST(TorchWriterTest, ThePickleIsTheOneThatPyTorchWrites) {
  TempDir dir;
  for (const char* name : {"state_dict", "state_dict_of_one", "state_dict_of_none"}) {
    const std::string golden = SourcePath(absl::StrCat("tests/golden/formats/", name, ".pt"));
    const auto tensors = TensorsOf(golden);
    const std::string ours = dir / "ours.pt";
    ASSERT_TRUE(Write(ours, tensors).ok());
    EXPECT_TRUE(Member(ours, "data.pkl") == Member(golden, "data.pkl")) << name;
    EXPECT_EQ(Member(ours, "version"), Member(golden, "version"));
    EXPECT_EQ(Member(ours, "byteorder"), "little");
    for (size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(Member(ours, absl::StrCat("data/", i)), Member(golden, absl::StrCat("data/", i)));
    }
    EXPECT_EQ(TensorsOf(ours).size(), tensors.size());
  }
}

// Byte for byte what PyTorch 1.13.1 writes, but for the folder's name and the note on byte order.
TEST(TorchWriterTest, MembersLieAsPyTorchLaysThem) {
  TempDir dir;
  const std::string golden = SourcePath("tests/golden/formats/state_dict_of_one.pt");
  ASSERT_TRUE(Write(dir / "ours.pt", TensorsOf(golden)).ok());
  const std::string theirs = ReadBytes(golden);
  const std::string ours = ReadBytes(dir / "ours.pt");
  // The first header: all but the lengths of name and padding.
  EXPECT_EQ(ours.substr(0, 26), theirs.substr(0, 26));
  const auto archive = ZipArchive::Open(dir / "ours.pt");
  for (const ZipMember& member : archive->members()) {
    EXPECT_EQ(member.data_offset % 64, 0u) << member.name;
    EXPECT_EQ(ours.substr(member.data_offset + member.bytes, 4), "PK\x07\x08");
    EXPECT_EQ(member.name.substr(0, 8), "archive/");
    EXPECT_FALSE(member.deflated);
  }
  EXPECT_EQ(archive->members().front().name, "archive/data.pkl");
  EXPECT_EQ(archive->members().back().name, "archive/version");
  // The end records: all but counts, sizes and offsets.
  const auto end = [](const std::string& bytes) { return bytes.substr(bytes.size() - 98); };
  EXPECT_EQ(end(ours).substr(0, 24), end(theirs).substr(0, 24));
  EXPECT_EQ(end(ours).substr(56, 8), end(theirs).substr(56, 8));
  EXPECT_EQ(end(ours).substr(72, 12), end(theirs).substr(72, 12));
}

TEST(TorchWriterTest, WhatIsWrittenReadsBackInAllDtypesAndShapes) {
  TempDir dir;
  std::vector<std::pair<Spec, std::string>> tensors = {
      {{"scalar", DType::kF32, {}}, "1234"},
      {{"empty", DType::kF32, {0, 7}}, ""},
      {{"also empty", DType::kI64, {7, 0, 3}}, ""},
      {{"W.\u00e9 \"\n", DType::kBF16, {3, 1, 2}}, "abcdefghijkl"},
      {{"five", DType::kU8, {1, 1, 2, 1, 2}}, "abcd"},
      {{"bool", DType::kBool, {2}}, std::string("\0\1", 2)},
      {{"f64", DType::kF64, {1}}, "12345678"},
      {{"f16", DType::kF16, {1}}, "12"},
      {{"i64", DType::kI64, {1}}, "12345678"},
      {{"i32", DType::kI32, {1}}, "1234"},
      {{"i16", DType::kI16, {1}}, "12"},
      {{"i8", DType::kI8, {1}}, "1"},
      {{"", DType::kF32, {70000}}, std::string(280000, 'x')},
      {{"last empty", DType::kF32, {0}}, ""},
  };
  ASSERT_TRUE(Write(dir / "a.pt", tensors).ok());
  const auto read = TensorsOf(dir / "a.pt");
  ASSERT_EQ(read.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(read[i].first.name, tensors[i].first.name);
    EXPECT_EQ(read[i].first.dtype, tensors[i].first.dtype);
    EXPECT_EQ(read[i].first.shape, tensors[i].first.shape);
    EXPECT_TRUE(read[i].second == tensors[i].second) << tensors[i].first.name;
  }
  // The same tensors give the same bytes, whatever the file's name.
  ASSERT_TRUE(Write(dir / "other.pt", tensors).ok());
  EXPECT_TRUE(ReadBytes(dir / "a.pt") == ReadBytes(dir / "other.pt"));
}

TEST(TorchWriterTest, ThousandsOfTensorsReadBack) {
  TempDir dir;
  std::vector<std::pair<Spec, std::string>> tensors;
  for (int i = 0; i < 2001; ++i) {
    tensors.push_back(
        {{absl::StrCat("t", i), DType::kI32, {1}}, std::string(4, static_cast<char>(i))});
  }
  ASSERT_TRUE(Write(dir / "a.pt", tensors).ok());
  const auto read = TensorsOf(dir / "a.pt");
  ASSERT_EQ(read.size(), tensors.size());
  EXPECT_EQ(read[2000].first.name, "t2000");
  EXPECT_EQ(read[2000].second, tensors[2000].second);
}

TEST(TorchWriterTest, BytesOutOfOrderTooManyOrTooFewAreRefused) {
  TempDir dir;
  const std::vector<Spec> specs = {{"a", DType::kF32, {1}}, {"b", DType::kF32, {1}}};
  auto writer = TorchStateDictWriter::Create(dir / "a.pt", specs);
  ASSERT_TRUE(writer.ok());
  EXPECT_THAT(std::string(writer->Append("b", std::string("1234")).message()),
              HasSubstr("when \"a\" was due"));
  EXPECT_THAT(std::string(writer->Append("a", std::string("12345")).message()),
              HasSubstr("got 5 bytes, it has 4"));
  EXPECT_TRUE(writer->Append("a", std::string("12")).ok());
  EXPECT_EQ(writer->Append("a", std::string("345")).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(writer->Finish().message()), HasSubstr("\"a\" is incomplete: 2 of 4"));
  writer = absl::CancelledError();
  EXPECT_FALSE(FileExists(dir / "a.pt"));
  EXPECT_FALSE(FileExists(dir / "a.pt.tmp"));

  writer = TorchStateDictWriter::Create(dir / "a.pt", specs);
  EXPECT_TRUE(writer->Append("a", std::string("1234")).ok());
  EXPECT_TRUE(writer->Append("b", std::string("1234")).ok());
  EXPECT_THAT(std::string(writer->Append("b", std::string("1")).message()),
              HasSubstr("no tensor was due"));
  EXPECT_TRUE(writer->Finish().ok());
  EXPECT_TRUE(FileExists(dir / "a.pt"));
}

TEST(TorchWriterTest, BadNamesAndShapesAreRefused) {
  TempDir dir;
  const auto error = [&](const std::vector<Spec>& specs) {
    return std::string(TorchStateDictWriter::Create(dir / "a.pt", specs).status().message());
  };
  EXPECT_THAT(error({{"a", DType::kF32, {}}, {"a", DType::kF32, {}}}), HasSubstr("given twice"));
  EXPECT_THAT(error({{"\xff", DType::kF32, {}}}), HasSubstr("no UTF-8"));
  EXPECT_THAT(error({{std::string(513, 'a'), DType::kF32, {}}}), HasSubstr("too long"));
  EXPECT_THAT(error({{"a", DType::kF32, {-1}}}), HasSubstr("bad shape"));
  EXPECT_THAT(error({{"a", DType::kF32, {INT64_MAX, 2}}}), HasSubstr("63 bits"));
  EXPECT_THAT(error({{"a", DType::kU8, {INT64_MAX}}}), HasSubstr("too large"));
  EXPECT_EQ(TorchStateDictWriter::Create(dir / "no/a.pt", {}).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace featurescope
