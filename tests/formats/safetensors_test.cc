#include "server/formats/safetensors.h"

#include <cstring>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string RandomBytes(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(n, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

absl::Status OpenBytes(absl::string_view bytes) {
  TempDir dir;
  return SafetensorsFile::Open(WriteBytes(dir / "w.safetensors", bytes)).status();
}

std::string ReadAll(const SafetensorsFile& file, absl::string_view name) {
  const TensorEntry* entry = file.Find(name);
  if (entry == nullptr) return "no such tensor";
  std::string bytes(entry->bytes(), '\0');
  const absl::Status status = file.Read(*entry, absl::MakeSpan(&bytes[0], bytes.size()));
  return status.ok() ? bytes : status.ToString();
}

TEST(SafetensorsTest, ReadsTensorsMetadataAndParts) {
  TempDir dir;
  const std::string path =
      WriteBytes(dir / "w.safetensors",
                 SafetensorsBytes(R"({"__metadata__":{"format":"pt"},)"
                                  R"("b":{"dtype":"I16","shape":[3],"data_offsets":[8,14]},)"
                                  R"("a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                                  R"("c":{"dtype":"U8","shape":[],"data_offsets":[14,15]}}   )",
                                  "abcdefghijklmno"));
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->entries().size(), 3u);
  EXPECT_EQ(file->entries()[0].name, "a");
  EXPECT_EQ(file->Find("b")->dtype, DType::kI16);
  EXPECT_THAT(file->Find("a")->shape, ElementsAre(1, 2));
  EXPECT_EQ(file->Find("a")->n_elements(), 2);
  EXPECT_EQ(file->Find("c")->n_elements(), 1);
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(ReadAll(*file, "b"), "ijklmn");
  char part[2];
  ASSERT_TRUE(file->Read(*file->Find("b"), absl::MakeSpan(part), 4).ok());
  EXPECT_EQ(std::string(part, 2), "mn");
  EXPECT_EQ(file->Read(*file->Find("b"), absl::MakeSpan(part), 5).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(file->Read(*file->Find("b"), absl::MakeSpan(part), UINT64_MAX).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(file->Find("d"), nullptr);
  EXPECT_THAT(std::string(file->Get("d").status().message()), HasSubstr("\"d\""));
}

TEST(SafetensorsTest, WhatIsWrittenReadsBackBitForBit) {
  TempDir dir;
  const std::vector<SafetensorsWriter::Spec> specs = {{"W_enc", DType::kF32, {7, 13}},
                                                      {"empty", DType::kF32, {0, 5}},
                                                      {"half", DType::kBF16, {3, 1, 2}},
                                                      {"scalar", DType::kF64, {}},
                                                      {"quote \"\\\n\u00e9", DType::kI64, {2}},
                                                      {"bool", DType::kBool, {5}},
                                                      {"i8", DType::kI8, {1}},
                                                      {"f16", DType::kF16, {4}},
                                                      {"i32", DType::kI32, {2, 2}},
                                                      {"last empty", DType::kU8, {0}}};
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"k", "v\"\n"}};
  absl::StatusOr<SafetensorsWriter> writer =
      SafetensorsWriter::Create(dir / "w.safetensors", specs, metadata);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::string> contents;
  for (uint32_t i = 0; i < specs.size(); ++i) {
    size_t bytes = static_cast<size_t>(DTypeSize(specs[i].dtype));
    for (int64_t dim : specs[i].shape) bytes *= static_cast<size_t>(dim);
    contents.push_back(RandomBytes(bytes, i));
    for (size_t at = 0; at < bytes; at += 5) {  // in pieces
      const std::string piece = contents.back().substr(at, 5);
      ASSERT_TRUE(writer->Append(specs[i].name, absl::MakeConstSpan(piece)).ok());
    }
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "w.safetensors"));
  ASSERT_TRUE(writer->Finish().ok());

  const std::string bytes = ReadBytes(dir / "w.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(dir / "w.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata(), metadata);
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorEntry* entry = file->Find(specs[i].name);
    ASSERT_NE(entry, nullptr) << specs[i].name;
    EXPECT_EQ(entry->dtype, specs[i].dtype);
    EXPECT_EQ(entry->shape, specs[i].shape);
    EXPECT_EQ(ReadAll(*file, specs[i].name), contents[i]);
  }
}

