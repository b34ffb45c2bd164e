#include "server/formats/compressed_file.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/compressed_bytes.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// Compressible, and without a short period.
std::string SomeText(size_t bytes) {
  std::mt19937 random(7);
  std::string text;
  while (text.size() < bytes) {
    for (size_t i = 2 + random() % 8; i > 0; --i) {
      text.push_back(static_cast<char>('a' + random() % 7));
    }
    text.push_back(random() % 12 == 0 ? '\n' : ' ');
  }
  text.resize(bytes);
  return text;
}

absl::StatusOr<std::string> ReadAll(CompressedFile* file, size_t piece = 100000) {
  std::string text;
  std::string buffer(piece, '\0');
  while (true) {
    absl::StatusOr<size_t> n = file->Read(absl::MakeSpan(&buffer[0], buffer.size()));
    if (!n.ok()) return n.status();
    if (*n == 0) return text;
    text.append(buffer, 0, *n);
  }
}

class CompressedFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Read(const std::string& bytes,
                                   const CompressedFileOptions& options = {}) {
    auto file = CompressedFile::Open(WriteBytes(dir_ / "f", bytes), options);
    if (!file.ok()) return file.status();
    compression_ = file->compression();
    return ReadAll(&*file);
  }
  std::string Error(const std::string& bytes, absl::StatusCode code) {
    const absl::Status status = Read(bytes).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "f: at byte "));
    return std::string(status.message());
  }

  TempDir dir_;
  Compression compression_ = Compression::kNone;
};

