#include "server/formats/raw_memmap.h"

#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

class RawMemmapTest : public testing::Test {
 protected:
  std::string Error(const std::string& bytes, DType dtype, int64_t d_in) {
    const auto file = RawMemmap::Open(WriteBytes(dir_ / "x.bin", bytes), dtype, d_in);
    return file.ok() ? "it opens" : std::string(file.status().message());
  }

  TempDir dir_;
};

TEST_F(RawMemmapTest, RowsAreReadFromAnyPlace) {
  std::string bytes(5 * 3 * 2, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    const auto file = RawMemmap::Open(WriteBytes(dir_ / "x.bin", bytes), dtype, 3);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->n_rows(), 5);
    EXPECT_EQ(file->d_in(), 3);
    EXPECT_EQ(file->row_bytes(), 6u);
    EXPECT_EQ(file->dtype(), dtype);
    std::string rows(12, '\0');
    ASSERT_TRUE(file->ReadRows(3, 2, absl::MakeSpan(&rows[0], rows.size())).ok());
    EXPECT_EQ(rows, bytes.substr(18));
    EXPECT_TRUE(file->ReadRows(5, 0, {}).ok());
  }
  const auto wide =
      RawMemmap::Open(WriteBytes(dir_ / "y.bin", std::string(24, '\0')), DType::kF32, 2);
  EXPECT_EQ(wide->n_rows(), 3);
}

TEST_F(RawMemmapTest, RowsThatDoNotExistAreOutOfRange) {
  const auto file =
      RawMemmap::Open(WriteBytes(dir_ / "x.bin", std::string(24, '\0')), DType::kF16, 3);
  std::string out(6, '\0');
  const auto code = [&](int64_t begin, int64_t n) {
    return file->ReadRows(begin, n, absl::MakeSpan(&out[0], out.size())).code();
  };
  EXPECT_EQ(code(3, 1), absl::StatusCode::kOk);
  EXPECT_EQ(code(4, 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(-1, 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(0, -1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(1, INT64_MAX), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(INT64_MAX, INT64_MAX), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(0, 2), absl::StatusCode::kInvalidArgument);  // no room
}

TEST_F(RawMemmapTest, SizesDtypesAndWidthsThatDoNotFitAreRefused) {
  EXPECT_THAT(Error(std::string(25, '\0'), DType::kF16, 3),
              HasSubstr("25 bytes are no whole number"));
  EXPECT_THAT(Error("", DType::kF16, 3), HasSubstr("0 bytes are no whole number"));
  EXPECT_THAT(Error(std::string(24, '\0'), DType::kF64, 3), HasSubstr("dtype F64"));
  EXPECT_THAT(Error(std::string(24, '\0'), DType::kI8, 3), HasSubstr("dtype I8"));
  for (int64_t d_in : {int64_t{0}, int64_t{-3}, kMaxRawMemmapWidth + 1, INT64_MAX}) {
    EXPECT_THAT(Error(std::string(24, '\0'), DType::kF32, d_in), HasSubstr("out of range [1, "));
  }
  EXPECT_EQ(RawMemmap::Open(dir_ / "none", DType::kF16, 3).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(RawMemmap::Open(dir_.path(), DType::kF16, 3).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(RawMemmapTest, FilesWithAHeaderAreNotTakenForNumbers) {
  EXPECT_THAT(Error("\x93NUMPY" + std::string(18, '\0'), DType::kF16, 3), HasSubstr(".npy file"));
  EXPECT_THAT(Error("PK\x03\x04" + std::string(20, '\0'), DType::kF16, 3),
              HasSubstr("zip archive"));
  const std::string legacy =
      ReadBytes(SourcePath("tests/golden/formats/views_legacy.pt")).substr(0, 24);
  EXPECT_THAT(Error(legacy, DType::kF16, 3), HasSubstr("torch.save file"));
}

TEST_F(RawMemmapTest, AFileShortenedMeanwhileIsDataLoss) {
  const auto file =
      RawMemmap::Open(WriteBytes(dir_ / "x.bin", std::string(24, '\0')), DType::kF16, 3);
  WriteBytes(dir_ / "x.bin", std::string(12, '\0'));
  std::string out(6, '\0');
  EXPECT_TRUE(file->ReadRows(1, 1, absl::MakeSpan(&out[0], out.size())).ok());
  EXPECT_EQ(file->ReadRows(3, 1, absl::MakeSpan(&out[0], out.size())).code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace featurescope