TEST(SafetensorsTest, AFileWithoutTensorsIsAFile) {
  TempDir dir;
  absl::StatusOr<SafetensorsWriter> writer = SafetensorsWriter::Create(dir / "w", {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->Finish().ok());
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(dir / "w");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->entries().empty());
}

TEST(SafetensorsTest, TheWriterRefusesWhatDoesNotFitTheSpecs) {
  TempDir dir;
  const auto create = [&](std::vector<SafetensorsWriter::Spec> specs) {
    return SafetensorsWriter::Create(dir / "w", std::move(specs)).status().code();
  };
  EXPECT_EQ(create({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({{"a", DType::kF32, {-1}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({{"a", DType::kF32, {INT64_MAX, 0, 2}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({{"a\xff", DType::kF32, {1}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({{std::string(513, 'x'), DType::kF32, {1}}}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({{"__metadata__", DType::kF32, {1}}}), absl::StatusCode::kInvalidArgument);

  SafetensorsWriter writer =
      *SafetensorsWriter::Create(dir / "w", {{"a", DType::kU8, {2}}, {"b", DType::kU8, {2}}});
  const std::string three = "xyz";
  const auto bytes = absl::MakeConstSpan(three);
  EXPECT_FALSE(writer.Append("b", bytes.subspan(0, 1)).ok());
  EXPECT_FALSE(writer.Append("a", bytes).ok());
  EXPECT_TRUE(writer.Append("a", bytes.subspan(0, 1)).ok());
  EXPECT_FALSE(writer.Append("a", bytes.subspan(0, 2)).ok());
  EXPECT_THAT(std::string(writer.Finish().message()), HasSubstr("\"a\" is incomplete: 1 of 2"));
  EXPECT_FALSE(std::filesystem::exists(dir / "w"));
}

TEST(SafetensorsTest, EveryTruncationAndEveryTailIsRefused) {
  const std::string bytes =
      SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
                       "abcdefghijk");
  ASSERT_TRUE(OpenBytes(bytes).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(OpenBytes(bytes.substr(0, size)).code(), absl::StatusCode::kInvalidArgument) << size;
  }
  EXPECT_EQ(OpenBytes(bytes + "x").code(), absl::StatusCode::kInvalidArgument);
}

struct Hostile {
  const char* what;
  std::string header;
  size_t data_bytes;
  const char* message;
};

TEST(SafetensorsTest, HostileHeadersAreRefusedSayingWhy) {
  const std::vector<Hostile> all = {
      {"duplicate name",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "occurs twice"},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlap"},
      {"hole",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "hole"},
      {"begins late", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "hole"},
      {"trailing data", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2, "trailing"},
      {"zero-size tensor out of the data",
       R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}})", 0, "do not lie"},
      {"zero-size tensor inside another",
       R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
       4, "overlap"},
      {"zero-size tensor with bytes", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,4]}})", 4,
       "needs 0 bytes"},
      {"offsets turned round", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1,
       "do not lie"},
      {"ends behind the file", R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 1,
       "do not lie"},
      {"more bytes than the shape", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8,
       "needs 4 bytes"},
      {"shape overflows to 0",
       R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0,
       "63 bits"},
      {"shape overflows behind a zero",
       R"({"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}})", 0,
       "63 bits"},
      {"dimension of 64 bits",
       R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,0]}})", 0, "63 bits"},
      {"dimension beyond 64 bits",
       R"({"a":{"dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1]}})", 1,
       "integer >= 0"},
      {"negative dimension", R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}})", 0,
       "integer >= 0"},
      {"fraction as dimension", R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1,
       "integer >= 0"},
      {"exponent as dimension", R"({"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}})", 1,
       "integer >= 0"},
      {"string as dimension", R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", 1,
       "integer >= 0"},
      {"fraction as offset", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0.0,1]}})", 1,
       "integer >= 0"},
      {"three offsets", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})", 1,
       "[begin, end]"},
      {"unknown dtype", R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1,
       "F8_E4M3"},
      {"dtype is a number", R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype"},
      {"no dtype", R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, "must have"},
      {"unknown field", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1,
       "nothing else"},
      {"tensor is no object", R"({"a":[1]})", 0, "must be an object"},
      {"tensor is null", R"({"a":null})", 0, "must be an object"},
      {"metadata is no object", R"({"__metadata__":[]})", 0, "must be an object"},
      {"metadata value is no string", R"({"__metadata__":{"a":1}})", 0, "must be a string"},
      {"too many dimensions",
       R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
       1, "17 dimensions"},
      {"nested too deep", R"({"a":{"dtype":"U8","shape":[[[[1]]]],"data_offsets":[0,1]}})", 1,
       "deeper"},
      {"begins with a space", R"( {"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
       "begin with '{'"},
      {"an array", "[]", 0, "begin with '{'"},
      {"empty header", "", 0, "begin with '{'"},
      {"rubbish behind", R"({} {})", 0, "bad JSON"},
      {"a comma too many", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},})", 1,
       "bad JSON"},
      {"invalid UTF-8", "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
       "bad JSON"},
      {"name too long",
       absl::StrCat("{\"", std::string(513, 'n'),
                    R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})"),
       1, "513 bytes"},
  };
  for (const Hostile& hostile : all) {
    const absl::Status status =
        OpenBytes(SafetensorsBytes(hostile.header, std::string(hostile.data_bytes, 'x')));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << hostile.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(hostile.message)) << hostile.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr("w.safetensors")) << hostile.what;
  }
}