TEST_F(CompressedFileTest, TheContentSaysWhatItIs) {
  const std::string text = SomeText(700000);
  EXPECT_EQ(*Read(text), text);
  EXPECT_EQ(compression_, Compression::kNone);
  EXPECT_EQ(*Read(Gzip(text)), text);
  EXPECT_EQ(compression_, Compression::kGzip);
  EXPECT_EQ(*Read(Zstd(text)), text);
  EXPECT_EQ(compression_, Compression::kZstd);
  for (const std::string& small : {"", "a", "\x1f", "\x28\xb5\x2f"}) {
    EXPECT_EQ(*Read(small), small);
    EXPECT_EQ(compression_, Compression::kNone);
    EXPECT_EQ(*Read(Gzip(small)), small);
    EXPECT_EQ(*Read(Zstd(small)), small);
  }
  EXPECT_EQ(CompressedFile::Open(dir_ / "missing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(CompressedFile::Open(dir_.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CompressedFileTest, MembersAndFramesFollowEachOther) {
  const std::string text = SomeText(300000);
  std::string gzip;
  std::string zstd;
  for (size_t begin = 0, size = 0; begin < text.size(); begin += size, size += 997) {
    const std::string piece = text.substr(begin, size);  // the first one is empty
    gzip += Gzip(piece);
    zstd += Zstd(piece) + std::string("\x53\x2a\x4d\x18\3\0\0\0xyz", 11);  // a skippable frame
  }
  EXPECT_EQ(*Read(gzip), text);
  EXPECT_EQ(*Read(zstd), text);
  EXPECT_EQ(*Read(std::string("\x50\x2a\x4d\x18\0\0\0\0", 8) + Zstd("ab")), "ab");
}

TEST_F(CompressedFileTest, GzipMayBePaddedWithZeros) {
  EXPECT_EQ(*Read(Gzip("ab") + std::string(1000000, '\0')), "ab");
  EXPECT_EQ(*Read(Gzip("ab") + std::string(5, '\0') + Gzip("cd") + std::string(1, '\0')), "abcd");
}

TEST_F(CompressedFileTest, ReadingInSmallPiecesGivesTheSame) {
  const std::string text = SomeText(20000);
  for (const std::string& bytes : {text, Gzip(text) + Gzip(text), Zstd(text) + Zstd(text)}) {
    auto file = CompressedFile::Open(WriteBytes(dir_ / "f", bytes));
    ASSERT_TRUE(file.ok());
    uint64_t last = 0;
    std::string all;
    for (char c; *file->Read(absl::MakeSpan(&c, 1)) == 1;) {
      all.push_back(c);
      ASSERT_GE(file->file_bytes_read(), last);
      last = file->file_bytes_read();
      ASSERT_EQ(file->bytes_read(), all.size());
    }
    EXPECT_EQ(all, bytes == text ? text : text + text);
    EXPECT_EQ(file->file_bytes_read(), bytes.size());
    EXPECT_EQ(file->file_bytes(), bytes.size());
    char c;
    EXPECT_EQ(*file->Read(absl::MakeSpan(&c, 1)), 0u);
  }
}

TEST_F(CompressedFileTest, EveryTruncationIsFound) {
  const std::string text = SomeText(3000);
  for (const std::string& bytes : {Gzip("") + Gzip(text), Zstd("") + Zstd(text)}) {
    const size_t first = bytes.size() - (bytes[0] == '\x1f' ? Gzip(text) : Zstd(text)).size();
    for (size_t size = 4; size < bytes.size(); ++size) {
      if (size == first) continue;
      const std::string message = Error(bytes.substr(0, size), absl::StatusCode::kDataLoss);
      EXPECT_THAT(message, AnyOf(HasSubstr("ends in the middle"), HasSubstr("follows"))) << size;
      EXPECT_THAT(message, HasSubstr("at byte ")) << size;
    }
  }
  // The offset is the file's.
  const std::string gzip = Gzip(SomeText(3 << 20));
  EXPECT_THAT(Error(gzip.substr(0, gzip.size() - 1), absl::StatusCode::kDataLoss),
              HasSubstr(absl::StrCat("at byte ", gzip.size() - 1, ": the file ends")));
}

TEST_F(CompressedFileTest, DamageIsFound) {
  const std::string text = SomeText(3000);
  std::string gzip = Gzip(text);
  gzip[gzip.size() - 6] ^= 1;  // CRC
  EXPECT_THAT(Error(gzip, absl::StatusCode::kDataLoss), HasSubstr("incorrect data check"));
  gzip = Gzip(text);
  gzip[gzip.size() - 2] ^= 1;  // length
  EXPECT_THAT(Error(gzip, absl::StatusCode::kDataLoss), HasSubstr("incorrect length check"));
  std::string zstd = Zstd(text);
  zstd.back() ^= 1;  // checksum
  EXPECT_THAT(Error(zstd, absl::StatusCode::kDataLoss), HasSubstr("checksum"));
  EXPECT_THAT(Error(Gzip(text) + "more", absl::StatusCode::kDataLoss), HasSubstr("no gzip member"));
  EXPECT_THAT(Error(Zstd(text) + "more", absl::StatusCode::kDataLoss), HasSubstr("no zstd frame"));
  EXPECT_THAT(Error(Zstd(text) + "m", absl::StatusCode::kDataLoss), HasSubstr("no zstd frame"));
  // Old formats of zstd are not read behind a new frame either.
  EXPECT_THAT(Error(Zstd(text) + "\x27\xb5\x2f\xfd....", absl::StatusCode::kDataLoss),
              HasSubstr("no zstd frame"));
}

TEST_F(CompressedFileTest, NothingExpandsWithoutEnd) {
  const std::string zeros(2 << 20, '\0');
  std::string gzip;
  std::string zstd;
  for (int i = 0; i < 40; ++i) {
    gzip += Gzip(zeros);
    zstd += Zstd(zeros);
  }
  for (const std::string& bomb : {gzip, zstd}) {
    const absl::Status status = Read(bomb).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("over 250 times"));
  }
  EXPECT_EQ(Read(gzip.substr(0, gzip.size() / 2))->size(), 40u << 20);  // few bytes may
  CompressedFileOptions options;
  options.max_ratio = 1e9;
  EXPECT_EQ(Read(zstd, options)->size(), 80u << 20);
}

TEST_F(CompressedFileTest, WindowsThatNeedMuchMemoryAreRefused) {
  // A frame header: a window of 2^31 bytes, no content size, no dictionary; an empty last block.
  EXPECT_THAT(Error(std::string("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9),
                    absl::StatusCode::kInvalidArgument),
              HasSubstr("window"));
  // The same with a window of 2^17, and one with a dictionary's id.
  EXPECT_EQ(*Read(std::string("\x28\xb5\x2f\xfd\x00\x38\x01\x00\x00", 9)), "");
  EXPECT_THAT(Error(std::string("\x28\xb5\x2f\xfd\x01\x38\x07\x01\x00\x00", 10),
                    absl::StatusCode::kInvalidArgument),
              HasSubstr("dictionary"));
}

}  // namespace
}  // namespace featurescope
