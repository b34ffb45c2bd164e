#include "server/formats/npz.h"

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/formats/npy_header.h"
#include "tests/formats/test_files.h"
#include "tests/formats/zip_bytes.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Npy(const std::string& header, const std::string& elements, int version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes.push_back(static_cast<char>(version));
  bytes.push_back('\0');
  if (version == 1) {
    AppendLe(&bytes, static_cast<uint16_t>(header.size()));
  } else {
    AppendLe(&bytes, static_cast<uint32_t>(header.size()));
  }
  return bytes + header + elements;
}

std::string Header(const std::string& descr, const std::string& shape,
                   const std::string& order = "False") {
  return absl::StrCat("{'descr': '", descr, "', 'fortran_order': ", order, ", 'shape': ", shape,
                      ", }   \n");
}

template <typename T>
std::vector<T> Values(const NpzFile& file, absl::string_view name) {
  const NpzArray* array = file.Find(name);
  if (array == nullptr) return {};
  std::vector<T> values(array->bytes / sizeof(T));
  const absl::Status status =
      file.Read(*array, absl::MakeSpan(reinterpret_cast<char*>(values.data()), array->bytes));
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

class NpzTest : public testing::Test {
 protected:
  absl::StatusOr<NpzFile> Open(const std::string& bytes) {
    return NpzFile::Open(WriteBytes(dir_ / "a.npz", bytes));
  }
  // Of an archive with the one array x.npy.
  std::string Error(const std::string& npy, bool deflate = false) {
    const auto file = Open(ZipBytes({{"x.npy", npy, deflate}}));
    return file.ok() ? "it opens" : std::string(file.status().message());
  }

  TempDir dir_;
};

// Written by numpy 1.24.2: np.savez(..., c=np.arange(12, dtype="<f4").reshape(3, 4), ...).
TEST_F(NpzTest, WhatNumpyWritesIsReadStoredAndCompressed) {
  for (const char* name : {"arrays.npz", "arrays_compressed.npz"}) {
    const auto file = NpzFile::Open(SourcePath(absl::StrCat("tests/golden/formats/", name)));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->arrays().size(), 15u);
    EXPECT_EQ(file->arrays()[0].name, "c");
    EXPECT_THAT(file->Find("c")->shape, ElementsAre(3, 4));
    EXPECT_FALSE(file->Find("c")->fortran_order);
    EXPECT_THAT(Values<float>(*file, "c"), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
    EXPECT_TRUE(file->Find("fortran")->fortran_order);
    EXPECT_THAT(Values<float>(*file, "fortran"), ElementsAre(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    EXPECT_THAT(file->Find("scalar")->shape, IsEmpty());
    EXPECT_THAT(Values<double>(*file, "scalar"), ElementsAre(2.5));
    EXPECT_THAT(file->Find("empty")->shape, ElementsAre(0, 5));
    EXPECT_THAT(Values<float>(*file, "empty"), IsEmpty());
    EXPECT_THAT(Values<int64_t>(*file, "vector"), ElementsAre(0, 1, 2, 3, 4));
    EXPECT_THAT(Values<uint8_t>(*file, "bool"), ElementsAre(1, 0, 1));
    EXPECT_THAT(Values<uint16_t>(*file, "f2"),
                ElementsAre(0xC200, 0xC000, 0xBC00, 0, 0x3C00, 0x4000));
    EXPECT_THAT(Values<float>(*file, "f4"), ElementsAre(-3, -2, -1, 0, 1, 2));
    EXPECT_THAT(Values<double>(*file, "f8"), ElementsAre(-3, -2, -1, 0, 1, 2));
    EXPECT_THAT(Values<int8_t>(*file, "i1"), ElementsAre(-3, -2, -1, 0, 1, 2));
    EXPECT_THAT(Values<int16_t>(*file, "i2"), ElementsAre(-3, -2, -1, 0, 1, 2));
    EXPECT_THAT(Values<int32_t>(*file, "i4"), ElementsAre(-3, -2, -1, 0, 1, 2));
    EXPECT_THAT(Values<int64_t>(*file, "i8"), ElementsAre(-3, -2, -1, 0, 1, 2));
    EXPECT_THAT(Values<uint8_t>(*file, "u1"), ElementsAre(0, 1, 2, 3, 4, 5));
    EXPECT_EQ(file->Find("f2")->dtype, DType::kF16);
    EXPECT_EQ(file->Find("bool")->dtype, DType::kBool);
    EXPECT_EQ(file->Find("c.npy"), nullptr);
    EXPECT_THAT(std::string(file->Get("d").status().message()), HasSubstr("no array \"d\""));
    EXPECT_TRUE(NpzFile::LooksLikeNpz(file->path()));
  }
  EXPECT_FALSE(NpzFile::LooksLikeNpz(SourcePath("tests/golden/formats/checkpoint.pt")));
  EXPECT_FALSE(NpzFile::LooksLikeNpz(SourcePath("README.md")));
}

TEST_F(NpzTest, GemmaScopeFilesOpen) {
  for (const char* name : {"gemma_scope", "gemma_scope_compressed"}) {
    const auto file = NpzFile::Open(
        SourcePath(absl::StrCat("tests/golden/sae/gemma_scope/", name, "/params.npz")));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_THAT(file->Get("W_enc").value()->shape, ElementsAre(32, 96));
    EXPECT_THAT(file->Get("W_dec").value()->shape, ElementsAre(96, 32));
    EXPECT_THAT(file->Get("threshold").value()->shape, ElementsAre(96));
    EXPECT_EQ(Values<float>(*file, "b_enc").size(), 96u);
  }
}

TEST_F(NpzTest, AllHeaderVersionsAndSpellingsAreRead) {
  const std::string ab = "abcdefgh";
  const std::vector<std::string> headers = {
      Header("<f4", "(2,)"),
      Header("<f4", "(2L,)"),
      "{'shape': (2,), 'fortran_order': False, 'descr': '<f4'}",
      "{\"descr\": \"<f4\", \"fortran_order\": True, \"shape\": (2,)}\n",
      "{'descr':'<f4','fortran_order':False,'shape':( 2 , )}",
      Header("<f4", "(1, 2)"),
      Header("<f4", "(1, 2,)"),
  };
  for (int version : {1, 2, 3}) {
    for (const std::string& header : headers) {
      const auto file = Open(ZipBytes({{"x.npy", Npy(header, ab, version)}}));
      ASSERT_TRUE(file.ok()) << header << ": " << file.status();
      EXPECT_EQ(file->arrays()[0].n_elements, 2u);
      EXPECT_EQ(Values<float>(*file, "x").size(), 2u);
    }
  }
}

TEST_F(NpzTest, PiecesAreWholeElementsWhereverTheHeaderEnds) {
  std::vector<int64_t> numbers(140000);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int64_t>(i * 7919);
  const std::string elements(reinterpret_cast<const char*>(numbers.data()), numbers.size() * 8);
  for (int blanks = 0; blanks < 8; ++blanks) {
    const std::string npy =
        Npy(Header("<i8", "(140000,)") + std::string(static_cast<size_t>(blanks), ' '), elements);
    const auto file = Open(ZipBytes({{"x.npy", npy, blanks % 2 == 1}}));
    ASSERT_TRUE(file.ok()) << file.status();
    std::string read;
    ASSERT_TRUE(file->Stream(file->arrays()[0],
                             [&](absl::Span<const char> piece) {
                               EXPECT_EQ(piece.size() % 8, 0u);
                               read.append(piece.data(), piece.size());
                               return absl::OkStatus();
                             })
                    .ok());
    EXPECT_TRUE(read == elements) << blanks;
  }
}

TEST_F(NpzTest, TypesThatAreNoPlainLittleEndianNumbersAreRefused) {
  const auto error = [&](const std::string& descr) {
    return Error(Npy(Header(descr, "(1,)"), "12345678"));
  };
  EXPECT_THAT(error("|O"), HasSubstr("object array"));
  EXPECT_THAT(error(">f4"), HasSubstr("big-endian"));
  for (const char* descr : {"<U2", "|S8", "<c8", "<u4", "|V2", "f4", "<M8[ns]", "=f8", ""}) {
    EXPECT_THAT(error(descr), HasSubstr("is not supported")) << descr;
  }
  EXPECT_THAT(
      Error(Npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234")),
      HasSubstr("structured"));
}

TEST_F(NpzTest, TheHeaderIsNeverEvaluated) {
  const std::vector<std::string> headers = {
      "",
      "{",
      "{}",
      "[]",
      "{'descr': '<f4', 'fortran_order': False}",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': 1}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1e0,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (0x1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + x",
      "{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (1,)}",
      "{'descr: '<f4', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)}",
  };
  for (const std::string& header : headers) {
    EXPECT_THAT(Error(Npy(header, "1234")), HasSubstr("bad .npy header")) << header;
  }
}

TEST_F(NpzTest, ShapesMustMatchTheBytesExactly) {
  EXPECT_THAT(Error(Npy(Header("<f4", "(2,)"), "1234567")), HasSubstr("needs 8 bytes"));
  EXPECT_THAT(Error(Npy(Header("<f4", "(2,)"), "123456789")), HasSubstr("needs 8 bytes"));
  EXPECT_THAT(Error(Npy(Header("<f4", "()"), "")), HasSubstr("needs 4 bytes"));
  // Products that wrap around, also behind a zero.
  EXPECT_THAT(Error(Npy(Header("<f4", "(4611686018427387904, 4)"), "")), HasSubstr("63 bits"));
  EXPECT_THAT(Error(Npy(Header("<f4", "(0, 4611686018427387904, 4)"), "")), HasSubstr("63 bits"));
  EXPECT_THAT(Error(Npy(Header("<f4", "(1000000000000,)"), "1234")), HasSubstr("needs 4000000"));
}

TEST_F(NpzTest, HeadersLongerThanTheMemberOrTheLimitAreRefused) {
  std::string npy = Npy(Header("<f4", "(1,)"), "1234");
  EXPECT_THAT(Error(Patched(npy, 8, uint16_t{60000})), HasSubstr("header of 60000 bytes"));
  // 4 GB asked for by twelve bytes.
  npy = Npy(Header("<f4", "(1,)"), "1234", 2);
  EXPECT_THAT(Error(Patched(npy, 8, uint32_t{0xFFFFFFFF})), HasSubstr("header of 4294967295"));
  EXPECT_THAT(Error(Npy(std::string(kMaxNpyHeaderBytes + 1, ' '), "", 2)),
              HasSubstr("at most 65536"));
  EXPECT_THAT(Error(Npy(Header("<f4", "(1,)"), "1234", 4)), HasSubstr("version 4"));
  EXPECT_THAT(Error(Npy(Header("<f4", "(1,)"), "1234", 0)), HasSubstr("version 0"));
}

TEST_F(NpzTest, MembersThatAreNoArraysAreRefused) {
  EXPECT_THAT(Error("\x80\x04N."), HasSubstr("pickled objects are not supported"));
  EXPECT_THAT(Error(""), HasSubstr("is no .npy array"));
  EXPECT_THAT(Error("\x93NUMPY"), HasSubstr("is no .npy array"));
  const std::string npy = Npy(Header("<f4", "(1,)"), "1234");
  const auto other = Open(ZipBytes({{"x.npy", npy}, {"notes.txt", npy}}));
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("notes.txt"));
  EXPECT_FALSE(Open(ZipBytes({{".npy", npy}})).ok());
}

TEST_F(NpzTest, DamagedElementsAreNoticedWhenTheyAreRead) {
  const std::string npy = Npy(Header("<f4", "(2,)"), "12345678");
  const std::string bytes = ZipBytes({{"x.npy", npy}});
  const auto file = Open(Patched(bytes, bytes.find("12345678"), 'x'));
  ASSERT_TRUE(file.ok());
  char out[8];
  EXPECT_THAT(std::string(file->Read(file->arrays()[0], absl::MakeSpan(out)).message()),
              HasSubstr("check sum"));
  EXPECT_EQ(file->Read(file->arrays()[0], absl::MakeSpan(out, 7)).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace featurescope