TEST(SafetensorsTest, LyingHeaderLengthsAreRefusedWithoutAllocating) {
  for (uint64_t length : {uint64_t{3}, uint64_t{16} << 20, (uint64_t{16} << 20) + 1, UINT64_MAX - 7,
                          UINT64_MAX, uint64_t{1} << 63}) {
    std::string bytes(8, '\0');
    std::memcpy(&bytes[0], &length, 8);
    EXPECT_EQ(OpenBytes(bytes + "{}").code(), absl::StatusCode::kInvalidArgument) << length;
  }
}

TEST(SafetensorsTest, TooManyTensorsAreRefused) {
  std::string header = "{";
  for (int i = 0; i < 65538; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i,
                    R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  EXPECT_THAT(std::string(OpenBytes(SafetensorsBytes(header + "}", "")).message()),
              HasSubstr("at most 65536"));
}

TEST(SafetensorsTest, AFileShortenedWhileOpenGivesDataLoss) {
  TempDir dir;
  const std::string path = WriteBytes(
      dir / "w",
      SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", "abcdefgh"));
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 3);
  char bytes[8];
  EXPECT_EQ(file->Read(*file->Find("a"), absl::MakeSpan(bytes)).code(),
            absl::StatusCode::kDataLoss);
}

TEST(SafetensorsTest, RandomDamageNeverOpensAsAnInconsistentFile) {
  const std::string bytes =
      SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
                       "abcdefghijk");
  TempDir dir;
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = bytes;
    for (int i = 0; i < 1 + round % 3; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random() % 128);
    }
    absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(WriteBytes(dir / "w", damaged));
    if (!file.ok()) continue;
    for (const TensorEntry& entry : file->entries()) {
      int64_t elements = 1;
      for (int64_t dim : entry.shape) elements *= dim;
      ASSERT_EQ(elements, entry.n_elements());
      ASSERT_EQ(ReadAll(*file, entry.name).size(), entry.bytes());
    }
  }
}

}  // namespace
}  // namespace featurescope
